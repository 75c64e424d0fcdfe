"""The command line of constitutions: `ratify constitution edit|lint|test|diff|show|new|import|export|schema`.

Nothing here asks a judge but `test`, and nothing overwrites a file unless told to. `lint`, `test` and `diff` end with
exit code 1 when they found something, so that CI stops there. Libraries are imported by the command that needs them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratify.errors import ConfigError, InputError

if TYPE_CHECKING:
    from constitutions.diff import Change
    from constitutions.lint_structure import Surroundings
    from flows.constitution_trials import Trial, TrialRecord, TrialResult
    from flows.stages.relabel import Bench
    from ratify.config import Config

SCHEMA_FILE = Path(__file__).resolve().parent.parent / "constitutions" / "constitution.schema.json"

constitution_app = typer.Typer(
    help="Write, check, compare and convert constitutions.", no_args_is_help=True, pretty_exceptions_enable=False
)

FilePath = Annotated[Path, typer.Argument(metavar="FILE", help="A constitution, such as constitutions/demo.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Out = Annotated[Path | None, typer.Option("--out", help="Write to this file instead of the terminal.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]


@constitution_app.command()
def edit(
    file: FilePath,
    *,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="A run's folder or name: shows what an edit does to its labels."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with this earlier version; otherwise with the file as it is opened.")
    ] = None,
    gold: Annotated[
        Path | None,
        typer.Option("--gold", help='With --run: JSON lines such as {"a_id": "…", "b_id": "…", "better": "a"}.'),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Edit a constitution on a local page that shows lint, version and what the edit would change as one types."""
    from constitutions.load import load_constitution, read_text
    from flows.editor.drafts import sound_or_none
    from flows.editor.edited_file import EditedFile
    from flows.editor.live_run import LiveRun
    from flows.editor.server import Editor, serve
    from flows.stages.relabel_apply import gold_of

    if gold and not run:
        raise ConfigError("--gold says which of a run's replies are better; give the run too, with --run RUN")
    edited = EditedFile(file)
    edited.read()
    if against:
        load_constitution(against)
    if run is None:
        serve(Editor(edited, None, against), port, browser=browser)
        return
    with _bench(run) as bench:
        live = LiveRun(bench, gold_of(bench, gold))
        compared_with = against or file
        live.start(sound_or_none(read_text(compared_with), compared_with))
        serve(Editor(edited, live, against), port, browser=browser)


def _bench(run: str) -> Bench:
    """A run's pairs. The run is not locked: nothing is written but kept columns, under a lock of their own."""
    from flows.find_run import run_folder
    from flows.stages.relabel import Bench, context_of

    return Bench(context_of(run_folder(run)))


@constitution_app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Constitutions.")],
    against: Annotated[
        Path | None, typer.Option(help="The earlier version: is the version number high enough?")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A run's TOML: are judge and policy of one family?")] = None,
    prompts: Annotated[Path | None, typer.Option(help="JSON lines of prompts: does each scope cover some?")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what will go wrong before a judge is paid; `# lint: off CODE reason` silences a finding in place."""
    from constitutions.lint import lint as lint_source
    from constitutions.source import read_source

    around = _surroundings(against, config, prompts)
    findings = [finding for path in files for finding in lint_source(read_source(path), around)]
    if as_json:
        rows = [{**finding._asdict(), "path": str(finding.path)} for finding in findings]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            print(finding)
        print(f"{len(findings)} finding(s) in {len(files)} file(s)" if findings else "nothing found")
    if findings:
        raise typer.Exit(1)


def _surroundings(against: Path | None, config: Path | None, prompts: Path | None) -> Surroundings:
    from constitutions.lint_structure import Surroundings
    from constitutions.load import load_constitution
    from ratify.config import load_config
    from ratify.prompts import load_prompts

    run = load_config(config) if config else None
    return Surroundings(
        against=load_constitution(against) if against else None,
        prompts=load_prompts(prompts) if prompts else (),
        judge_model=run.judge.model if run else "",
        policy_model=run.policy.model if run else "",
    )


@constitution_app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD")],
    new: Annotated[Path, typer.Argument(metavar="NEW")],
    as_json: AsJson = False,
) -> None:
    """Say what an edit means: what is judged again, what is only added up again, which version it needs."""
    from constitutions.diff import diff_constitutions
    from constitutions.load import load_constitution
    from constitutions.versions import raised

    found = diff_constitutions(load_constitution(old), load_constitution(new))
    least = raised(found.old.version, found.bump)
    if as_json:
        rows = [{**change._asdict(), "bump": change.bump.name.lower(), "cost": change.cost} for change in found.changes]
        summary = {"changes": rows, "bump": found.bump.name.lower(), "least_version": least, "renamed": found.renamed}
        summary |= {"rejudged": list(found.rejudged), "rescoped": list(found.rescoped)}
        print(json.dumps({**summary, "version_fault": found.version_fault}, indent=2, ensure_ascii=False))
    else:
        for change in found.changes:
            print(_spelled(change))
        print(f"judged again: {', '.join(found.rejudged) or 'nothing'}")
        if found.rescoped:
            print(f"judged where newly covered: {', '.join(found.rescoped)}")
        print(
            f"version: {found.old.version} -> {found.new.version}; computed: {found.bump.name.lower()}, least: {least}"
        )
    if found.version_fault:
        raise InputError(f"{new}: {found.version_fault}")


def _spelled(change: Change) -> str:
    """One difference in two lines."""
    sign = {"added": "+", "removed": "-", "renamed": "~", "changed": "~"}[change.kind]
    name = ".".join(part for part in (change.principle, change.field) if part)
    values = {
        "added": f"added: {_short(change.new)}",
        "removed": f"removed: {_short(change.old)}",
        "renamed": f"renamed from {change.old}",
        "changed": f"{_short(change.old)} -> {_short(change.new)}",
    }[change.kind]
    return f"{sign} {name}: {values}\n    {change.bump.name.lower()}: {change.why}; costs: {change.cost}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:99]}…"


@constitution_app.command()
def show(file: FilePath, as_json: AsJson = False) -> None:
    """List the principles with tier, weight, what proves them, and the hash of what a judge reads."""
    from rich.console import Console
    from rich.table import Table

    from constitutions.exports import to_json
    from constitutions.hashes import constitution_hash, principle_hash
    from constitutions.load import load_constitution

    constitution = load_constitution(file)
    if as_json:
        print(to_json(constitution), end="")
        return
    title = f"{constitution.id} {constitution.version}  {constitution_hash(constitution)[:12]}"
    table = Table(title=title, title_justify="left")
    for column in ("principle", "tier", "severity", "weight", "checks", "tests", "hash", "text"):
        table.add_column(column, no_wrap=column == "hash", overflow="fold")
    for each in constitution.principles:
        severity = each.severity if each.status == "active" else each.status
        counts = (f"{each.weight:g}", str(len(each.checks)), str(len(each.tests)))
        table.add_row(each.id, each.tier or "", severity, *counts, principle_hash(each)[:12], each.text)
    Console(highlight=False, markup=False).print(table)


@constitution_app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    name: Annotated[str, typer.Option("--id", help="The constitution's id; the file's name by default.")] = "",
    force: Force = False,
) -> None:
    """Write a small constitution to start from."""
    from constitutions.drafts import slug
    from constitutions.load import parse_constitution
    from constitutions.template import new_constitution

    text = new_constitution(name or slug(file.stem), SCHEMA_FILE.as_uri())
    parse_constitution(text, file)
    _write(file, text, force)
    print(f"{file} written; edit it, then `ratify constitution lint {file}`")


@constitution_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to import.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the constitution.")],
    file_format: Annotated[str, typer.Option("--format", help="anthropic, llm-swarm, model-spec or promptfoo.")] = "",
    name: Annotated[str, typer.Option("--id", help="The constitution's id; the file's name by default.")] = "",
    force: Force = False,
) -> None:
    """Import principles word for word, and report what was left out and what lint says."""
    from constitutions.drafts import slug
    from constitutions.imports import import_draft
    from constitutions.lint import lint as lint_source
    from constitutions.source import Source

    draft = import_draft(file, file_format)
    text = draft.yaml(name or slug(out.stem))
    findings = lint_source(Source(out, text))
    _write(out, text, force)
    for note in draft.notes:
        print(note)
    for finding in findings:
        print(finding)
    tests = sum(len(each.get("tests", ())) for each in draft.principles)
    print(
        f"{out}: {len(draft.principles)} principles, {tests} tests; {len(draft.notes)} notes, {len(findings)} findings"
    )


@constitution_app.command()
def export(
    file: FilePath,
    file_format: Annotated[str, typer.Option("--format", help="json, markdown, llm-swarm or icai.")] = "markdown",
    out: Out = None,
    force: Force = False,
) -> None:
    """Write a constitution for other readers."""
    from constitutions.exports import EXPORTS
    from constitutions.load import load_constitution

    if file_format not in EXPORTS:
        raise ConfigError(f"unknown format {file_format!r}; known formats: {', '.join(EXPORTS)}")
    _put(EXPORTS[file_format](load_constitution(file)), out, force)


@constitution_app.command()
def schema(out: Out = None, force: Force = False) -> None:
    """Print the JSON Schema from which editors complete and check the YAML."""
    from constitutions.json_schema import constitution_schema

    _put(json.dumps(constitution_schema(), indent=2, ensure_ascii=False) + "\n", out, force)


@constitution_app.command()
def test(  # noqa: PLR0917
    file: FilePath,
    config: Annotated[Path | None, typer.Option(help="A run's TOML, whose judge is asked.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE over the TOML; may be repeated.")
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="Apply the checks and ask no model.")] = False,
    recorded: Annotated[Path | None, typer.Option(help="Use recorded answers and ask nobody.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the answers for later.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML for CI.")] = None,
) -> None:
    """Ask each principle's tests in both orders: passed, failed, order-unstable, unanswered or unrecorded."""
    from constitutions.load import load_constitution
    from flows import constitution_trials as trials
    from ratify.files import write_records, write_text

    if (config is not None) + rules + (recorded is not None) != 1:
        raise ConfigError("say who judges: one of --config CONFIG, --rules or --recorded FILE")
    constitution = load_constitution(file)
    asked = trials.trials_of(constitution)
    records = trials.read_records(recorded) if recorded else _ask(asked, config, override or [])
    results = trials.judge_trials(asked, records, constitution)
    if record:
        write_records(record, records)
    if junit:
        write_text(junit, trials.junit(results, f"{constitution.id} {constitution.version}"))
    _print_results(results)
    if any(result.outcome not in trials.SOUND for result in results):
        raise typer.Exit(1)


def _ask(asked: list[Trial], config: Path | None, overrides: list[str]) -> list[TrialRecord]:
    from flows.constitution_trials import ask_trials
    from flows.context import RunContext
    from flows.stages.judging import make_judge
    from judges.rules_judge import RulesJudge
    from ratify.config import load_config

    run = load_config(config, overrides) if config else None
    if run is None or run.judge.kind == "rules":
        return ask_trials(asked, RulesJudge())
    if run.judge.kind == "replay":
        return ask_trials(asked, make_judge(RunContext(run)))
    return _ask_model(asked, run)


def _ask_model(asked: list[Trial], run: Config) -> list[TrialRecord]:
    """Ask the model of a run's judge, served for as long as it takes."""
    import asyncio
    import tempfile

    from flows.constitution_trials import ask_trials_async
    from flows.context import RunContext
    from flows.stages.judging import make_judge
    from flows.stages.servers import check_endpoint, judge_client

    context = RunContext(run)
    check_endpoint(run.judge, "judge")

    async def ask() -> list[TrialRecord]:
        with tempfile.TemporaryDirectory() as folder:
            async with judge_client(context, log_path=Path(folder) / "judge.log") as client:
                return await ask_trials_async(asked, make_judge(context, client))

    return asyncio.run(ask())


def _print_results(results: list[TrialResult]) -> None:
    from collections import Counter

    for result in results:
        print(f"{result.outcome:14} {result.trial.name}: {result.detail}")
    counts = Counter(result.outcome for result in results)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "there are no tests")


def _put(text: str, out: Path | None, force: bool) -> None:
    """Write a file, or to the terminal."""
    if out is None:
        print(text, end="")
    else:
        _write(out, text, force)
        print(f"{out} written")


def _write(path: Path, text: str, force: bool) -> None:
    from ratify.files import write_text

    if path.exists() and not force:
        raise InputError(f"{path} is there already; choose another name, or say --force")
    write_text(path, text)
