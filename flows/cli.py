"""The command line: `ratify run CONFIG` and its relatives.

Every command takes a TOML file and dotted overrides, prints what it did, and ends with one sentence and an exit code
when something is wrong. Prefect and torch are imported only by the command that needs them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flows import (
    ab_cli,
    console,
    doctor_cli,
    drift_cli,
    gate_cli,
    label_part_cli,
    label_parts_cli,
    plain_cli,
    relabel_cli,
    rounds_cli,
    transfer_cli,
    up_cli,
)
from flows.constitution_cli import constitution_app
from flows.context import RunContext
from flows.find_run import run_folder
from flows.judge_cli import judge_app
from ratify.config import Config, load_config, resolved_json
from ratify.errors import ConfigError, RatifyError
from ratify.lineage import ROOT
from ratify.memory import return_freed_memory
from ratify.safety import switch_telemetry_off

ROOMS = ("constitutions", "generation", "judges", "training", "evaluation", "flows", "demo")
DEMO_CONFIG = ROOT / "configs" / "demo.toml"

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, such as configs/demo.toml.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides, such as policy.model=PATH.")
]
NoPrefect = Annotated[bool, typer.Option("--no-prefect", help="Run the same stages as plain functions.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration as JSON and stop.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="With judge.batch: wait for the batch instead of coming back later.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name under runs/.")]

app = typer.Typer(
    help="Turn a written constitution into a better model: sample, judge, train, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.command(rich_help_panel="The whole job")
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Run every stage that is not finished yet: generate, label, train, evaluate."""
    _run(config, _waiting(overrides, wait), "run_round", dry_run=dry_run, no_prefect=no_prefect)


@app.command(rich_help_panel="The whole job")
def demo(overrides: Overrides = None, no_prefect: NoPrefect = False) -> None:
    """Run the whole job on the models that ship in data/demo (two to five minutes on two cores)."""
    os.chdir(ROOT)
    console.introduce_demo()
    _run(DEMO_CONFIG.relative_to(ROOT), overrides, "run_round", no_prefect=no_prefect)


@app.command(rich_help_panel="One stage")
def generate(config: ConfigPath, overrides: Overrides = None, no_prefect: NoPrefect = False) -> None:
    """Sample candidate replies from the policy."""
    _run(config, overrides, "generate_candidates", no_prefect=no_prefect)


@app.command(rich_help_panel="One stage")
def label(config: ConfigPath, overrides: Overrides = None, wait: Wait = False, no_prefect: NoPrefect = False) -> None:
    """Let the judge apply the constitution and write the preference data."""
    _run(config, _waiting(overrides, wait), "label_preferences", no_prefect=no_prefect)


@app.command(rich_help_panel="One stage")
def estimate(
    config: ConfigPath,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Say what labelling will take: judge calls, tokens, money and minutes. Asks nobody."""
    from flows.stages.estimate import estimate_json, estimate_labels, estimate_lines

    found = estimate_labels(RunContext(load_config(config, overrides or ())))
    print(json.dumps(estimate_json(found), indent=2) if as_json else "\n".join(estimate_lines(found)))


@app.command(rich_help_panel="One stage")
def revise(config: ConfigPath, overrides: Overrides = None, no_prefect: NoPrefect = False) -> None:
    """Have replies criticised and rewritten by the constitution, judge the revisions, write data to learn from."""
    _run(config, overrides, "revise_completions", no_prefect=no_prefect)


@app.command(rich_help_panel="One stage")
def train(
    target: Annotated[
        str, typer.Argument(metavar="CONFIG|OBJECTIVE", help="A run's TOML file; or, with --data, what to train.")
    ],
    overrides: Overrides = None,
    *,
    data: Annotated[
        Path | None, typer.Option(help="Preference or SFT rows as .parquet, .jsonl or .jsonl.gz, or a folder of them.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --data: the Hugging Face model to train.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --data: folder for the result.")] = None,
    seed: Annotated[int, typer.Option(help="With --data: seed of order, validation split and heads.")] = 0,
    drop_bad_rows: Annotated[
        bool, typer.Option("--drop-bad-rows", help="With --data: leave bad preference rows out and count them.")
    ] = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Train the reward model and the new policy on a run's preference data, or any objective on a file of your own.

    A file needs no run: `ratify train dpo --data pairs.parquet --model MODEL beta=0.1`. Objectives: sft, reward_model,
    dpo, cdpo, robust, ipo_sum, ipo_mean, odpo, hinge, simpo, kto, apo_zero, apo_down, orpo.
    """
    if data is None:
        _run(Path(target), overrides, "train_policy", no_prefect=no_prefect)
        return
    from flows.train_cli import train_on_file

    train_on_file(target, overrides or [], data=data, model=model, out=out, seed=seed, drop=drop_bad_rows)


@app.command(rich_help_panel="One stage")
def evaluate(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A TOML file; not needed with --old and --new.")
    ] = None,
    overrides: Overrides = None,
    *,
    old: plain_cli.Old = None,
    new: plain_cli.New = None,
    capability: plain_cli.Suite = None,
    anchor: plain_cli.Anchor = None,
    harness_old: plain_cli.HarnessOld = None,
    harness_new: plain_cli.HarnessNew = None,
    out: plain_cli.Out = None,
    wait: Wait = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Measure the new policy against the old one and write the report; or compare two plain files of completions.

    Files need no run: `ratify evaluate --old before.jsonl --new after.jsonl` measures length, repetition, diversity and
    form, and what the other files beside them say. docs/plain-files.md tells what plain files cannot show.
    """
    files = plain_cli.Files(old, new, out, capability, anchor, harness_old, harness_new)
    if config is None:
        if not any(files):
            raise ConfigError("ratify evaluate needs a CONFIG, or --old FILE and --new FILE")
        plain_cli.compare_plain_files(files)
    else:
        plain_cli.refuse_beside_a_run(files)
        _run(config, _waiting(overrides, wait), "evaluate_policy", no_prefect=no_prefect)


@app.command(rich_help_panel="Look at a run")
def status(run_name: RunName) -> None:
    """Show what a run has finished and whether its files are whole."""
    console.show_status(run_folder(run_name))


@app.command(rich_help_panel="Look at a run")
def report(
    run_name: RunName,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure by its metric key.")] = False,
) -> None:
    """Show a finished run's result and where its HTML report lies."""
    console.show_report(run_folder(run_name), as_json=as_json)


# In the order in which `ratify --help` shows them, behind the commands above.
for each in (
    rounds_cli, ab_cli, relabel_cli, gate_cli, drift_cli, up_cli, doctor_cli,
    label_part_cli, label_parts_cli, transfer_cli,
):  # fmt: skip
    each.register(app)
app.add_typer(constitution_app, name="constitution", rich_help_panel="Edit the constitution")
app.add_typer(judge_app, name="judge", rich_help_panel="Judges")


def main() -> None:
    """Entry point: faults the user can mend become one sentence on stderr and an exit code."""
    try:
        _check_rooms()
        switch_telemetry_off()
        return_freed_memory()
        signal.signal(signal.SIGTERM, _interrupt)
        app()
    except SystemExit as leaving:
        _leave(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
    except RatifyError as error:
        print(f"ratify: {error}", file=sys.stderr)
        _leave(error.exit_code)
    except KeyboardInterrupt:
        print("ratify: stopped; what is finished is kept, and the same command goes on from here", file=sys.stderr)
        _leave(130)


def _waiting(overrides: list[str] | None, wait: bool) -> list[str]:
    return [*(overrides or ()), *["judge.batch_wait=true"] * wait]


def _run(
    path: Path, overrides: list[str] | None, flow: str, *, dry_run: bool = False, no_prefect: bool = False
) -> None:
    """Run one flow of this room by its name, or the plain stages behind it."""
    from flows.join_training import join_stages, joins
    from flows.stages import FLOWS
    from flows.stages.rounds import refuse_to_redo
    from flows.stages.servers import warm_up_engines

    config = load_config(path, overrides or ())
    if dry_run:
        print(resolved_json(config))
        return
    context = RunContext(config)
    stages = FLOWS[flow]
    if joins(context, stages):
        join_stages(context, stages)
        return
    if stages.finished(context):
        console.nothing_to_do(context)
    else:
        refuse_to_redo(context, stages)
        _announce_judging(context, flow)
        warm_up_engines(context, flow)
        if no_prefect:
            stages.run(context)
        else:
            _run_with_prefect(flow, config)
        console.shares([manifest for stage in stages.stages if (manifest := context.stage(stage.name).manifest())])
    context.remember()
    if flow == "revise_completions":
        console.show_revisions(context.stage("revised").path)
    if flow in ("run_round", "evaluate_policy"):
        console.show_report(config.run_dir, as_json=False)


def _announce_judging(context: RunContext, flow: str) -> None:
    """Before a run that labels: what that will take."""
    from flows.stages import FLOWS
    from flows.stages.estimate import estimate_labels, estimate_lines
    from flows.stages.label import LABEL

    if LABEL in FLOWS[flow].stages and not LABEL.finished(context):
        console.announce("labelling will take", estimate_lines(estimate_labels(context)))


def _run_with_prefect(flow: str, config: Config) -> None:
    from flows.prefect_run import run_flow

    run_flow(flow, config)


def _leave(code: int) -> NoReturn:
    """End the process; where Prefect was used, without waiting for a server that is lost."""
    if "flows.prefect_run" in sys.modules:
        from flows.prefect_run import leave

        leave(code)
    sys.exit(code)


def _check_rooms() -> None:
    """Another distribution may own a room's import name; refuse to run its code instead of ours."""
    import importlib.util

    for room in ROOMS:
        found = importlib.util.find_spec(room)
        where = Path(found.origin).resolve().parent if found and found.origin else None
        if where != ROOT / room:
            raise ConfigError(f"package {room!r} is found at {where}, not in {ROOT}; start ratify from its checkout")


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
