"""The ledger of a labelling: nothing is asked unless the most that it may cost is still within every limit.

Before each request its upper bound (`usage.py`) is reserved; once the answer is on disk, what was really used takes the
place of the reservation. With n requests in flight the sum of spent and reserved never exceeds a limit, so neither
does what is spent. What an answer used is unknown where the call failed or the server counts no tokens: then the bound
stands. What was in flight when a pass was cut off was sent, and counts in full.

A *purse* is told of each total before it is reserved, and may keep it on disk. Left out: several processes sharing one
ledger, and prices that change: money is today's price of all tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from judges.questions import Question
from judges.usage import Usage
from ratify.errors import SpendingError
from ratify.types import Verdict

Cost = Callable[[Usage], float]
"""Money for what was used."""


class Limits(NamedTuple):
    """None is no limit."""

    money: float | None = None
    tokens: int | None = None
    requests: int | None = None


class Purse(Protocol):
    """Where it is kept what a run has spent."""

    def cover(self, total: Usage, step: Usage) -> None:
        """Called before anything is reserved: `total` is what will be spent and reserved, `step` the reservation."""


class Ledger:
    """What is spent and reserved, held against limits. For one event loop."""

    def __init__(self, limits: Limits, cost: Cost, spent: Usage = Usage(), purse: Purse | None = None) -> None:  # noqa: B008
        self._limits = limits
        self._cost = cost
        self._purse = purse
        self._open: dict[str, Usage] = {}
        self._reserved = Usage()
        self.spent = spent

    @property
    def total(self) -> Usage:
        """Spent and reserved."""
        return self.spent.plus(self._reserved)

    def reserve(self, key: str, most: Usage) -> None:
        """Set aside what a request may use.

        Raises:
            SpendingError: it could break a limit; nothing is set aside.
        """
        total = self.total.plus(most)
        fault = broken_limit(total, self._limits, self._cost)
        if fault is not None:
            raise SpendingError(_sentence(fault, self.total, most, self._cost))
        if self._purse is not None:
            self._purse.cover(total, most)
        self._open[key] = most
        self._reserved = self._reserved.plus(most)

    def settle(self, key: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Put the tokens that were used in place of the reserved ones; without prompt tokens the bound stands."""
        most = self._open.pop(key)
        self._reserved = self._reserved.minus(most)
        known = prompt_tokens > 0
        used = most._replace(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens) if known else most
        self.spent = self.spent.plus(used)


class JudgingBudget:
    """The ledger as the labelling engine asks it."""

    def __init__(self, ledger: Ledger, bound: Callable[[Question], Usage]) -> None:
        """`bound` is the most that a question may use."""
        self._ledger = ledger
        self._bound = bound

    def reserve(self, question: Question) -> None:
        """Called before each request.

        Raises:
            SpendingError: it could break a limit.
        """
        self._ledger.reserve(question.key, self._bound(question))

    def settle(self, verdict: Verdict) -> None:
        """Called with each stored answer; one without counted tokens costs what was reserved."""
        self._ledger.settle(verdict.key, verdict.prompt_tokens, verdict.completion_tokens)


def broken_limit(total: Usage, limits: Limits, cost: Cost) -> tuple[str, float] | None:
    """The first limit that a total would break, with its name."""
    values = {"money": cost(total), "tokens": float(total.tokens), "requests": float(total.requests)}
    allowed = {name: limit for name, limit in limits._asdict().items() if limit is not None}
    return next(((name, limit) for name, limit in allowed.items() if values[name] > limit), None)


def _sentence(fault: tuple[str, float], total: Usage, most: Usage, cost: Cost) -> str:
    name, allowed = fault
    now = {"money": cost(total), "tokens": total.tokens, "requests": total.requests}[name]
    next_one = {"money": cost(most), "tokens": most.tokens, "requests": most.requests}[name]
    return (
        f"judging stopped by the budget: {now:,.6g} of budget.{name} = {allowed:,.6g} is spent, and the next request "
        f"may take {next_one:,.6g} more; every answer is stored: raise budget.{name} and run the same command again, "
        "which goes on from here"
    )
