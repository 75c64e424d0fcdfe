"""Has the judge drifted? The same gold judged again, in epochs that are never spliced.

An epoch begins with a *baseline*: one judge, under one constitution, on the whole gold set. A *check* has a slice of it
judged again, and slices are disjoint until the gold is used up. Three alarms:

- McNemar's exact test of a check against the baseline's verdicts on the same pairs: paired, so it sees far smaller
  changes than two rates would. Check k has the level α·6/(π²k²), since testing every week at 5 % is peeking.
- e-CUSUM over all checks of the epoch: is agreement with gold still what was promised, the lower 80 % bound of the
  baseline's? It has no end and needs no correction.
- A new epoch against the last one's baseline, by McNemar on all pairs that both judged.

Another fingerprint, constitution or gold file begins a new epoch and the old stream ends. What is left out: asking
(`flows/stages/drift_judge.py`), and by how much principles differ.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from scipy.special import betaincinv

from evaluation.bounds import spent
from evaluation.drift_record import Reading, missing
from evaluation.drift_tests import Flipped, mcnemar, mcnemar_detectable, mcnemar_false_alarms
from evaluation.e_cusum import ARL, HORIZON, detectable_drop, false_alarms, watch
from evaluation.intervals import proportion, wilson
from ratify.types import Record

Answers = Mapping[str, float | None]
"""Gold pair → the judge's log-odds for the better reply; None where it gave no label."""

PROMISE = 0.8
"""Confidence of the lower bound that the stream is held against."""
FLOOR = 0.02
"""A shift in agreement below this is no alarm, however sure it is."""
NOISE = 0.04
"""Share of pairs that a steady judge is taken to change, for the rates that are printed, when none has changed."""
SIMULATED_VALUES = 2000
"""Length of the streams on which false alarms are measured."""


class JudgeCheck(Record):
    """One line of a run's drift history."""

    number: int = Field(ge=1)
    kind: Literal["baseline", "slice"]
    seat: str = ""
    """The judge's name in a panel."""
    time: str
    code: str = ""
    round: int | None = None
    judge: str
    """Fingerprint."""
    constitution: str
    gold: str
    """Hash of the gold file."""
    answers: dict[str, float | None]

    @property
    def epoch(self) -> tuple[str, str, str]:
        """What must stay the same for figures to be compared."""
        return self.judge, self.constitution, self.gold


def slice_of(pairs: Sequence[str], number: int, size: int) -> list[str]:
    """The pairs of check `number` (0, 1, …): disjoint slices of a seeded shuffle, which is drawn anew when used up."""
    size = min(size, len(pairs))
    turns = max(1, len(pairs) // max(1, size))
    order = sorted(pairs)
    random.Random(number // turns).shuffle(order)
    start = (number % turns) * size
    return order[start : start + size]


def present_epoch(history: Sequence[JudgeCheck]) -> list[JudgeCheck]:
    """The last baseline and the slices since."""
    begins = [index for index, check in enumerate(history) if check.kind == "baseline"]
    return list(history[begins[-1] :]) if begins else []


def last_epoch(history: Sequence[JudgeCheck]) -> JudgeCheck | None:
    """The baseline before the present one."""
    return next(iter([check for check in history if check.kind == "baseline"][-2:-1]), None)


def promised(baseline: Answers, confidence: float = PROMISE) -> float:
    """What agreement the epoch's judge is held to: the one-sided lower bound of Clopper and Pearson (1934)."""
    right = _right(baseline)
    hits = sum(right.values())
    return float(betaincinv(hits, len(right) - hits + 1, 1 - confidence)) if hits else 0.0


def judge_readings(history: Sequence[JudgeCheck], alpha: float = 0.05, threshold: float = ARL) -> list[Reading]:
    """What the history of a run's judge says now; a pure function of it."""
    epoch = present_epoch(history)
    if not epoch:
        return [missing("judge", "agreement with gold", "the judge has not been asked about gold yet")]
    baseline, slices = epoch[0], epoch[1:]
    if not _right(baseline.answers):
        return [missing("judge", "agreement with gold", "the judge labelled no gold pair of its baseline")]
    found: list[Reading | None] = [_agreement(baseline)]
    before = last_epoch(history)
    if before is not None and not slices:
        found.append(_between_epochs(before, baseline, alpha))
    if slices:
        found.append(_silence(slices[-1]))
        found.append(_retest(baseline, slices, alpha))
        found.append(_stream(baseline, slices, threshold))
    return [reading for reading in found if reading is not None]


def _agreement(baseline: JudgeCheck) -> Reading:
    right = _right(baseline.answers)
    share = proportion(sum(right.values()), len(right))
    text = (
        f"The epoch's judge agreed with gold on {share.value:.1%} of {len(right)} pairs, "
        f"since {baseline.time[:10]}; it is held to {promised(baseline.answers):.1%}."
    )
    return Reading(
        part="judge", name="baseline", state="steady", text=text, value=share.value, low=share.low, high=share.high,
        n=len(right),
    )  # fmt: skip


def _silence(check: JudgeCheck, most: float = 0.05) -> Reading | None:
    """Verdicts that the judge did not give cannot be called steady."""
    silent = sum(lead is None for lead in check.answers.values())
    if silent <= most * len(check.answers):
        return None
    told = f"{silent} of {len(check.answers)} gold pairs have no label, at most {most:.0%} may"
    return missing("judge", "answers", told)


def _retest(baseline: JudgeCheck, slices: Sequence[JudgeCheck], alpha: float) -> Reading:
    found = _compared(baseline.answers, slices[-1].answers)
    name, level = "check against the epoch's baseline", spent(alpha, len(slices))
    if found is None:
        return missing("judge", name, "no pair was labelled both times")
    return _flips(name, found, level, f"check {len(slices)} of this epoch, level {level:.4f}")


def _between_epochs(before: JudgeCheck, baseline: JudgeCheck, alpha: float) -> Reading:
    found = _compared(before.answers, baseline.answers)
    name = "new epoch against the last one"
    changed = [
        what
        for what, was, now in zip(("judge", "constitution", "gold"), before.epoch, baseline.epoch, strict=True)
        if was != now
    ]
    why = f"another {' and another '.join(changed)}" if changed else "a new epoch was asked for"
    if found is None:
        text = f"{why.capitalize()}; no pair was judged by both, so the two cannot be compared, and streams start anew."
        return Reading(part="judge", name=name, state="new epoch", text=text)
    reading = _flips(name, found, alpha, why)
    return reading if reading.state == "drift" else reading.model_copy(update={"state": "new epoch"})


def _flips(name: str, found: Flipped, level: float, context: str) -> Reading:
    shift = (found.won - found.lost) / found.pairs
    changed = (found.won + found.lost) / found.pairs
    drifted = found.p_value <= level and abs(shift) >= FLOOR
    noise = changed if changed > 0 and not drifted else NOISE
    low, high = wilson(found.won + found.lost, found.pairs)
    text = (
        f"Of {found.pairs} gold pairs {found.lost} were right before and are wrong now, {found.won} the other way "
        f"round ({changed:.1%} changed, {low or 0:.1%} to {high or 1:.1%}); exact McNemar p = {found.p_value:.4f} "
        f"({context})."
    )
    return Reading(
        part="judge", name=name, state="drift" if drifted else "steady", text=text, value=shift, n=found.pairs,
        p_value=found.p_value, limit=level,
        false_alarms=mcnemar_false_alarms(found.pairs, round(noise, 3), level),
        false_alarms_from=f"2,000 simulated checks of {found.pairs} pairs, {noise:.1%} changing by chance",
        detectable=mcnemar_detectable(found.pairs, round(noise, 3), level),
    )  # fmt: skip


def _stream(baseline: JudgeCheck, slices: Sequence[JudgeCheck], threshold: float) -> Reading:
    least = promised(baseline.answers)
    values = [float(right) for check in slices for right in _right(check.answers).values()]
    found = watch(values, least, threshold)
    share = proportion(int(sum(values)), len(values)) if values else None
    where = f", first at value {found.alarm_at}" if found.alarm_at else ""
    text = (
        f"e-CUSUM over {len(values)} judged gold pairs of {len(slices)} checks: {found.evidence:.3g} now, "
        f"{found.highest:.3g} at most, alarm at {threshold:g}{where}; agreement "
        + (f"{share.value:.1%}, held to {least:.1%}." if share else "unknown.")
    )
    horizon, rounded = HORIZON, round(least, 3)
    return Reading(
        part="judge", name="stream of the epoch", state="drift" if found.alarm_at else "steady", text=text,
        value=share.value if share else None, low=share.low if share else None, high=share.high if share else None,
        n=len(values), limit=threshold,
        false_alarms=false_alarms(rounded, threshold, SIMULATED_VALUES),
        false_alarms_from=f"400 simulated streams of {SIMULATED_VALUES:,} values at the promised agreement",
        detectable=detectable_drop(rounded, threshold, horizon),
    )  # fmt: skip


def _right(answers: Answers) -> dict[str, bool]:
    """Of the pairs that have a label, whether it leans to the better reply; exactly even is not right."""
    return {pair: lead > 0 for pair, lead in answers.items() if lead is not None}


def _compared(before: Answers, now: Answers) -> Flipped | None:
    was, is_now = _right(before), _right(now)
    both = [pair for pair in is_now if pair in was]
    return mcnemar([was[pair] for pair in both], [is_now[pair] for pair in both]) if both else None
