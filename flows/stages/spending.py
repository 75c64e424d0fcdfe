"""What a run has spent on judging, kept in its folder, and the budget that its labelling passes keep to.

`spending.json` is raised before the requests that it counts are sent, a block of them at a time, so that a killed run
has never spent more than the file says; it is made exact when a pass ends. A kill costs at most a block of the
allowance: two in a hundred of the tightest limit, and never more than `BLOCK` requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from flows.context import RunContext
from judges.budget import Cost, JudgingBudget, Ledger, Limits
from judges.usage import CallShape, Usage, most_usage
from ratify.errors import StoreError
from ratify.files import write_json
from ratify.sections import PriceSection
from ratify.types import Record

SPENDING = "spending.json"
BLOCK = 100
"""Requests that are entered at once."""
BLOCK_SHARE = 0.02
"""Of a limit: the largest block."""


class Spent(Record):
    """The file."""

    requests: int
    prompt_tokens: int
    completion_tokens: int


class FilePurse:
    """Keeps on disk what is spent, reserved and about to be."""

    def __init__(self, path: Path, limits: Limits, cost: Cost) -> None:
        self._path = path
        self._limits = limits
        self._cost = cost
        self.entered = read_spending(path)

    def cover(self, total: Usage, step: Usage) -> None:
        """Enter a block when `total` is not covered yet."""
        if all(have >= need for have, need in zip(self.entered, total, strict=True)):
            return
        more = Usage(*(number * (_block(step, self._limits, self._cost) - 1) for number in step))
        self.enter(total.plus(more))

    def enter(self, total: Usage) -> None:
        """Write a total."""
        self.entered = total
        write_json(self._path, total._asdict())


def read_spending(path: Path) -> Usage:
    """What the file says; nothing when there is none.

    Raises:
        StoreError: it cannot be read.
    """
    if not path.exists():
        return Usage()
    try:
        found = Spent.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        raise StoreError(f"{path} cannot be read; write what was spent into it, or delete it to count from 0") from None
    return Usage(found.requests, found.prompt_tokens, found.completion_tokens)


@contextmanager
def judging_budget(context: RunContext, shape: CallShape | None) -> Iterator[JudgingBudget | None]:
    """The budget of one labelling pass; None for a judge that asks nobody, and where there is no limit."""
    limits = context.config.budget
    if shape is None or not limits.limited:
        yield None
        return
    cost = _cost(context.config.judge.price)
    allowed = Limits(limits.money, limits.tokens, limits.requests)
    purse = FilePurse(context.run.path / SPENDING, allowed, cost)
    ledger = Ledger(allowed, cost, purse.entered, purse)
    try:
        yield JudgingBudget(ledger, lambda question: most_usage(question, shape))
    finally:
        # What is still reserved was sent, and nobody knows what it cost.
        purse.enter(ledger.total)


def _cost(price: PriceSection | None) -> Cost:
    """Money for what was used; 0 without a price."""
    if price is None:
        return lambda _used: 0.0
    return lambda used: price.cost(used.prompt_tokens, used.completion_tokens)


def _block(step: Usage, limits: Limits, cost: Cost) -> int:
    """Requests like this one to enter at once."""
    sizes = [float(BLOCK)]
    if limits.requests:
        sizes.append(BLOCK_SHARE * limits.requests / max(1, step.requests))
    if limits.tokens:
        sizes.append(BLOCK_SHARE * limits.tokens / max(1, step.tokens))
    if limits.money and cost(step):
        sizes.append(BLOCK_SHARE * limits.money / cost(step))
    return max(1, int(min(sizes)))
