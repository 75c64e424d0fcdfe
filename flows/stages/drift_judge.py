"""Have a run's judges judge gold again: all of it when an epoch begins, a slice otherwise.

Each judge of a panel is watched alone. Nothing is taken from the verdict store of the run: an answer that was kept says
nothing about the judge of today.
"""

from __future__ import annotations

from collections.abc import Sequence

from constitutions.hashes import constitution_hash
from evaluation.drift_record import Reading, missing
from evaluation.judge_drift import JudgeCheck, judge_readings, present_epoch, slice_of
from flows.context import RunContext
from flows.stages.drift_history import judge_history, remember, working_folder
from flows.stages.judge_check import answers, gold_of, prepare_on
from flows.stages.judging import constitution_of, make_judge
from flows.stages.panel_judging import seats_of
from judges.checkup import Examination
from judges.gold import Gold
from ratify.canonical import file_digest
from ratify.lineage import code_commit, now
from ratify.types import Label

BASELINE_PAIRS = 1000
SLICE_PAIRS = 100


def check_judges(context: RunContext, *, size: int = SLICE_PAIRS, most: int = BASELINE_PAIRS) -> list[JudgeCheck]:
    """Ask every judge of the run, and remember what it said.

    Raises:
        ConfigError: the configuration names no gold.
    """
    gold = gold_of(context).drawn(most, context.config.run.seed)
    return [_check(seat.context, seat.name, gold, size) for seat in seats_of(context)]


def all_readings(context: RunContext, alpha: float) -> list[Reading]:
    """What the history says of each judge, without asking."""
    history = judge_history(context.config.run_dir)
    seats = seats_of(context)
    found = []
    for seat in seats:
        own = [check for check in history if check.seat == seat.name]
        prefix = f"{seat.name}: " if len(seats) > 1 else ""
        for reading in _of_the_present_judge(seat.context, own, alpha):
            found.append(reading.model_copy(update={"text": prefix + reading.text}))
    return found


def _of_the_present_judge(context: RunContext, own: Sequence[JudgeCheck], alpha: float) -> list[Reading]:
    epoch = present_epoch(own)
    if epoch and epoch[0].epoch != _epoch(context):
        told = "the judge, its constitution or the gold file has changed since it was last asked about gold"
        return [missing("judge", "agreement with gold", told)]
    return judge_readings(own, alpha)


def _check(context: RunContext, name: str, gold: Gold, size: int) -> JudgeCheck:
    run, history = context.config.run_dir, judge_history(context.config.run_dir)
    own = present_epoch([check for check in history if check.seat == name])
    begins = not own or own[0].epoch != _epoch(context)
    named = {a.prompt_id: place for place, (a, _) in enumerate(gold.pairs)}
    wanted = list(named) if begins else slice_of(list(own[0].answers), len(own) - 1, size)
    chosen = _chosen(gold, [named[pair] for pair in wanted if pair in named])
    number = len(history) + 1
    said = answers(prepare_on(context, Examination(chosen, []), working_folder(run, number)))
    judge, constitution, digest = _epoch(context)
    check = JudgeCheck(
        number=number, kind="baseline" if begins else "slice", seat=name, time=now(), code=code_commit(),
        round=context.round_number, judge=judge, constitution=constitution, gold=digest,
        answers=_leads(chosen, said.labels),
    )  # fmt: skip
    remember(run, check)
    return check


def _epoch(context: RunContext) -> tuple[str, str, str]:
    path = context.config.gold.path
    digest = file_digest(path) if path else ""
    return make_judge(context).fingerprint, constitution_hash(constitution_of(context)), digest


def _chosen(gold: Gold, places: Sequence[int]) -> Gold:
    pairs = [gold.pairs[place] for place in places]
    prompts = {a.prompt_id: gold.prompts[a.prompt_id] for a, _ in pairs}
    return Gold(prompts, pairs, [gold.winners[place] for place in places], gold.authors)


def _leads(gold: Gold, labels: Sequence[Label]) -> dict[str, float | None]:
    """Log-odds for the better reply of each pair that gold decides."""
    better, by_ids = gold.better(), {(label.a_id, label.b_id): label for label in labels}
    found: dict[str, float | None] = {}
    for (a, b), winner in better.items():
        margin = by_ids[a, b].margin
        found[by_ids[a, b].prompt_id] = None if margin is None else (margin if winner == "a" else -margin)
    return found
