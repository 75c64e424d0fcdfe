"""What labelling did, in figures: calls, reuse, failures, tokens, speed, and for pairs how much the shown order
decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from judges.questions import PairKeys
from ratify.sections import PriceSection
from ratify.types import Failure, Verdict


@dataclass
class LabellingStatistics:
    """Counts of one labelling pass. A verdict is *reused* when the store had it already."""

    needed: int = 0
    reused: int = 0
    calls: int = 0
    failures: Counter[Failure] = field(default_factory=Counter)
    """By type, over what was needed."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Verdicts that are missing."""
        return self.failures.total()

    @property
    def done(self) -> int:
        """Verdicts that need no further call."""
        return self.reused + self.calls

    @property
    def calls_per_s(self) -> float:
        """Calls per second of this pass."""
        return self.calls / self.seconds if self.seconds > 0 else 0.0

    def plus(self, other: LabellingStatistics) -> LabellingStatistics:
        """Of both passes, one after the other."""
        return LabellingStatistics(
            self.needed + other.needed, self.reused + other.reused, self.calls + other.calls,
            self.failures + other.failures, self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens, self.seconds + other.seconds,
        )  # fmt: skip

    def count_call(self, verdict: Verdict) -> None:
        """Count one answered call, whether it gave a verdict or not."""
        self.calls += 1
        self.prompt_tokens += verdict.prompt_tokens
        self.completion_tokens += verdict.completion_tokens

    def note(self, in_flight: int, price: PriceSection | None = None) -> str:
        """The state of a running pass for a person, in a few words; money where a price is known."""
        tokens = self.prompt_tokens + self.completion_tokens
        parts = [f"{self.calls_per_s:,.0f} calls/s", f"{in_flight} in flight"]
        if tokens:
            parts.append(f"{tokens / self.seconds:,.0f} tokens/s")
        if price:
            parts.append(f"{price.cost(self.prompt_tokens, self.completion_tokens):,.2f} {price.currency}")
        if self.failures:
            parts.append("failed: " + ", ".join(f"{count} {kind}" for kind, count in self.failures.most_common()))
        return ", ".join(parts)

    def metrics(self) -> dict[str, float]:
        """The figures by metric key."""
        figures = {
            "label/verdicts/needed": self.needed,
            "label/verdicts/reused": self.reused,
            "label/calls/count": self.calls,
            "label/calls/failed": self.failed,
            "label/calls/per_s": round(self.calls_per_s, 2),
            "label/tokens/prompt": self.prompt_tokens,
            "label/tokens/completion": self.completion_tokens,
            "label/time/seconds": round(self.seconds, 3),
        }
        return figures | {f"label/failures/{kind}": count for kind, count in sorted(self.failures.items())}


@dataclass(frozen=True)
class OrderStatistics:
    """How much the order in which two replies were shown decided, over pairs that were judged in both orders.

    A pair *flips* when the same position is preferred in both orders, so that the preferred reply changes: the "same
    position preferred" of RLAIF (Lee et al. 2023, arXiv 2309.00267, Table 4).
    """

    compared: int
    same_position_rate: float
    """Share of pairs and principles that flip."""
    first_position_rate: float
    """Share of those in which the first position was preferred; one half means that no side is favoured."""
    flip_rate: Mapping[str, float]
    """Same-position rate by principle."""

    def metrics(self) -> dict[str, float]:
        """The figures by metric key."""
        figures = {
            "label/order/compared": float(self.compared),
            "label/order/same_position_rate": self.same_position_rate,
            "label/order/first_position_rate": self.first_position_rate,
        }
        return figures | {f"label/order/flip_rate/{name}": rate for name, rate in sorted(self.flip_rate.items())}


@dataclass
class OrderCounts:
    """Counts of flips, from which `OrderStatistics` are made; keys and verdicts may come in parts."""

    seen: Counter[str] = field(default_factory=Counter)
    """Views that were judged in both orders, by principle."""
    flipped: Counter[str] = field(default_factory=Counter)
    first: int = 0
    """Flips to the first position."""

    def add(self, keys: Sequence[Mapping[str, PairKeys]], verdicts: Mapping[str, Verdict]) -> None:
        """Count some pairs; a missing order does not count, log-odds of exactly 0 prefer nobody."""
        for name, one, other in _both_orders(keys, verdicts):
            self.seen[name] += 1
            if one * other > 0:
                self.flipped[name] += 1
                self.first += one > 0

    def statistics(self) -> OrderStatistics:
        """What they amount to."""
        total, seen = self.flipped.total(), self.seen.total()
        return OrderStatistics(
            compared=seen,
            same_position_rate=total / seen if seen else 0.0,
            first_position_rate=self.first / total if total else 0.5,
            flip_rate={name: self.flipped[name] / count for name, count in sorted(self.seen.items())},
        )


def order_statistics(keys: Sequence[Mapping[str, PairKeys]], verdicts: Mapping[str, Verdict]) -> OrderStatistics:
    """Count flips among pairwise verdicts."""
    counts = OrderCounts()
    counts.add(keys, verdicts)
    return counts.statistics()


def _both_orders(
    keys: Sequence[Mapping[str, PairKeys]], verdicts: Mapping[str, Verdict]
) -> Iterable[tuple[str, float, float]]:
    for of_pair in keys:
        for name, (a_first, b_first) in of_pair.items():
            one, other = verdicts.get(a_first), verdicts.get(b_first)
            if one and other and one.logit is not None and other.logit is not None:
                yield name, one.logit, other.logit
