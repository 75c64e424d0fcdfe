"""The difference of two shares of the same items, with Tango's score interval: McNemar's test turned round.

Two policies answer the same items rightly or wrongly; only the items on which they differ speak. The interval is the
set of differences that the score test does not reject (Tango 1998, Statistics in Medicine 17, eq. 5 to 7); at a
difference of zero that test is McNemar's. Unlike a bootstrap it has width where no item changed: with n items and no
change it reaches to ± z² / (n + z²). Items are taken as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.optimize import brentq
from scipy.special import ndtri

from evaluation.intervals import Estimate, EvidenceError, Interval

EDGE = 1e-12


def paired_share_difference(new: Sequence[bool], old: Sequence[bool], confidence: float = 0.95) -> Estimate:
    """Share of true values of `new` minus that of `old`; the i-th of both belong to one item.

    Raises:
        EvidenceError: there is no item.
    """
    if len(new) != len(old):
        raise ValueError(f"{len(new)} new and {len(old)} old values are not pairs")
    if not new:
        raise EvidenceError("a difference of no items")
    gained = sum(after and not before for after, before in zip(new, old, strict=True))
    lost = sum(before and not after for after, before in zip(new, old, strict=True))
    low, high = tango(gained, lost, len(new), confidence)
    value = (gained - lost) / len(new)
    return Estimate(value=value, low=low, high=high, n=len(new), clusters=len(new), confidence=confidence)


def tango(gained: int, lost: int, n: int, confidence: float = 0.95) -> Interval:
    """Both ends of the score interval for (gained - lost) / n."""
    z, value = float(ndtri((1 + confidence) / 2)), (gained - lost) / n
    low, high = -1.0, 1.0
    if value > EDGE - 1:
        low = float(brentq(lambda gap: score(gap, gained, lost, n) - z, EDGE - 1, value))
    if value < 1 - EDGE:
        high = float(brentq(lambda gap: score(gap, gained, lost, n) + z, value, 1 - EDGE))
    return Interval(low, high)


def score(gap: float, gained: int, lost: int, n: int) -> float:
    """Tango's statistic for a true difference `gap`: standard normal under it, falling in `gap`.

    (gained - lost - n gap) / sqrt(n (2 q + gap (1 - gap))), q the likeliest share of lost items given `gap`: the larger
    root of 2n q² + (2n - gained + lost) gap q - (gained + lost) q - lost gap (1 - gap) = 0.
    """
    half = (2 * n - gained + lost) * gap - gained - lost
    root = math.sqrt(max(0.0, half * half + 8 * n * lost * gap * (1 - gap)))
    q = (root - half) / (4 * n)
    variance = n * (2 * q + gap * (1 - gap))
    distance = gained - lost - n * gap
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)
