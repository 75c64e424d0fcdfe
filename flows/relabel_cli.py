"""`ratify plan`, `ratify apply` and `ratify what-if`: what an edit of a constitution costs, changes and would change.

Only the command line: what is computed lies in `flows/stages/relabel*.py`, which is imported when a command runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flows.stages.relabel import Bench
    from ratify.sections import PriceSection

PANEL = "Edit the constitution"
Old = Annotated[Path, typer.Argument(metavar="OLD", help="The constitution before the edit.")]
New = Annotated[Path, typer.Argument(metavar="NEW", help="The constitution after it.")]
Run = Annotated[str, typer.Option("--run", metavar="RUN", help="A run's folder, or its name under runs/.")]
MaybeRun = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="A run's folder or name; without it only the edit is shown.")
]
Sample = Annotated[int, typer.Option("--sample", min=0, help="Pairs to judge for the flip rate; 0 costs nothing.")]
PerPair = Annotated[
    int | None,
    typer.Option(
        "--per-pair",
        min=0,
        help="Principles drawn for each pair, 1 as in Constitutional AI; 0 asks all. Without it: as the run does.",
    ),
]
PriceIn = Annotated[
    float | None, typer.Option(help="Money per million prompt tokens, instead of the run's judge.price.", min=0)
]
PriceOut = Annotated[
    float | None, typer.Option(help="Money per million completion tokens, instead of the run's judge.price.", min=0)
]
Gold = Annotated[
    Path | None, typer.Option("--gold", help='JSON lines such as {"a_id": "…", "b_id": "…", "better": "a"}.')
]
Noise = Annotated[int, typer.Option("--noise", min=0, help="Pairs to judge once more to measure the noise floor.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the report as Markdown, JSON and HTML.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=PANEL)(plan)
    app.command(rich_help_panel=PANEL)(apply)
    app.command("what-if", rich_help_panel=PANEL)(what_if)


def plan(
    old: Old, new: New, *, run: MaybeRun = None, sample: Sample = 100, per_pair: PerPair = None,
    price_in: PriceIn = None, price_out: PriceOut = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what an edit will cost and, on a sample, how many labels it flips."""
    from flows.stages.relabel import hold
    from flows.stages.relabel_plan import difference, make_plan

    before, after = hold(old), hold(new)
    if run is None:
        figures = difference(before.constitution, after.constitution)
    else:
        with _bench(run, per_pair) as bench:
            price = _price(bench.price, price_in, price_out)
            figures = make_plan(bench, before, after, sample=sample, price=price)
    print(json.dumps(figures, indent=2, ensure_ascii=False) if as_json else "\n".join(plan_lines(figures)))


def apply(old: Old, new: New, *, run: Run, per_pair: PerPair = None, gold: Gold = None, noise: Noise = 0) -> None:
    """Judge what is missing and write the new labels and the flip report; go on where it was stopped."""
    from evaluation.flip_report import conclusion, warnings
    from flows.stages.relabel import hold
    from flows.stages.relabel_apply import apply_edit

    before, after = hold(old), hold(new)
    with _bench(run, per_pair) as bench:
        applied = apply_edit(bench, before, after, gold=gold, noise=noise)
    figures = json.loads((applied.stage.path / "flips.json").read_text(encoding="utf-8"))
    if applied.before:
        print("applied before with the same inputs, nothing was done")
    print("\n".join([*conclusion(figures), *(f"! {each}" for each in warnings(figures))]))
    print(f"\nlabels:  {applied.stage.path}/labels.parquet, pairs.parquet\nreport:  {applied.stage.path}/flips.html")
    print(f"next:    ratify run CONFIG constitution={new}   (takes these verdicts over, then trains)")


def what_if(
    old: Old,
    new: New,
    *,
    run: Run,
    per_pair: PerPair = None,
    gold: Gold = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Show what an edit of weights, tiers or thresholds would do; asks no judge and changes nothing."""
    from evaluation.flip_report import render_markdown, write_flip_report
    from flows.stages.relabel import hold
    from flows.stages.relabel_apply import what_if as figures_of

    before, after = hold(old), hold(new)
    with _bench(run, per_pair) as bench:
        figures = figures_of(bench, before, after, gold=gold)
    print(json.dumps(figures, indent=2, ensure_ascii=False) if as_json else render_markdown(figures))
    if out is not None:
        print("\n".join(f"written: {path}" for path in write_flip_report(out, figures)))


@contextmanager
def _bench(run: str, per_pair: int | None) -> Iterator[Bench]:
    """A run's pairs, with the run locked."""
    from flows.find_run import run_folder
    from flows.stages.relabel import Bench, context_of

    context = context_of(run_folder(run))
    with context.run.lock(), Bench(context, per_pair) as bench:
        yield bench


def _price(price: PriceSection | None, price_in: float | None, price_out: float | None) -> PriceSection | None:
    """The run's price with what the command line says instead."""
    from ratify.sections import PriceSection

    given = {"prompt_per_million": price_in, "completion_per_million": price_out}
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return price
    return (price or PriceSection(prompt_per_million=0, completion_per_million=0)).model_copy(update=said)


def plan_lines(figures: dict[str, Any]) -> list[str]:
    """A plan as text for a terminal."""
    from evaluation.flip_report import edit_text

    old, new = figures["old"], figures["new"]
    lines = [f"{new['id']} {old['version']} → {new['version']} (needs a {figures['bump']} bump)"]
    lines += [f"! {figures['version_fault']}"] * bool(figures["version_fault"])
    lines += [f"  {edit_text(edit)}" for edit in figures["edits"]] or ["  no difference in meaning"]
    if "pairs" not in figures:
        named = ", ".join(figures["rejudged"] + figures["rescoped"]) or "none"
        return [*lines, "", f"to judge again: {named}", "give --run RUN for calls, minutes and the flip rate"]
    lines += ["", f"run {figures['run']}: {figures['pairs']:,} pairs"]
    lines.append(f"calls:     {figures['calls']:,}" + _sampled(figures))
    lines += [f"  {name}: {calls:,}" for name, calls in figures["calls_by_principle"].items()]
    decided = figures["decided_by_checks"]
    if decided:
        which = ", ".join(f"{name} {count:,}" for name, count in decided.items())
        lines.append(f"checks:    decide {sum(decided.values()):,} views without a call ({which})")
    return [*lines, *_cost_lines(figures), _rate_line(figures["flip_rate"])]


def _sampled(figures: dict[str, Any]) -> str:
    asked = figures["asked_for_sample"]
    return f" ({asked:,} of them made for this plan's sample and stored)" if asked else ""


def _cost_lines(figures: dict[str, Any]) -> list[str]:
    if not figures["left"]:
        return []
    if figures["observed"] is None:
        return ["time:      unknown: no stage of this run has asked the judge yet"]
    tokens, speed = figures["tokens"], figures["observed"]["calls_per_s"]
    lines = [
        f"tokens:    {tokens['prompt']:,} in, {tokens['completion']:,} out",
        f"time:      {figures['minutes']:.1f} min at {speed:,.0f} calls/s ({figures['observed']['source']})",
    ]
    if figures["money"] is not None:
        lines.append(f"money:     {figures['money']:,.2f} {figures['currency']}")
    return lines


def _rate_line(rate: dict[str, Any]) -> str:
    if not rate or rate["rate"] is None:
        return "flip rate: not measured; --sample N judges N pairs to estimate it"
    if rate["exact"]:
        return f"flip rate: {rate['rate']:.1%} ({rate['changed']:,} of {rate['pairs']:,} pairs, all of them: exact)"
    return (
        f"flip rate: {rate['rate']:.1%} (95 % interval {rate['low']:.1%} to {rate['high']:.1%}, "
        f"{rate['changed']} of {rate['pairs']} sampled pairs)"
    )
