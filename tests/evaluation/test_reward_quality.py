"""Calibration, the gap to gold and the pull of length against plain loops and a regression with a dummy a prompt."""

import numpy as np
import pytest

from evaluation.anchor_nll import anchor_nll
from evaluation.intervals import EvidenceError, Resampling
from evaluation.repeats import floor_of_distance, floor_of_scores, repeated_figures
from evaluation.report import Evidence, ScoredReply
from evaluation.reward_quality import (
    FreshPair,
    calibration_by_chance,
    expected_calibration_error,
    length_correlation,
    proxy_gold,
)
from evaluation.summary import summarise
from ratify.types import Completion
from tests.evaluation.test_form import reply

HOW = Resampling(draws=200)


def test_calibration_error_of_one_bin_by_hand() -> None:
    """All gaps ln 3, so P = 0.75; 50 of 100 win: the error is 0.25, whichever reply is named first."""
    pairs = [FreshPair(f"p{k}", np.log(3), k % 2 == 0) for k in range(100)]
    turned = [FreshPair(pair.prompt_id, -pair.gap, not pair.a_wins) for pair in pairs]
    assert expected_calibration_error(pairs, HOW).value == pytest.approx(0.25)
    assert expected_calibration_error(turned, HOW).value == pytest.approx(0.25)


def test_a_calibrated_model_has_the_error_that_chance_makes() -> None:
    generator = np.random.default_rng(0)
    gaps = generator.normal(0, 1.5, 4000)
    won = generator.random(4000) < 1 / (1 + np.exp(-gaps))
    pairs = [FreshPair(f"p{k}", gap, bool(w)) for k, (gap, w) in enumerate(zip(gaps, won, strict=True))]
    found, chance = expected_calibration_error(pairs, HOW), calibration_by_chance(pairs, 50)
    assert found.value == pytest.approx(chance, abs=0.012) and chance < 0.03
    with pytest.raises(EvidenceError, match="needed"):
        expected_calibration_error(pairs[:10], HOW)


def test_the_gap_is_what_the_proxy_sees_beyond_gold() -> None:
    ids = [(f"a{k}", f"b{k}") for k in range(40)]
    prompts = {pair: f"p{k // 2}" for k, pair in enumerate(ids)}
    found = proxy_gold(dict.fromkeys(ids, 1.0), {pair: k % 2 for k, pair in enumerate(ids)}, prompts, HOW)
    assert (found.proxy.value, found.gold.value, found.gap.value) == (1.0, 0.5, 0.5)
    with pytest.raises(EvidenceError, match="both know"):
        proxy_gold({ids[0]: 1.0}, {}, prompts, HOW)


def rewarded() -> tuple[list[Completion], dict[str, float], dict[str, float]]:
    """Rewards of 0.8 ln(words) + 0.5 quality + prompt + noise; quality and length go together."""
    generator = np.random.default_rng(1)
    replies, rewards, quality = [], {}, {}
    for prompt in range(60):
        base = generator.normal(0, 5)
        for index in range(4):
            good = float(generator.integers(0, 4))
            words = 5 + int(4 * good + generator.integers(0, 20))
            each = reply("word " * words, f"p{prompt}", index=index)
            replies.append(each)
            quality[each.id] = good
            rewards[each.id] = float(base + 0.8 * np.log(words) + 0.5 * good + generator.normal(0, 0.4))
    return replies, rewards, quality


def test_partial_correlation_is_that_of_regression_residuals() -> None:
    replies, rewards, quality = rewarded()
    dummies = np.array([[float(each.prompt_id == f"p{k}") for k in range(60)] for each in replies])
    design = np.column_stack([dummies, [quality[each.id] for each in replies]])
    columns = [[rewards[each.id] for each in replies], [np.log(len(each.text.split())) for each in replies]]
    left = [np.array(c) - design @ np.linalg.lstsq(design, np.array(c), rcond=None)[0] for c in columns]
    expected = float(np.corrcoef(*left)[0, 1])
    found = length_correlation(replies, rewards, quality, HOW)
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert found.low is not None and found.low < expected < (found.high or 0) and found.clusters == 60
    assert length_correlation(replies, rewards, {}, HOW).value > expected, "quality explains part of it"


def test_one_reply_a_prompt_or_equal_rewards_have_no_correlation_within_prompts() -> None:
    replies, rewards, quality = rewarded()
    with pytest.raises(EvidenceError, match="needed"):
        length_correlation(replies[::4], rewards, quality, HOW)
    with pytest.raises(EvidenceError, match="not defined"):
        length_correlation(replies, dict.fromkeys(rewards, 1.0), {}, HOW)


def scored(number: int, tokens: int, new: float, old: float) -> ScoredReply:
    return ScoredReply(completion_id=f"anchor/{number}", tokens=tokens, log_new=new, log_reference=old)


def test_surprise_is_nats_over_tokens_of_all_lines() -> None:
    """(6 + 8) / (2 + 5) = 2 under the new policy, (3 + 4) / 7 = 1 under the old one."""
    found = anchor_nll([scored(0, 2, -6.0, -3.0), scored(1, 5, -8.0, -4.0)], HOW)
    assert (found.old.value, found.new.value, found.difference.value) == (1.0, 2.0, 1.0)
    with pytest.raises(EvidenceError, match="no line"):
        anchor_nll([], HOW)
    with pytest.raises(EvidenceError, match="no finite"):
        anchor_nll([scored(0, 2, float("nan"), -3.0)], HOW)


def test_repeats_have_the_spread_of_their_own_figures(evidence: Evidence) -> None:
    from dataclasses import replace

    shifted = [[each.model_copy(update={"text": each.text + " more" * k}) for each in evidence.new] for k in range(4)]
    found = repeated_figures(replace(evidence, repeats=shifted))
    means = [np.mean([len(each.text.split()) for each in replies]) for replies in shifted]
    assert found["evaluate/words/new"].values == pytest.approx(means)
    assert found["evaluate/words/new"].spread == pytest.approx(np.std(means, ddof=1))
    assert "evaluate/distinct_2/new" in found and not any(key.endswith("/old") for key in found)
    assert repeated_figures(replace(evidence, repeats=shifted[:1])) == {}, "one repeat has no spread"


def test_the_floor_of_mmd_is_the_distance_of_one_policy_from_itself(evidence: Evidence) -> None:
    from dataclasses import replace

    assert floor_of_distance(evidence) is None
    same = floor_of_distance(replace(evidence, repeats=[evidence.new, evidence.new]))
    assert same == 0.0
    turned = [each.model_copy(update={"text": "quite other words " + each.id}) for each in evidence.new]
    apart = floor_of_distance(replace(evidence, repeats=[evidence.new, turned]))
    assert apart is not None and apart > 0.3, "half the distance to replies without a word in common"


def test_the_floor_of_kl_is_zero_for_equal_scores_and_grows_with_what_engines_disagree_by() -> None:
    once = {f"r{k}": -10.0 - k for k in range(100)}
    assert floor_of_scores(once, once) == 0.0
    again = {name: value + 0.1 for name, value in once.items()}
    assert floor_of_scores(once, again) == pytest.approx(np.exp(0.1) - 1 - 0.1)
    assert floor_of_scores(once, {}) is None


def test_the_report_holds_every_new_figure_and_names_what_is_missing(evidence: Evidence) -> None:
    report = summarise(evidence)
    for key in ("evaluate/form.bullets/difference", "reward_model/reward_ece/heldout", "evaluate/proxy_gold.judge/gap",
                "evaluate/proxy_gold.reward_model/gap", "reward_model/reward_length/within_prompts"):  # fmt: skip
        assert report.metrics[key].n > 0 and report.metrics[key].low is not None
    assert {"anchor_nll", "over_refusal"} <= report.missing.keys()
    assert report.repeated_samples == {} and report.repeated_scores is None
