"""Views gathered in parts are those that `two_orders` finds in one sheet, and so are the biases measured on them."""

from __future__ import annotations

import random

import pytest

from judges.bias import columns_of, measure_bias, two_orders
from judges.model_judge import ModelJudge
from judges.order_table import OrderTable
from judges.questions import Questionnaire
from judges.statistics import OrderCounts, order_statistics
from ratify.intervals import Resampling
from ratify.sections import JudgeSection
from ratify.types import Protocol
from tests.judges.worlds import asked, completion, constitution, many, prompt


@pytest.mark.parametrize("protocol", ["pairwise", "pointwise"])
def test_views_in_parts_are_those_of_one_sheet(protocol: Protocol) -> None:
    dice = random.Random(3)
    rules = constitution("id: p", "id: q, applies_to: {any_regex: ['[02468]$']}")
    prompts = {f"p{number}": prompt(f"p{number}", f"Why {number}") for number in range(12)}
    replies = {
        name: [completion("word " * dice.randint(1, 9) + f"- {name}{place}", f"{name}/{place}", name)
               for place in range(3)]
        for name in prompts
    }  # fmt: skip
    pairs = [(each[i], each[j]) for each in replies.values() for i, j in ((0, 1), (0, 2), (1, 2))]
    judge = ModelJudge(JudgeSection(model="m", protocol=protocol), model_hash="m")
    sheet = asked(judge, rules, prompts, pairs)
    verdicts = {key: question.verdict("j", logit=dice.gauss(0.5, 1)) for key, question in sheet.questions.items()}
    for lost in dice.sample(sorted(verdicts), 5):
        del verdicts[lost]
    table, counts = OrderTable(), OrderCounts()
    for start in range(0, len(pairs), 9):
        rows = slice(start, start + 9)
        part = Questionnaire({}, sheet.pairs[rows], sheet.keys[rows])
        table.add(part, verdicts)
        counts.add(part.keys, verdicts)
    whole = two_orders(sheet, verdicts)
    assert table.principles == list(whole) == ["p", "q"]
    for name, views in whole.items():
        found, expected = table.columns(name), columns_of(views)
        assert len(found) == len(views) < len(pairs)
        assert found.values.tolist() == expected.values.tolist()
        how = Resampling(draws=50)
        assert measure_bias("j", name, found, how, protocol) == measure_bias("j", name, views, how, protocol)
    assert counts.statistics() == order_statistics(sheet.keys, verdicts)


def test_of_very_many_prompts_some_are_drawn_whole_whatever_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 prompts about 100: within five standard deviations of a binomial, 8.7 each."""
    monkeypatch.setattr("judges.order_table.MOST_PROMPTS", 100)
    prompts, pairs = many(400)
    judge = ModelJudge(JudgeSection(model="m", protocol="pairwise"), model_hash="m")
    sheet = asked(judge, constitution("id: p"), prompts, pairs)
    verdicts = {key: question.verdict("j", logit=1.0) for key, question in sheet.questions.items()}
    sizes = set()
    for size in (7, 400):
        table = OrderTable(len(prompts))
        for start in range(0, 400, size):
            rows = slice(start, start + size)
            table.add(Questionnaire({}, sheet.pairs[rows], sheet.keys[rows]), verdicts)
        sizes.add(len(table.columns("p")))
    (drawn,) = sizes
    assert 57 < drawn < 143
