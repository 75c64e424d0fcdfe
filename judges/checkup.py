"""A judge's examination on gold: agreement, biases, probes, and whether it is fit; a pure function of its verdicts.

Gold pairs and their tampered twins are asked in one questionnaire, as any other pairs are. Left out: asking
(`flows/stages/judge_check.py`) and showing (`flows/judge_cli.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from judges.bias import JudgeBias, measure_bias, two_orders
from judges.fitness import Fitness, Limits, assess
from judges.gold import Gold, GoldAgreement, gold_agreement
from judges.probes import Probe, ProbeResult, make_probes, probe_results
from judges.questions import Pair, Questionnaire
from ratify.intervals import STANDARD, Resampling
from ratify.model_family import model_family
from ratify.types import Completion, Label, Protocol, Record, Verdict


class Examination(NamedTuple):
    """What a judge is asked."""

    gold: Gold
    probes: list[Probe]

    @property
    def pairs(self) -> list[Pair]:
        """The gold pairs, then the tampered ones."""
        return [*self.gold.pairs, *(probe.after for probe in self.probes)]


class Checkup(Record):
    """What came of it."""

    judge: str
    """The judge's fingerprint."""
    protocol: Protocol
    agreement: GoldAgreement
    biases: tuple[JudgeBias, ...]
    """By principle; slopes beside the reply's quality as gold gives it."""
    probes: tuple[ProbeResult, ...]
    verdicts: int
    """Verdicts that were needed."""
    failed: int
    """Of these, missing ones."""
    fitness: Fitness


class Subject(NamedTuple):
    """Who is examined."""

    fingerprint: str
    protocol: Protocol
    model: str = ""
    """Its model's name, which its family is read off; empty without one."""


def write_examination(gold: Gold, pairs: int, probed: int, seed: int) -> Examination:
    """Draw `pairs` gold pairs, and tamper with the worse replies of `probed` of them."""
    drawn = gold.drawn(pairs, seed)
    return Examination(drawn, make_probes(gold.drawn(min(probed, pairs), seed).pairs, drawn.better()))


def examine(
    examination: Examination,
    sheet: Questionnaire,
    labels: Sequence[Label],
    verdicts: Mapping[str, Verdict],
    subject: Subject,
    *,
    limits: Limits,
    ceiling: float | None = None,
    how: Resampling = STANDARD,
) -> Checkup:
    """Compute everything from the labels of `examination.pairs`, in their order, and the verdicts behind them."""
    gold = examination.gold
    agreement = gold_agreement(gold, labels[: len(gold.pairs)], ceiling, how)
    biases = measure_biases(gold, sheet, verdicts, subject, how)
    leads = {(label.a_id, label.b_id): label.margin for label in labels if label.margin is not None}
    probes = probe_results(examination.probes, leads, how)
    failed = sum(key not in verdicts for key in sheet.questions)
    share = failed / max(1, len(sheet.questions))
    return Checkup(
        judge=subject.fingerprint, protocol=subject.protocol, agreement=agreement, biases=tuple(biases),
        probes=tuple(probes), verdicts=len(sheet.questions), failed=failed,
        fitness=assess(subject.protocol, agreement.overall, biases, probes, limits, failed=share),
    )  # fmt: skip


def measure_biases(
    gold: Gold, sheet: Questionnaire, verdicts: Mapping[str, Verdict], subject: Subject, how: Resampling = STANDARD
) -> list[JudgeBias]:
    """Biases on the gold pairs of a questionnaire, principle by principle."""
    own_family = model_family(subject.model) if subject.model else None

    def own(completion: Completion) -> bool:
        author = gold.authors.get(completion.id)
        return author is not None and model_family(author) == own_family

    names = dict.fromkeys(name for keys in sheet.keys for name in keys)
    found = []
    for name in names:
        pairs = two_orders(sheet, verdicts, own=own, quality=gold.quality(name)).get(name)
        if pairs:
            found.append(measure_bias(subject.fingerprint, name, pairs, how, subject.protocol))
    return found
