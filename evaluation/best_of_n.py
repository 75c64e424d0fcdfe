"""Best of n: what choosing the best of n replies by a proxy gains, and how far it moves from the policy.

The KL of best-of-n from the policy is log n − (n − 1)/n where no two replies have the same reward; where replies repeat
it is less (Beirami et al., arXiv 2401.01879), so for a policy that repeats itself that number is an upper bound. Where
the policy's probabilities are known, `exact_kl` gives the KL itself. Gains are estimated without bias from a pool of
N ≥ n replies a prompt (as in Nakano et al., arXiv 2112.09332, appendix I).

Shapes: P prompts, N replies each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Floats, Resampling, mean


class BestOfN(NamedTuple):
    """One n."""

    n: int
    kl_bound: float
    """Nats."""
    proxy: Estimate
    gold: Estimate


def kl_bound(n: int) -> float:
    """log n − (n − 1)/n, nats."""
    return math.log(n) - (n - 1) / n


def best_of_n_probabilities(probabilities: Floats, rewards: Floats, n: int) -> Floats:
    """How probable each reply of a discrete policy is as the best of n; equal rewards share by their probability.

    P(reward is r) = F(r)ⁿ − F(r⁻)ⁿ, with F the policy's distribution function of the reward. (V,), (V,) → (V,).
    """
    levels, group = np.unique(rewards, return_inverse=True)
    mass = np.bincount(group, weights=probabilities, minlength=len(levels))
    reached = np.minimum(np.cumsum(mass), 1.0) ** n
    chosen = np.diff(reached, prepend=0.0)
    share: Floats = np.divide(probabilities, mass[group], out=np.zeros_like(probabilities), where=mass[group] > 0)
    return share * chosen[group]


def exact_kl(probabilities: Floats, rewards: Floats, n: int) -> float:
    """KL(best of n ‖ policy) of a discrete policy, nats. (V,), (V,)."""
    chosen = best_of_n_probabilities(probabilities, rewards, n)
    kept = chosen > 0
    return float((chosen[kept] * np.log(chosen[kept] / probabilities[kept])).sum())


def chances(rewards: Floats, n: int) -> Floats:
    """(N,): the chance of each of N replies to be the best of n of them drawn without replacement; ties share evenly.

    The reply with i − 1 others below it is the best with C(i − 1, n − 1)/C(N, n).
    """
    size = len(rewards)
    if n > size:
        raise EvidenceError(f"best of {n} cannot be estimated from {size} replies a prompt; sample more")
    order = np.argsort(rewards, kind="stable")
    found = np.empty(size)
    found[order] = _chance_of_rank(size, n)
    _, group = np.unique(rewards, return_inverse=True)
    shared = np.bincount(group, weights=found) / np.bincount(group)
    return np.asarray(shared[group])


def best_of_n_frontier(
    proxy: Floats, gold: Floats, prompts: Sequence[str], sizes: Sequence[int], how: Resampling = STANDARD
) -> list[BestOfN]:
    """Proxy and gold reward of the best of each n by the proxy, with intervals over prompts.

    Args:
        proxy: (P, N) what replies are chosen by.
        gold: (P, N) what is wanted.
        prompts: (P,) names.
        sizes: The n, each at most N.
        how: Confidence, draws, seed.

    Raises:
        EvidenceError: an n above N, or a reward that is not finite.
    """
    if not (np.isfinite(proxy).all() and np.isfinite(gold).all()):
        raise EvidenceError("best of n: a reward is not finite; leave out prompts with a reply that has none")
    found = []
    for n in sizes:
        chance = np.stack([chances(row, n) for row in proxy])
        chosen = [mean((chance * rewards).sum(axis=1), prompts, how) for rewards in (proxy, gold)]
        found.append(BestOfN(n, kl_bound(n), *chosen))
    return found


@lru_cache(maxsize=64)
def _chance_of_rank(size: int, n: int) -> Floats:
    """(N,): from the worst to the best."""
    total = math.comb(size, n)
    return np.array([math.comb(rank, n - 1) / total for rank in range(size)])
