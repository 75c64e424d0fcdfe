"""`ratify export-ab` and `ratify import-ab`: two policies for people to rate, and what their ratings say.

Only the command line and the gathering from a run; the sheet and the arithmetic are `evaluation/human_ratings.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ratify.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from evaluation.human_ratings import RatingKey, Ratings

PANEL = "Look at a run"
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name under runs/.")]
Out = Annotated[Path, typer.Option("--out", help="The sheet for the raters: .csv or .jsonl.")]
KeyPath = Annotated[Path | None, typer.Option("--key", help="The key, not for raters; NAME.key.json by default.")]
Pairs = Annotated[int | None, typer.Option("--pairs", min=1, help="Pairs to draw; all by default.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the draw, the order and the sides.")]
Round = Annotated[int | None, typer.Option("--round", min=0, help="The round; the newest evaluated one by default.")]
Against = Annotated[str, typer.Option("--against", help="`parent`, or `first`: the run's first policy.")]
Sheets = Annotated[list[Path], typer.Argument(metavar="SHEET…", help="Filled-in sheets, one for each rater.")]
Gold = Annotated[Path | None, typer.Option("--gold", help="Write the rated pairs here as gold pairs (JSON lines).")]
UsedKey = Annotated[Path, typer.Option("--key", help="The key that was written with the sheet.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export-ab", rich_help_panel=PANEL)(export_ab)
    app.command("import-ab", rich_help_panel=PANEL)(import_ab)


def export_ab(
    run: Run, *, out: Out, key: KeyPath = None, pairs: Pairs = None, seed: Seed = 0, number: Round = None,
    against: Against = "parent",
) -> None:  # fmt: skip
    """Write held-out replies of two policies side by side for people to rate, blinded and in random order."""
    from evaluation.human_ratings import sheet_text
    from flows.find_run import run_folder
    from ratify.files import write_text

    kind = _kind(out)
    if against not in ("parent", "first"):
        raise ConfigError(f"--against is {against!r}; it is 'parent' or 'first'")
    found = rating_key(run_folder(run), pairs, seed, number, first=against == "first")
    place = key or out.with_name(f"{out.stem}.key.json")
    if place.exists() or out.exists():
        raise ConfigError(f"{out} or {place} exists, and may hold ratings; name another --out")
    write_text(place, found.model_dump_json(indent=1) + "\n")
    write_text(out, sheet_text(found.rows, kind))
    print(f"{len(found.rows)} pairs to rate: {out}; raters fill in a, b or tie")
    if found.identical:
        print(f"{len(found.identical)} drawn pairs are identical replies; they count as ties and are not on the sheet")
    print(f"key, not for raters: {place}")


def import_ab(sheets: Sheets, *, key: UsedKey, gold: Gold = None, as_json: AsJson = False) -> None:
    """Read ratings back: the new policy's win rate with its interval, and gold pairs to measure judges with."""
    from evaluation.human_ratings import gold_lines, read_key, read_ratings, tally
    from ratify.files import write_text

    known = read_key(key)
    found = tally(known, [read_ratings(sheet, known) for sheet in sheets])
    if gold is not None:
        if gold.exists():
            raise ConfigError(f"{gold} exists; name another file for --gold")
        write_text(gold, "".join(gold_lines(known, found.verdicts)))
    if as_json:
        print(json.dumps(_figures(found), indent=2))
    else:
        _show(known, found, gold)


def rating_key(run: Path, pairs: int | None, seed: int, number: int | None, *, first: bool) -> RatingKey:
    """The pairs of a round's held-out replies, drawn and blinded.

    Raises:
        StoreError: that round has no finished evaluation.
    """
    from evaluation.human_ratings import RatingKey, blind
    from evaluation.report import read_report
    from flows.context import RunContext
    from flows.stages.evaluate import NEW, facing_pairs
    from flows.stages.gate import run_config
    from flows.stages.generate import heldout_prompts
    from generation.sampling import read_completions
    from ratify.rounds import config_of_round
    from ratify.run_store import RunStore

    store = RunStore(run)
    done = [each for each in store.rounds() if store.stage("evaluate", each).manifest()]
    if not done or (number is not None and number not in done):
        raise StoreError(f"{run} has no finished evaluation of that round; finished: {done or 'none'}")
    chosen = done[-1] if number is None else number
    began = done[0] if first else chosen
    old = read_completions(store.stage("generate", began).path / "heldout")
    new = read_completions(store.stage("evaluate", chosen).path / NEW)
    config = run_config(run)
    here = config.model_copy(update={"run": config.run.model_copy(update={"dir": run.parent, "name": run.name})})
    prompts = {prompt.id: prompt for prompt in heldout_prompts(RunContext(config_of_round(here, chosen), chosen))}
    rows, identical = blind(prompts, facing_pairs(old, new), pairs, seed)
    reports = [read_report(store.stage("evaluate", each).path / "report.json") for each in (began, chosen)]
    before, after = (report.identity.models for report in reports)
    return RatingKey(
        run=run.name, old=before.get("old", ""), new=after.get("new", ""), seed=seed,
        identical=tuple(identical), rows=tuple(rows),
    )  # fmt: skip


def _kind(path: Path) -> Literal["csv", "jsonl"]:
    if path.suffix == ".csv":
        return "csv"
    if path.suffix == ".jsonl":
        return "jsonl"
    raise ConfigError(f"--out is {path}; a sheet is a .csv or a .jsonl file")


def _figures(found: Ratings) -> dict[str, object]:
    counts = ("wins", "ties", "losses", "identical", "unrated", "raters")
    plain = {name: getattr(found, name) for name in counts}
    agreement = found.agreement.model_dump() if found.agreement else None
    return {"win_rate": found.win_rate.model_dump(), **plain, "agreement": agreement}


def _show(key: RatingKey, found: Ratings, gold: Path | None) -> None:
    rate, ends = found.win_rate, ""
    if rate.low is not None and rate.high is not None:
        ends = f" ({rate.low:.1%} to {rate.high:.1%})"
    print(f"people prefer the new policy in {rate.value:.1%}{ends} of {rate.n} pairs, {rate.clusters} prompts")
    counts = f"{found.wins} wins, {found.ties} ties, {found.losses} losses, {found.identical} identical"
    print(f"{counts}, {found.unrated} not rated, {found.raters} raters")
    if found.agreement is not None:
        print(f"raters agree with each other on {found.agreement.value:.1%} of {found.agreement.n} pairs of ratings")
    print(f"new: {key.new}\nold: {key.old}")
    if gold is not None:
        print(f"gold pairs: {gold}")
