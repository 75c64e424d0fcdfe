"""Views of a panel: Dawid-Skene, where leads are placed, when a view is settled; by hand and on simulated judges."""

from __future__ import annotations

import numpy as np
import pytest

from judges.aggregate import Evidence, aggregate
from judges.dawid_skene import fit_dawid_skene
from judges.panel_views import place_leads, pool_votes, settled_views, view_leads, votes_of
from tests.judges.worlds import constitution

NAN = np.nan


def test_leads_are_those_of_aggregate() -> None:
    z = np.array([[2.0, -1.0], [NAN, 1.0]])
    assert view_leads(z, "pointwise").tolist()[0] == 3.0 and view_leads(z, "pairwise").tolist()[0] == 1.5
    assert np.isnan(view_leads(z, "pairwise")[1])
    assert votes_of(np.array([0.5, -0.5, 0.0, NAN])).tolist() == [0, 1, -1, -1]


def test_a_placed_lead_is_read_as_that_lead() -> None:
    leads = np.array([1.5, -0.7, 0.0, 2.0])
    means = np.array([[1.0, -1.0], [2.0, 1.0], [-1.0, -2.0], [-1.0, 1.0]])
    for protocol in ("pointwise", "pairwise"):
        assert view_leads(place_leads(leads, means, protocol), protocol) == pytest.approx(leads)


def test_a_pointwise_vote_vetoes_only_where_the_judges_say_that_the_loser_breaks_the_principle() -> None:
    rules = constitution("id: p, severity: hard")
    means = np.array([[1.0, -1.0], [2.0, 1.0], [-1.0, -2.0], [-1.0, 1.0]])
    z = place_leads(np.full(4, 1.5), means, "pointwise")
    evidence = Evidence(rules.active, np.full((4, 1), True), z[:, None, :], np.zeros((4, 1), dtype=np.int8))
    made = aggregate(evidence, rules, "pointwise")
    assert made.vetoing[:, 0].tolist() == [True, False, False, False]
    assert made.margin == pytest.approx(np.full(4, 1.5))


def test_dawid_skene_believes_the_judges_that_agree_with_each_other() -> None:
    """Three judges of 85 % and three that say one thing at random: a vote is right less often than belief is."""
    draw = np.random.default_rng(5)
    truth = draw.integers(0, 2, 3000)
    right = np.stack([draw.random(3000) < share for share in (0.85, 0.85, 0.85, 0.5, 0.5, 0.5)], axis=1)
    leads = np.where(right, 1.0, -1.0) * np.where(truth == 0, 1.0, -1.0)[:, None]
    leads[draw.random(leads.shape) < 0.1] = NAN
    found = {how: np.mean((pool_votes(leads, [1.0] * 6, how) > 0) == (truth == 0)) for how in ("vote", "dawid_skene")}
    assert found["dawid_skene"] > found["vote"] + 0.03
    votes = votes_of(leads)
    voted = (votes != -1).any(axis=1)
    p = fit_dawid_skene(votes[voted]).truth
    assert pool_votes(leads, [1.0] * 6, "dawid_skene")[voted] == pytest.approx(np.log(p[:, 0] / p[:, 1]))


def test_a_view_without_any_vote_leans_nowhere() -> None:
    leads = np.array([[1.0, 1.0, 1.0], [0.0, NAN, 0.0], [-1.0, 1.0, -1.0]])
    assert pool_votes(leads, [1.0] * 3, "dawid_skene")[1] == 0
    assert pool_votes(np.full((1, 3), NAN), [1.0] * 3, "vote").tolist() == [0.0]


def test_no_way_to_vote_turns_a_settled_view() -> None:
    """Every completion of a settled vote, over all votes of four judges with unequal weights."""
    weights = [2.0, 1.0, 1.5, 1.0]
    sides = (-1.0, 0.0, 1.0, NAN)
    for first in sides:
        for second in sides:
            (known,) = settled_views(np.array([[first, second]]), weights, "vote", 2.0)
            ends = np.array([[first, second, x, y] for x in sides for y in sides])
            signs = set(np.sign(pool_votes(ends, weights, "vote")).tolist())
            assert bool(known) == (len(signs) == 1 and signs != {0.0})


def test_a_mean_is_settled_when_two_agree_surely() -> None:
    leads = np.array([[2.5, 3.0], [2.5, 1.0], [2.5, -3.0], [-2.0, -2.0], [9.0, NAN], [NAN, NAN]])
    assert settled_views(leads, [1.0] * 3, "logit_mean", 2.0).tolist() == [True, False, False, True, False, False]
