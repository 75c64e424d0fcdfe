"""The read-out, by hand: log-odds are differences of log-sums over variants, and a missing answer is a failure."""

from __future__ import annotations

import math
from math import log

import pytest

from judges.readouts.first_token import A_B, YES_NO, logsumexp, read_first_token
from ratify.types import Failure


def test_variants_of_an_answer_are_summed() -> None:
    """P(yes) = .5 + .2 = .7, P(no) = .1 + .1 = .2: log-odds log(.7/.2), coverage .9."""
    first = {"Yes": log(0.5), " yes": log(0.2), "No": log(0.1), " No": log(0.1), "Maybe": log(0.1)}
    read = read_first_token(first, YES_NO, 0.5)
    assert read.logit == pytest.approx(log(0.7 / 0.2)) and read.coverage == pytest.approx(0.9)
    assert read.failure is None


def test_letters_in_brackets_and_after_spaces_count() -> None:
    first = {"(A": log(0.3), " A": log(0.1), "B": log(0.5), "An": log(0.1)}
    read = read_first_token(first, A_B, 0.5)
    assert read.logit == pytest.approx(log(0.4 / 0.5)) and read.coverage == pytest.approx(0.9)


def test_swapping_the_probabilities_changes_the_sign() -> None:
    one = read_first_token({"A": log(0.8), "B": log(0.1)}, A_B, 0.5)
    other = read_first_token({"B": log(0.8), "A": log(0.1)}, A_B, 0.5)
    assert one.logit is not None and other.logit == pytest.approx(-one.logit)


def test_an_unlisted_answer_gets_the_smaller_of_two_bounds() -> None:
    """Listed .9 and .06; .04 is left, which is less than .06: log-odds log(.9/.04)."""
    assert read_first_token({"Yes": log(0.9), "Hm": log(0.06)}, YES_NO, 0.5).logit == pytest.approx(log(0.9 / 0.04))
    # Listed .9 and .01; .09 is left, but what is not listed has at most .01.
    assert read_first_token({"No": log(0.9), "Hm": log(0.01)}, YES_NO, 0.5).logit == pytest.approx(log(0.01 / 0.9))


def test_vllm_s_minus_9999_is_no_probability() -> None:
    read = read_first_token({"Yes": log(0.99), "No": -9999.0}, YES_NO, 0.5)
    assert read.logit == pytest.approx(log(0.99 / 0.01))


@pytest.mark.parametrize("first", [None, {}])
def test_no_log_probabilities(first: dict[str, float] | None) -> None:
    assert read_first_token(first, YES_NO, 0.5) == (None, None, Failure.NO_LOGPROBS)


@pytest.mark.parametrize("value", [math.nan, 0.5])
def test_what_is_no_log_probability_is_a_parse_error(value: float) -> None:
    assert read_first_token({"Yes": log(0.5), "No": value}, YES_NO, 0.5).failure is Failure.PARSE_ERROR


def test_low_coverage_is_a_failure_and_says_how_low() -> None:
    read = read_first_token({"Yes": log(0.2), "No": log(0.1), "The": log(0.7)}, YES_NO, 0.5)
    assert read.failure is Failure.LOW_COVERAGE and read.logit is None and read.coverage == pytest.approx(0.3)
    assert read_first_token({"The": 0.0}, YES_NO, 0.0).failure is Failure.LOW_COVERAGE


def test_logsumexp_against_the_plain_sum() -> None:
    assert logsumexp([log(0.1), log(0.2), log(0.3)]) == pytest.approx(log(0.6))
    assert logsumexp([-800.0, -800.0]) == pytest.approx(-800.0 + log(2.0))
    assert logsumexp([]) == -math.inf
