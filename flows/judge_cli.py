"""`ratify judge check|probe|panel|record`: is this judge fit to label, can a reply talk it round, is a panel better,
and what has it said.

Only the command line and its tables: what is asked lies in `flows/stages/judge_check.py`, what is computed in
`judges/checkup.py`. `check` and `probe` end with exit code 1 when the judge is not fit, so that CI stops there.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from flows.context import RunContext
    from flows.stages.judge_check import Check, Checked
    from judges.checkup import Checkup
    from judges.panel_study import PanelStudy
    from judges.probes import ProbeResult
    from ratify.intervals import Estimate

UNFIT = 1
"""Exit code when the judge is not fit."""
LN_2 = math.log(2)
"""A length slope is per unit of log length; times this it is what twice the words are worth."""
UNSEEN = "–"
"""In place of a slope: the pairs do not differ in this."""

judge_app = typer.Typer(
    help="Examine the judge before it labels anything.", no_args_is_help=True, pretty_exceptions_enable=False
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file with a [gold] section.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides, such as gold.path=FILE.")]
Pairs = Annotated[int, typer.Option("--pairs", min=1, help="Gold pairs to judge, drawn by the run's seed.")]
Probed = Annotated[int, typer.Option("--probed", min=1, help="Gold pairs whose worse reply is tampered with.")]
Folder = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="Keep the verdicts here instead of in the run's store.")
]
CostOnly = Annotated[bool, typer.Option("--cost", help="Show what it will cost and ask nobody.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")]


@judge_app.command()
def check(
    config: ConfigPath, overrides: Overrides = None, *, pairs: Pairs = 60, probed: Probed = 30, store: Folder = None,
    cost: CostOnly = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say whether the judge is fit: agreement with gold, biases, injections. Exit code 1 when it is not."""
    checked = _ask(config, overrides, pairs=pairs, probed=probed, store=store, cost=cost, as_json=as_json)
    if checked is None:
        return
    checkup = checked.checkup
    if as_json:
        print(json.dumps(_figures(checked), indent=2))
    else:
        _show_failures(checked)
        _show_agreement(checkup)
        _show_biases(checkup)
        _show_probes(checkup.probes)
        _show_answer(checkup.fitness.reasons)
    if not checkup.fitness.fit:
        raise typer.Exit(UNFIT)


@judge_app.command()
def probe(
    config: ConfigPath, overrides: Overrides = None, *, pairs: Pairs = 30, store: Folder = None,
    cost: CostOnly = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Tamper with the worse replies of gold pairs, and say whether the judge falls for it. Exit code 1 when it does."""
    from judges.fitness import Limits, injection_faults

    checked = _ask(config, overrides, pairs=pairs, probed=pairs, store=store, cost=cost, as_json=as_json)
    if checked is None:
        return
    reasons = injection_faults(checked.checkup.probes, Limits())
    if as_json:
        print(json.dumps({"steadfast": not reasons, "reasons": reasons, **_figures(checked)}, indent=2))
    else:
        _show_failures(checked)
        _show_probes(checked.checkup.probes)
        _show_answer(reasons, "steadfast", "NOT STEADFAST")
    if reasons:
        raise typer.Exit(UNFIT)


@judge_app.command()
def panel(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="One TOML file per judge.")],
    *,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE over every CONFIG; may be repeated.")
    ] = None,
    weights: Annotated[list[float] | None, typer.Option("--weight", help="One per CONFIG; 1 unless given.")] = None,
    quorum: Annotated[float, typer.Option(help="Least share of the weight that must have answered.")] = 1.0,
    pairs: Pairs = 60, cost: CostOnly = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compare judges on the same gold pairs, and say what a panel of them would be worth. Labels nothing."""
    from flows.stages.judge_panel import ask_panel, prepare_panel
    from ratify.errors import ConfigError

    shares = weights or [1.0] * len(configs)
    if len(shares) != len(configs):
        raise ConfigError(f"there are {len(configs)} CONFIGs and {len(shares)} weights; give --weight once for each")
    checks = prepare_panel([_context(config, overrides) for config in configs], pairs)
    for each in checks:
        _show_cost(each, as_json=as_json, alone=cost)
    if cost:
        return
    names = [config.stem for config in configs]
    if len(set(names)) < len(names):
        names = [str(config) for config in configs]
    study = ask_panel(checks, names, shares, quorum)
    if as_json:
        print(study.model_dump_json(indent=2))
    else:
        _show_panel(study)


@judge_app.command()
def record(
    config: ConfigPath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The recording to write, such as verdicts.jsonl.")],
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write the stored verdicts of a run, and of its gold pairs, as a recording for judge.kind = "replay"."""
    from flows.stages.judge_record import record_run
    from ratify.errors import InputError

    if out.exists() and not force:
        raise InputError(f"{out} is there already; choose another name, or say --force")
    written = record_run(_context(config, overrides), out)
    print(f"{out}: {written:,} verdicts; replay them with judge.kind=replay judge.recordings={out}")


def _context(config: Path, overrides: list[str] | None) -> RunContext:
    from flows.context import RunContext
    from ratify.config import load_config

    return RunContext(load_config(config, overrides or ()))


def _ask(
    config: Path, overrides: list[str] | None, *, pairs: int, probed: int, store: Path | None, cost: bool, as_json: bool
) -> Checked | None:
    """Show the cost, then ask; None when only the cost was wanted."""
    from flows.stages.judge_check import ask, prepare

    prepared = prepare(_context(config, overrides), pairs=pairs, probed=probed, folder=store)
    _show_cost(prepared, as_json=as_json, alone=cost)
    return None if cost else ask(prepared)


def _show_cost(check: Check, *, as_json: bool, alone: bool) -> None:
    """On stderr beside JSON, so that a program reads one document."""
    from rich.console import Console

    from flows.stages.estimate import estimate_json, estimate_lines, estimate_questions

    missing = check.missing()
    found = estimate_questions(check.context, missing.values(), len(check.sheet.questions) - len(missing))
    if as_json and alone:
        print(json.dumps(estimate_json(found), indent=2))
        return
    out, gold = Console(highlight=False, stderr=as_json, soft_wrap=True), check.examination.gold
    tampered = len(check.examination.pairs) - len(gold.pairs)
    out.print(f"[bold]{len(gold.pairs)} gold pairs[/], {tampered} with a tampered reply, {_judge_name(check.context)}")
    for line in estimate_lines(found):
        out.print(f"  {line}")


def _judge_name(context: RunContext) -> str:
    section = context.config.judge
    name = {"model": section.model, "rules": "the checks", "replay": str(section.recordings)}[section.kind]
    return f"judge: {name} ({section.kind}, {section.protocol})"


def _figures(checked: Checked) -> dict[str, object]:
    return {**checked.checkup.model_dump(mode="json"), "cost": checked.statistics.metrics()}


def _show_failures(checked: Checked) -> None:
    """Missing verdicts come first: they may be why everything else is missing."""
    if checked.checkup.failed:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in checked.statistics.failures.most_common())
        _print(f"{checked.checkup.failed:,} of {checked.checkup.verdicts:,} verdicts are missing: {kinds}")
        _print(f"  the last one said: {checked.last_raw!r}")


def _show_agreement(checkup: Checkup) -> None:
    from rich.table import Table

    found = checkup.agreement
    table = Table(title="Agreement with gold", title_justify="left")
    for column in ("", "right", "95 % interval", "pairs"):
        table.add_column(column)
    rows = {"overall": found.overall, **found.by_principle, "of what people reach": found.of_ceiling}
    for name, share in rows.items():
        if share is not None:
            table.add_row(name, f"{share.value:.1%}", _ends(share), str(share.n))
    _print(table)
    if found.failed:
        _print(f"{found.failed} of {found.pairs} gold pairs have no label, because a verdict is missing")


def _show_biases(checkup: Checkup) -> None:
    from rich.table import Table

    title = "Bias: what moves the judge beside the truth (log-odds; * surely not 0; – the pairs do not differ in it)"
    table = Table(title=title, title_justify="left")
    pairwise = checkup.protocol == "pairwise"
    position = ("same position", "sign test p", "order gap") if pairwise else ()
    for column in ("principle", *position, "twice as long", "markdown", "own family", "pairs"):
        table.add_column(column)
    for bias in checkup.biases:
        shown = [bias.principle]
        if pairwise and bias.position:
            where = bias.position
            shown += [f"{where.same_position.value:.0%}", f"{where.sign_p:.3f}", _slope(where.order_gap)]
        shown += [_slope(bias.length, LN_2), _slope(bias.format), _slope(bias.family), str(bias.compared)]
        table.add_row(*shown)
    _print(table)
    if not pairwise:
        _print("A pointwise judge sees one reply at a time, so no position can win.")


def _slope(found: Estimate | None, scale: float = 1.0) -> str:
    if found is None:
        return UNSEEN
    sure = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
    return f"{found.value * scale:+.2f}{'*' if sure else ''}"


def _show_probes(probes: tuple[ProbeResult, ...]) -> None:
    from rich.table import Table

    table = Table(title="Tampering: the worse reply addresses the judge or is padded", title_justify="left")
    for column in ("attack", "kind", "losers that win by it", "95 % interval", "losers", "shift (log-odds)"):
        table.add_column(column)
    for each in probes:
        won = ("none had lost", "", "0") if each.success is None else (
            f"{each.success.value:.0%}", _ends(each.success), str(each.success.n)
        )  # fmt: skip
        table.add_row(each.attack.replace("_", " "), each.kind, *won, _slope(each.shift))
    _print(table)


def _show_panel(study: PanelStudy) -> None:
    from rich.table import Table

    gold = Table(title=f"Agreement with gold, {study.pairs} pairs", title_justify="left")
    for column in ("", "right", "95 % interval", "pairs", "no vote"):
        gold.add_column(column)
    together = {f"panel: {name.replace('_', ' ')}": share for name, share in study.together.items()}
    for name, share in {**study.judges, **together}.items():
        shown = ("no label", "", "0") if share is None else (f"{share.value:.1%}", _ends(share), str(share.n))
        gold.add_row(name, *shown, str(study.failed.get(name, "")))
    _print(gold)
    among = Table(title="Agreement of the judges with each other", title_justify="left")
    for column in ("", "value", "95 % interval", "pairs"):
        among.add_column(column)
    for name, found in {**study.among, **{f"kappa: {both}": kappa for both, kappa in study.kappa.items()}}.items():
        ends = "" if found.low is None or found.high is None else f"{found.low:.2f} to {found.high:.2f}"
        among.add_row(name, f"{found.value:.2f}", ends, str(found.n))
    _print(among)


def _ends(share: Estimate) -> str:
    if share.low is None or share.high is None:
        return "too few prompts"
    return f"{share.low:.0%} to {share.high:.0%}"


def _show_answer(reasons: tuple[str, ...] | list[str], good: str = "fit", bad: str = "NOT FIT") -> None:
    _print(f"[bold]{'This judge is ' + (bad if reasons else good)}[/]" + (":" if reasons else "."))
    for reason in reasons:
        _print(f"  - {reason}")


def _print(what: Table | str) -> None:
    from rich.console import Console
    from rich.table import Table

    if isinstance(what, str) or what.row_count:
        Console(highlight=False, soft_wrap=isinstance(what, str)).print(what)
    if isinstance(what, Table) and not what.row_count:
        Console(highlight=False).print(f"{what.title}: nothing could be measured", markup=False)
