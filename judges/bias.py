"""What a judge prefers for the wrong reason: a position, a length, a format, its own family; by judge and principle.

A pairwise judge is measured on pairs that it judged in both orders. For a pair (a, b) with log-odds z(a, b) in favour
of the reply shown first,

    lead   l = (z(a, b) − z(b, a)) / 2     in favour of a, free of any constant favour for a position
    gap    g = (z(a, b) + z(b, a)) / 2     the favour for the first position

and the noise of one verdict, if the two orders err independently, is √(2 var g).

The *same-position rate* is the share of pairs in which both orders prefer the same position (RLAIF, Lee et al. 2023,
arXiv 2309.00267, Table 4); the sign test asks whether these lean to one side (two-sided binomial against ½). Length,
format and self-preference are partial slopes of one least-squares fit without intercept (swapping a and b negates
every term),

    l = β_quality·q + β_length·ln(len a / len b) + β_format·(marks a − marks b) + β_family·(own a − own b)

where q says which reply is better: gold (±1), or the mean lead of other judges. Without q a slope also holds what
longer replies deserve. A pointwise judge sees one reply at a time and has no position bias; its lead is z(a) − z(b),
and the same fit gives its slopes. Intervals resample prompts; the sign test takes pairs as independent.

Left out: style control over many judges at once, and any claim about replies that no pair contains.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from judges.questions import PairKeys, Questionnaire
from ratify import types
from ratify.errors import BudgetError
from ratify.intervals import STANDARD, Estimate, EvidenceError, Floats, Resampling, estimate, mean
from ratify.types import Completion, Record, Verdict

COVARIATES = ("quality", "length", "format", "family")
MIN_COMPARED = 20
"""Fewer pairs say too little about a judge to refuse it."""
SINGULAR = 1e-9
"""Covariates are as good as dependent when the determinant is this small beside the diagonal's product (Hadamard)."""
_MARKS = re.compile(r"^\s*(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|```|\|)|\*\*|__", re.MULTILINE)
"""Headings, list items, code fences, table rows and bold."""


class TwoOrders(NamedTuple):
    """One pair and principle judged in both orders."""

    prompt_id: str
    a_first: float
    """z(a, b): log-odds in favour of a when a is shown first."""
    b_first: float
    """z(b, a): log-odds in favour of b when b is shown first."""
    length: float = 0.0
    """ln(length of a / length of b)."""
    format: float = 0.0
    """Markdown marks per word of a minus those of b."""
    family: float = 0.0
    """1 when only a is of the judge's own family, −1 when only b is."""
    quality: float = 0.0
    """Which reply is better, positive for a; 0 everywhere when nobody knows."""


@dataclass(frozen=True)
class OrderColumns:
    """`TwoOrders` of many pairs as numbers."""

    prompts: NDArray[np.int64]
    """(n,): equal for pairs of one prompt."""
    values: Floats
    """(n, 6): the fields of `TwoOrders` after the prompt, in their order."""

    def __len__(self) -> int:
        return len(self.prompts)

    def named(self, name: str) -> Floats:
        """(n,): one field."""
        return np.asarray(self.values[:, TwoOrders._fields.index(name) - 1])


Judged = Sequence[TwoOrders] | OrderColumns


class PositionBias(Record):
    """What the shown order does."""

    compared: int
    """Pairs judged in both orders."""
    same_position: Estimate
    first: int
    """Pairs in which the first position won both times."""
    second: int
    sign_p: float
    """Two-sided binomial: how surprising this lean would be without any."""
    order_gap: Estimate
    """Mean favour for the first position, in log-odds."""
    noise: Estimate
    """Standard deviation of one verdict's log-odds about what the judge says on average, √(2 var g)."""


class JudgeBias(Record):
    """One judge's biases on one principle; a slope is None when its covariate never varies."""

    judge: str
    principle: str
    compared: int
    """Pairs that it rests on."""
    position: PositionBias | None
    """None for a pointwise judge, which is shown no order."""
    quality: Estimate | None = None
    length: Estimate | None = None
    """Log-odds per unit of log length ratio, quality and the other covariates held fixed."""
    format: Estimate | None = None
    family: Estimate | None = None


def measure_bias(
    judge: str, principle: str, pairs: Judged, how: Resampling = STANDARD, protocol: types.Protocol = "pairwise"
) -> JudgeBias:
    """Measure every bias of one judge on one principle.

    Raises:
        EvidenceError: no pair was judged on both sides.
    """
    position = position_bias(pairs, how) if protocol == "pairwise" or not pairs else None
    slopes = partial_slopes(pairs, how)
    return JudgeBias(judge=judge, principle=principle, compared=len(pairs), position=position, **slopes)


def columns_of(pairs: Judged) -> OrderColumns:
    """Pairs as numbers."""
    if isinstance(pairs, OrderColumns):
        return pairs
    numbers: dict[str, int] = {}
    prompts = [numbers.setdefault(pair.prompt_id, len(numbers)) for pair in pairs]
    values = np.array([pair[1:] for pair in pairs], dtype=np.float64).reshape(len(pairs), len(TwoOrders._fields) - 1)
    return OrderColumns(np.array(prompts, dtype=np.int64), values)


def position_bias(pairs: Judged, how: Resampling = STANDARD) -> PositionBias:
    """Same-position rate, its lean, and the favour for the first position; log-odds of 0 prefer nobody."""
    if not pairs:
        raise EvidenceError("position bias: no pair was judged in both orders")
    columns = columns_of(pairs)
    prompts, scores = columns.prompts, columns.values[:, :2]
    gaps = np.asarray(scores.sum(axis=1) / 2, dtype=np.float64)
    first, second = (scores > 0).all(axis=1), (scores < 0).all(axis=1)
    return PositionBias(
        compared=len(pairs),
        same_position=mean(np.asarray(first | second, dtype=np.float64), prompts, how, share=True),
        first=int(first.sum()),
        second=int(second.sum()),
        sign_p=sign_test(int(first.sum()), int(second.sum())),
        order_gap=mean(gaps, prompts, how),
        noise=estimate([gaps, gaps**2, np.ones(len(gaps))], prompts, _noise, how),
    )


def partial_slopes(pairs: Judged, how: Resampling = STANDARD) -> dict[str, Estimate]:
    """Least-squares slopes of the lead on the covariates that vary, by name."""
    columns = columns_of(pairs)
    names = [name for name in COVARIATES if columns.named(name).any()]
    if not names:
        return {}
    design = np.stack([columns.named(name) for name in names], axis=1)
    leads = (columns.named("a_first") - columns.named("b_first")) / 2
    products = [*(design[:, :, None] * design[:, None, :]).reshape(len(pairs), -1).T, *(design * leads[:, None]).T]
    prompts = columns.prompts
    found = {}
    for place, name in enumerate(names):
        try:
            found[name] = estimate(products, prompts, _slope(len(names), place), how)
        except EvidenceError:
            continue
    return found


def controlled_leads(pairs: Sequence[TwoOrders], bias: JudgeBias) -> list[float]:
    """The leads without what the judge gave for length, format and its own family: the length-controlled estimate."""
    slopes = {name: slope.value for name in COVARIATES[1:] if (slope := getattr(bias, name)) is not None}
    return [
        (pair.a_first - pair.b_first) / 2 - sum(slope * getattr(pair, name) for name, slope in slopes.items())
        for pair in pairs
    ]


def bias_metrics(biases: Sequence[JudgeBias]) -> dict[str, float]:
    """The figures by metric key, for a run's report."""
    figures: dict[str, float] = {}
    for bias in biases:
        position, head = bias.position, f"label/bias/{bias.principle}"
        if position is not None:
            figures[f"{head}/same_position_rate"] = position.same_position.value
            figures[f"{head}/order_gap"] = position.order_gap.value
            figures[f"{head}/sign_p"] = position.sign_p
            figures[f"{head}/noise"] = position.noise.value
        slopes = {name: getattr(bias, name) for name in COVARIATES[1:]}
        figures |= {f"{head}/{name}_slope": slope.value for name, slope in slopes.items() if slope is not None}
    return figures


def sign_test(one: int, other: int) -> float:
    """Two-sided exact binomial test that both are equally likely."""
    tail = sum(comb(one + other, count) for count in range(min(one, other) + 1))
    return min(1.0, float(Fraction(2 * tail, 1 << (one + other))))


def require_fair(bias: JudgeBias, max_same_position: float) -> None:
    """Refuse a judge that decides by position.

    Raises:
        BudgetError: the same-position rate over at least `MIN_COMPARED` pairs exceeds `max_same_position`.
    """
    if bias.position is None:
        return
    rate, compared = bias.position.same_position.value, bias.position.compared
    if compared >= MIN_COMPARED and rate > max_same_position:
        raise BudgetError(
            f"judge {bias.judge[:12]}, principle {bias.principle}: {rate:.0%} of {compared} pairs prefer the same "
            f"position in both orders, more than judge.max_same_position = {max_same_position:g}; "
            f"use another judge, judge.protocol = 'pointwise', or raise the limit"
        )


def two_orders(
    sheet: Questionnaire,
    verdicts: Mapping[str, Verdict],
    *,
    own: Callable[[Completion], bool] = lambda _: False,
    quality: Mapping[tuple[str, str], float] | None = None,
) -> dict[str, list[TwoOrders]]:
    """By principle, the pairs that were judged in both orders, or pointwise on both replies.

    Pointwise, a reply's lead over the other is the same in both orders: a_first = z(a) − z(b) = −b_first.

    Args:
        sheet: Which verdicts the pairs rest on.
        verdicts: By key.
        own: Is a completion of the judge's own family?
        quality: Positive where `a` is better, by the ids of a and b; a pair without one is left out.
    """
    found: defaultdict[str, list[TwoOrders]] = defaultdict(list)
    for (a, b), keys in zip(sheet.pairs, sheet.keys, strict=True):
        if quality is not None and (a.id, b.id) not in quality:
            continue
        better = 0.0 if quality is None else quality[a.id, b.id]
        covariates = (length_gap(a.text, b.text), format_gap(a.text, b.text), float(own(a)) - float(own(b)), better)
        for principle, both in keys.items():
            scores = scores_of(both, verdicts)
            if scores is not None:
                found[principle].append(TwoOrders(a.prompt_id, *scores, *covariates))
    return dict(found)


def length_gap(a: str, b: str) -> float:
    """ln(words of a / words of b), each plus one."""
    return float(np.log((len(a.split()) + 1) / (len(b.split()) + 1)))


def format_gap(a: str, b: str) -> float:
    """Markdown marks per word of a minus those of b."""
    one, other = (len(_MARKS.findall(text)) / (len(text.split()) + 1) for text in (a, b))
    return one - other


def _noise(sums: Floats) -> Floats:
    variance = sums[..., 1] / sums[..., 2] - (sums[..., 0] / sums[..., 2]) ** 2
    return np.asarray(np.sqrt(2 * np.maximum(variance, 0.0)))


def scores_of(both: PairKeys, verdicts: Mapping[str, Verdict]) -> tuple[float, float] | None:
    """z(a, b) and z(b, a) of one view, pointwise the two leads; None where a verdict is missing."""
    one, other = verdicts.get(both.a), verdicts.get(both.b)
    if one is None or other is None or one.logit is None or other.logit is None:
        return None
    if one.protocol == "pointwise":
        return one.logit - other.logit, other.logit - one.logit
    return one.logit, other.logit


def _slope(size: int, place: int) -> Callable[[Floats], Floats]:
    """One coefficient of the normal equations, from sums of products; not a number where they are singular."""

    def solve(sums: Floats) -> Floats:
        square = sums[..., : size * size].reshape(*sums.shape[:-1], size, size)
        scale = np.diagonal(square, axis1=-2, axis2=-1).prod(axis=-1)
        regular = np.linalg.det(square) > SINGULAR * scale
        safe = np.where(regular[..., None, None], square, np.eye(size))
        solved = np.linalg.solve(safe, sums[..., size * size :, None])[..., place, 0]
        return np.asarray(np.where(regular, solved, np.nan))

    return solve
