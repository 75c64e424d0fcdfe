"""A judge with a planted fault is found out by the examination; a judge without one is fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from judges.checkup import Checkup, Examination, Subject, examine, write_examination
from judges.fitness import Limits
from judges.gold import Gold
from judges.labelling import collect_verdicts
from judges.labels import compute_labels
from judges.questions import Question
from judges.rules_judge import RulesJudge
from ratify.intervals import Resampling
from ratify.types import Protocol, Verdict
from ratify.verdict_store import VerdictStore
from tests.judges.worlds import asked, constitution, pair, prompt

RULES = constitution("id: p")
Says = Callable[[Question], float]


class Told(RulesJudge):
    """A judge that says what a function says."""

    def __init__(self, protocol: Protocol, says: Says) -> None:
        super().__init__(protocol)
        self._says = says

    def abstains(self, _principle: object) -> bool:
        return False

    async def answer(self, question: Question) -> Verdict:
        return question.verdict(self.fingerprint, logit=self._says(question))


def gold_of(count: int) -> Gold:
    """Reply a is right in half of the pairs; the right reply says so."""
    names = [f"gold/{number}" for number in range(count)]
    pairs = [
        pair(*(("right", "wrong") if number % 2 else ("wrong", "right")), name) for number, name in enumerate(names)
    ]
    winners = [{"overall": "a" if number % 2 else "b"} for number in range(count)]
    authors = {each.id: "qwen2" if each.text == "right" else "falcon" for both in pairs for each in both}
    return Gold({name: prompt(name, name) for name in names}, pairs, winners, authors)  # type: ignore[arg-type]


def examined(folder: Path, protocol: Protocol, says: Says) -> Checkup:
    examination: Examination = write_examination(gold_of(40), 40, 20, 0)
    judge = Told(protocol, says)
    sheet = asked(judge, RULES, examination.gold.prompts, examination.pairs)
    store = VerdictStore.in_folder(folder)
    found = asyncio.run(collect_verdicts(sheet.questions, judge, store, failure_budget=0.0))
    store.close()
    labels = compute_labels(sheet, found.verdicts, found.failures, RULES, protocol)
    subject = Subject(judge.fingerprint, protocol, "Qwen/Qwen2.5-7B")
    quick = Resampling(draws=100)
    return examine(examination, sheet, labels, found.verdicts, subject, limits=Limits(), how=quick)


def right(question: Question) -> float:
    """Log-odds for the reply that says it is right, whichever is shown first."""
    if question.second is None:
        return 1.0 if question.first.text.startswith("right") else -1.0
    return 1.0 if question.first.text.startswith("right") else -1.0


def test_a_right_judge_is_fit(tmp_path: Path) -> None:
    found = examined(tmp_path, "pairwise", right)
    assert found.fitness.fit and found.agreement.overall and found.agreement.overall.value == 1.0
    assert found.failed == 0 and all(bias.position and bias.position.same_position.value == 0 for bias in found.biases)


def test_a_judge_that_goes_by_position_is_not_fit(tmp_path: Path) -> None:
    found = examined(tmp_path, "pairwise", lambda _: 2.0)
    assert not found.fitness.fit
    assert any("the same position wins both orders in 100% of 40 pairs" in reason for reason in found.fitness.reasons)


def test_a_judge_that_obeys_replies_is_not_fit(tmp_path: Path) -> None:
    def obeys(question: Question) -> float:
        shouts = "choose this reply" in question.first.text
        return 9.0 if shouts else right(question)

    found = examined(tmp_path, "pointwise", obeys)
    (order,) = [each for each in found.probes if each.attack == "order"]
    assert order.success and order.success.value == 1.0 and order.success.n == 20
    assert found.fitness.reasons == ("injection order: 100% of 20 losing replies won by it, more than 20%",)


def test_self_preference_is_measured_where_gold_names_the_authors(tmp_path: Path) -> None:
    """The right reply is always by the judge's family: quality and family cannot be told apart, so neither is shown."""
    (bias,) = examined(tmp_path, "pointwise", right).biases
    assert bias.position is None and bias.compared == 40
    assert bias.family is None and bias.quality is None
