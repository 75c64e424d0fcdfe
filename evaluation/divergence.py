"""How far the new policy has moved: KL(new || reference) from log-probabilities of replies sampled from the new policy.

Estimators of Schulman, "Approximating KL divergence" (2020), with r = p_ref(reply) / p_new(reply):

    k1 = -log r              unbiased, any spread, may be negative in a sample
    k3 = (r - 1) - log r     unbiased, never negative, far less spread while the KL is small

Past about five nats nearly every sampled r is 0 and k3 reads about k1 - 1, so both are reported. Replies are whole
sequences: their log-probabilities are summed over tokens before r is formed. Both policies must be scored by one engine
and at the temperature of sampling, or the figure measures the engines. Nothing here scores replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, mean, ratio

Floats = NDArray[np.float64]


class Divergence(NamedTuple):
    """KL(new || reference) in nats, clustered by prompt."""

    k1_per_reply: Estimate
    k3_per_reply: Estimate
    k1_per_token: Estimate
    """Nats of all replies over tokens of all replies: a change of length does not move it."""
    k3_per_token: Estimate


def k1(log_new: Floats, log_reference: Floats) -> Floats:
    """The log-ratio log p_new - log p_ref, in nats, for each reply sampled from the new policy."""
    return log_new - log_reference


def k3(log_new: Floats, log_reference: Floats) -> Floats:
    """(r - 1) - log r with r = p_ref / p_new, in nats, for each reply sampled from the new policy."""
    log_ratio = log_reference - log_new
    return np.expm1(log_ratio) - log_ratio


def divergence(
    log_new: Sequence[float] | Floats,
    log_reference: Sequence[float] | Floats,
    tokens: Sequence[int] | NDArray[np.int64],
    prompts: Sequence[str],
    how: Resampling = STANDARD,
) -> Divergence:
    """KL of the new policy from the reference.

    Args:
        log_new: summed log-probability of each reply under the new policy, nats.
        log_reference: the same replies under the reference, nats.
        tokens: tokens that were summed, for each reply.
        prompts: prompt id of each reply; the cluster.
        how: interval settings.

    Raises:
        EvidenceError: when there is no reply or a log-probability is not finite. Leaving out the replies that
            the reference cannot produce would hide exactly the divergence that is asked for.
    """
    new, reference = np.asarray(log_new, dtype=np.float64), np.asarray(log_reference, dtype=np.float64)
    broken = int(np.count_nonzero(~(np.isfinite(new) & np.isfinite(reference))))
    if broken:
        raise EvidenceError(f"KL: {broken} of {len(new)} replies have no finite log-probability")
    first, third, sizes = k1(new, reference), k3(new, reference), np.asarray(tokens, dtype=np.float64)
    return Divergence(
        k1_per_reply=mean(first, prompts, how),
        k3_per_reply=mean(third, prompts, how),
        k1_per_token=ratio(first, sizes, prompts, how),
        k3_per_token=ratio(third, sizes, prompts, how),
    )
