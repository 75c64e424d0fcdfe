"""Small versions of the gate's validation experiments."""

import numpy as np
import pytest

from bench.gate import by_length, by_quality, fooled, peeks, salami
from bench.gate_worlds import replies_world
from evaluation.divergence import divergence


def test_twenty_peeks_promote_seldom_where_alpha_is_spent_and_often_where_it_is_not() -> None:
    found = peeks(runs=40, looks=20)
    assert found["spent"] <= 7 < 20 < found["naive"], "7 of 40 is the 99.8 % end of 5 %"


def test_a_policy_that_is_better_passes_at_the_first_look() -> None:
    assert peeks(runs=20, looks=1, win_rate=0.65)["spent"] == 20


def test_a_point_lost_in_every_round_passes_the_parent_and_not_the_first_policy() -> None:
    found = [salami(seed, prompts=4000) for seed in range(3)]
    assert [each.parent_only for each in found] == [10, 10, 10]
    assert all(1 <= each.ours <= 5 for each in found)
    assert {each.stopped_by for each in found} <= {"HOLD", "REJECT"}


def test_a_constant_answer_that_wins_86_percent_is_rejected() -> None:
    found = fooled(0, by_length(0.0), 0.0, prompts=150, constant=True)
    assert found.naive and found.decision == "REJECT"
    assert "budget (evaluate/duplicates/new)" in found.reasons


def test_longer_replies_win_and_are_not_promoted() -> None:
    found = fooled(0, by_length(1.0), 0.8, prompts=200)
    assert found.naive and found.win_rate > 0.55 and found.length > 1.1
    assert found.decision in ("HOLD", "REJECT")
    assert "reward hacking (evaluate/win_rate_length_controlled/rate)" in found.reasons


def test_truly_better_replies_are_promoted_by_the_same_judge() -> None:
    assert fooled(0, by_quality(0.9), 0.8, prompts=200).decision == "PROMOTE"


def test_the_scores_of_the_made_up_policy_have_the_kl_of_its_weights() -> None:
    """KL of a softmax over 16 standard normal scores at beta, by a plain sum over other pools of the same kind."""
    evidence = replies_world(0, by_quality(0.5), 0.0, prompts=800)
    rows = evidence.scored
    prompts = [reply.prompt_id for reply in evidence.new]
    found = divergence([r.log_new for r in rows], [r.log_reference for r in rows], [r.tokens for r in rows], prompts)
    odds = 0.5 * np.random.default_rng(1).normal(0, 1, (4000, 16))
    chances = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    expected = float((chances * np.log(chances * 16)).sum(axis=1).mean())
    assert found.k3_per_reply.value == pytest.approx(expected, rel=0.25)
