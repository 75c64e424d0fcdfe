"""Biases by hand, and on synthetic judges whose biases are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from judges.bias import (
    TwoOrders,
    bias_metrics,
    controlled_leads,
    format_gap,
    length_gap,
    measure_bias,
    partial_slopes,
    position_bias,
    require_fair,
    sign_test,
    two_orders,
)
from judges.questions import Question
from ratify.errors import BudgetError
from ratify.intervals import Estimate, EvidenceError, Resampling
from ratify.sections import JudgeSection
from ratify.types import Verdict
from tests.judges.synthetic_judges import Truth, judged
from tests.judges.worlds import asked, completion, constitution, prompt

QUICK = Resampling(draws=400)


def test_position_bias_by_hand() -> None:
    """Of four pairs two prefer the first position both times, one the second, one follows the reply."""
    pairs = [TwoOrders("p", 2.0, 1.0), TwoOrders("q", 0.5, 0.5), TwoOrders("r", -1.0, -2.0), TwoOrders("s", 3.0, -3.0)]
    found = position_bias(pairs, QUICK)
    assert (found.compared, found.first, found.second) == (4, 2, 1)
    assert found.same_position.value == 0.75
    assert found.order_gap.value == pytest.approx((1.5 + 0.5 - 1.5 + 0.0) / 4)
    # gaps 1.5, .5, −1.5, 0: mean .125, var 4.75/4 − 1/64
    assert found.noise.value == pytest.approx(math.sqrt(2 * (4.75 / 4 - 1 / 64)))
    assert found.sign_p == 1.0  # 2·(1 + 3)/8 = 1


def test_sign_test_by_hand_and_against_scipy() -> None:
    """0 against 6: 2/64."""
    assert sign_test(0, 6) == pytest.approx(2 / 64) and sign_test(0, 0) == 1.0
    for one, other in ((3, 9), (20, 41), (7, 7)):
        assert sign_test(one, other) == pytest.approx(stats.binomtest(one, one + other).pvalue)


def test_slopes_solve_the_normal_equations() -> None:
    pairs = judged(Truth(format=2.0, family=0.5), seed=3)
    design = np.array([[pair.quality, pair.length, pair.format, pair.family] for pair in pairs])
    leads = np.array([(pair.a_first - pair.b_first) / 2 for pair in pairs])
    expected, *_ = np.linalg.lstsq(design, leads, rcond=None)
    found = partial_slopes(pairs, QUICK)
    assert [found[name].value for name in ("quality", "length", "format", "family")] == pytest.approx(list(expected))


def test_swapping_the_replies_changes_no_bias() -> None:
    pairs = judged(Truth(), seed=5)
    swapped = [TwoOrders(p.prompt_id, p.b_first, p.a_first, -p.length, -p.format, -p.family, -p.quality) for p in pairs]
    one, other = (measure_bias("j", "p", each, QUICK) for each in (pairs, swapped))
    assert one.position == other.position
    assert one.length is not None and other.length is not None
    assert one.length.value == pytest.approx(other.length.value)


def test_controlled_leads_no_longer_depend_on_length() -> None:
    pairs = judged(Truth(format=1.0, family=0.5), seed=4)
    bias = measure_bias("j", "p", pairs, QUICK)
    leads = controlled_leads(pairs, bias)
    again = [pair._replace(a_first=lead, b_first=-lead) for pair, lead in zip(pairs, leads, strict=True)]
    slopes = partial_slopes(again, QUICK)
    assert [slopes[name].value for name in ("length", "format", "family")] == pytest.approx([0, 0, 0], abs=1e-9)
    assert bias.quality is not None and slopes["quality"].value == pytest.approx(bias.quality.value)


def test_metrics_name_the_principle() -> None:
    found = bias_metrics([measure_bias("j", "polite", [TwoOrders("p", 2.0, 1.0, length=0.5)], QUICK)])
    assert found == {
        "label/bias/polite/same_position_rate": 1.0,
        "label/bias/polite/order_gap": 1.5,
        "label/bias/polite/sign_p": 1.0,
        "label/bias/polite/noise": 0.0,
        "label/bias/polite/length_slope": 1.0,
    }


def test_what_never_varies_has_no_slope() -> None:
    found = measure_bias("j", "p", [pair._replace(quality=0.0, family=0.0) for pair in judged(Truth(), 1)], QUICK)
    assert found.quality is None and found.family is None and found.length is not None


def test_without_quality_the_length_slope_holds_what_long_replies_deserve() -> None:
    pairs = judged(Truth(length=0.0), seed=2)
    partial = partial_slopes(pairs, QUICK)["length"]
    alone = partial_slopes([pair._replace(quality=0.0) for pair in pairs], QUICK)["length"]
    assert abs(partial.value) < 0.2 and alone.value > 0.5


def test_covariates_that_depend_on_each_other_have_no_slope() -> None:
    pairs = [pair._replace(format=2 * pair.length, family=0.0) for pair in judged(Truth(), 1)]
    assert partial_slopes(pairs, QUICK) == {}


def test_no_pair_in_both_orders_is_no_evidence() -> None:
    with pytest.raises(EvidenceError):
        position_bias([], QUICK)


def holds(found: Estimate | None, truth: float) -> bool:
    assert found is not None and found.low is not None and found.high is not None
    return found.low <= truth <= found.high


def same_position_rate(truth: Truth) -> float:
    """The rate that a synthetic judge converges to, from many pairs."""
    pairs = judged(truth, seed=10_000, prompts=60_000)
    scores = np.array([[pair.a_first, pair.b_first] for pair in pairs])
    return float((scores[:, 0] * scores[:, 1] > 0).mean())


def test_known_biases_lie_within_their_intervals_in_at_least_90_of_100_seeds() -> None:
    truth = Truth(position=0.4, length=0.8, format=1.0, family=0.3, noise=1.0)
    rate = same_position_rate(truth)
    hits = dict.fromkeys(("same_position", "order_gap", "noise", "quality", "length", "format", "family"), 0)
    for seed in range(100):
        found = measure_bias("j", "p", judged(truth, seed), QUICK)
        hits["same_position"] += holds(found.position.same_position, rate)
        hits["order_gap"] += holds(found.position.order_gap, truth.position)
        hits["noise"] += holds(found.position.noise, truth.noise)
        for name in ("quality", "length", "format", "family"):
            hits[name] += holds(getattr(found, name), getattr(truth, name))
    assert all(count >= 90 for count in hits.values()), hits


def test_a_fair_judge_is_not_found_biased_more_often_than_the_interval_says() -> None:
    truth = Truth(position=0.0, length=0.0)
    worlds = [[pair._replace(format=0.0, family=0.0) for pair in judged(truth, 500 + seed)] for seed in range(100)]
    found = [measure_bias("j", "p", pairs, QUICK) for pairs in worlds]
    assert sum(holds(each.position.order_gap, 0.0) for each in found) >= 90
    assert sum(holds(each.length, 0.0) for each in found) >= 90
    assert sum(each.position.sign_p < 0.05 for each in found) <= 10


def bias_of(rate: float, pairs: int) -> list[TwoOrders]:
    same = round(rate * pairs)
    return [TwoOrders(f"p{number}", 1.0, 1.0 if number < same else -1.0) for number in range(pairs)]


def test_a_judge_over_40_percent_same_position_is_refused_by_default() -> None:
    limit = JudgeSection(model="m").max_same_position
    assert limit == 0.4
    require_fair(measure_bias("j", "p", bias_of(0.40, 100), QUICK), limit)
    with pytest.raises(BudgetError, match=r"41% of 100 pairs .* judge\.max_same_position = 0\.4"):
        require_fair(measure_bias("j", "p", bias_of(0.41, 100), QUICK), limit)
    require_fair(measure_bias("j", "p", bias_of(1.0, 100), QUICK), 1.0)


def test_a_few_pairs_refuse_nobody() -> None:
    require_fair(measure_bias("j", "p", bias_of(1.0, 19), QUICK), 0.4)


def test_gaps_by_hand() -> None:
    assert length_gap("one two three", "one") == pytest.approx(math.log(4 / 2))
    assert format_gap("# Title\n- one\n- two", "plain text") == pytest.approx(3 / 7)
    assert format_gap("**bold** word", "**bold** word") == 0.0


class Shown:
    """A judge that only writes questions."""

    protocol = "pairwise"

    def abstains(self, principle: object) -> bool:
        return False

    def key(self, principle: object, prompt: object, first: object, second: object) -> str:
        return f"{first.id}|{second.id}"  # type: ignore[attr-defined]


def test_verdicts_become_pairs_in_both_orders() -> None:
    a, b, c = completion("a long reply here", "a"), completion("short", "b"), completion("other", "c")
    sheet = asked(Shown(), constitution("id: p"), {"p": prompt()}, [(a, b), (a, c)])
    verdicts = {key: answered(question, 2.0 if key == "a|b" else -1.0) for key, question in sheet.questions.items()}
    del verdicts["c|a"]
    (found,) = two_orders(sheet, verdicts, own=lambda each: each.id == "b")["p"]
    assert (found.prompt_id, found.a_first, found.b_first, found.family) == ("p", 2.0, -1.0, -1.0)
    assert found.length == pytest.approx(math.log(5 / 2))
    assert two_orders(sheet, verdicts, quality={}) == {}
    assert two_orders(sheet, verdicts, quality={("a", "b"): 1.0})["p"][0].quality == 1.0


def answered(question: Question, logit: float) -> Verdict:
    return question.verdict("j", logit=logit)
