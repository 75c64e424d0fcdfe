"""What judging will take, before anybody is asked: calls, tokens, money and minutes.

Calls are counted: they are the questions that the verdict store has no answer to. Where the replies are still to be
sampled they cannot be counted, and the number is what there are at most. Tokens per call and speed are what stages of
this run, or of other runs beside it, observed with the very same judge; without such a stage tokens have an upper bound
only, and time is unknown. The interval of the minutes is Student's t over the stages' log speeds; one stage gives none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from flows.context import RunContext
from flows.stages import generate
from flows.stages.judging import constitution_of, judge_shape, make_judge
from flows.stages.label import training_blocks
from flows.stages.pair_blocks import Sheets
from flows.stages.panel_judging import seats_of
from flows.stages.rates import Rate, observed_rates
from judges.assignment import cover
from judges.gold import load_gold
from judges.questions import Pair, Question, Ranker, write_questions
from judges.usage import Usage, most_usage
from ratify.intervals import student
from ratify.run_store import RunStore
from ratify.types import Prompt


class Span(NamedTuple):
    """A figure, with an interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


class Estimated(NamedTuple):
    """What judging will take."""

    calls: int
    counted: bool
    """False: the replies are not sampled yet, so that `calls` is what there are at most."""
    stored: int
    """Verdicts that need no call."""
    free: bool
    """The judge asks nobody."""
    tokens: Usage | None
    """Expected; None when no stage has asked this judge yet."""
    most: Usage | None
    """No more than this; None when it cannot be said, because the replies are not sampled yet."""
    money: float | None
    most_money: float | None
    currency: str
    minutes: Span | None
    source: str
    """The stage that the expectation comes from."""
    panel: str = ""
    """Who is asked, when it is more than one judge."""


def estimate_questions(context: RunContext, missing: Iterable[Question], stored: int) -> Estimated:
    """What it takes to have these questions answered."""
    asked = list(missing)
    return _estimated(context, len(asked), stored, _most(context, asked))


def _most(context: RunContext, asked: Iterable[Question]) -> Usage:
    """More than these questions take at no server."""
    shape, most = judge_shape(context), Usage()
    if shape is not None:
        for question in asked:
            most = most.plus(most_usage(question, shape))
    return most


def estimate_labels(context: RunContext) -> Estimated:
    """What the label stage of this round will take, with all judges of a panel; an upper bound when it stops early."""
    if not context.config.panel.judges:
        return _estimate_judge(context)
    seats = seats_of(context)
    return _together([_estimate_judge(seat.context) for seat in seats], context.config.panel.stop_settled)


def _together(each: Sequence[Estimated], stops_early: bool) -> Estimated:
    """Judges that are asked one after the other; a figure that one of them lacks is unknown."""
    note = f"{len(each)} judges, one after the other"
    note += "; settled views are not asked further, so every figure is an upper bound" if stops_early else ""
    currencies = {one.currency for one in each if one.currency}
    one_currency = len(currencies) == 1
    return Estimated(
        calls=sum(one.calls for one in each), counted=all(one.counted for one in each) and not stops_early,
        stored=sum(one.stored for one in each), free=all(one.free for one in each),
        tokens=_usage([one.tokens for one in each]), most=_usage([one.most for one in each]),
        money=_sum([one.money for one in each]) if one_currency else None,
        most_money=_sum([one.most_money for one in each]) if one_currency else None,
        currency=currencies.pop() if one_currency else "",
        minutes=_spans([one.minutes for one in each]),
        source=next((one.source for one in each if one.source), ""), panel=note,
    )  # fmt: skip


def _usage(each: Sequence[Usage | None]) -> Usage | None:
    total = Usage()
    for one in each:
        if one is None:
            return None
        total = total.plus(one)
    return total


def _sum(each: Sequence[float | None]) -> float | None:
    known = [one for one in each if one is not None]
    return math.fsum(known) if len(known) == len(each) else None


def _spans(each: Sequence[Span | None]) -> Span | None:
    """Without an interval, since the ends of several do not add up to one."""
    total = _sum([one.value if one else None for one in each])
    return None if total is None else Span(total)


def _estimate_judge(context: RunContext) -> Estimated:
    """What the configured judge will take."""
    if context.stage(generate.NAME).manifest() is None:
        return _estimated(context, _most_calls(context), 0, None)
    judge, constitution = make_judge(context), constitution_of(context)
    per_pair = context.config.labels.principles_per_pair or 0
    blocks = (sheet.questions for _, _, sheet in Sheets(training_blocks(context), constitution, judge, per_pair))
    calls, stored, most = 0, 0, Usage()
    store = context.verdict_store()
    try:
        for questions in itertools.chain(blocks, [_canary_questions(context)]):
            known = store.get(questions)
            missing = [question for key, question in questions.items() if key not in known]
            calls, stored, most = calls + len(missing), stored + len(known), most.plus(_most(context, missing))
    finally:
        store.close()
    return _estimated(context, calls, stored, most)


def _canary_questions(context: RunContext) -> dict[str, Question]:
    prompts, pairs = _canaries(context)
    principles, judge = constitution_of(context).active, make_judge(context)
    return write_questions(prompts, pairs, principles, judge, cover(prompts, pairs, principles, judge).open).questions


def _canaries(context: RunContext) -> tuple[dict[str, Prompt], list[Pair]]:
    settings = context.config.gold
    if settings.path is None or not settings.canaries:
        return {}, []
    gold = load_gold(settings.path).drawn(settings.canaries, context.config.run.seed)
    return gold.prompts, gold.pairs


def _most_calls(context: RunContext) -> int:
    """One call per principle and reply (pointwise) or per principle and shown order of a pair or of the list, if no two
    replies are alike."""
    config, judge = context.config, make_judge(context)
    count = config.sampling.completions_per_prompt
    pairs = min(config.labels.pairs_per_prompt or math.inf, math.comb(count, 2))
    replies = min(count, 2 * pairs) if judge.protocol == "pointwise" else 2 * pairs
    replies = 2 if isinstance(judge, Ranker) else replies
    spoken = [principle for principle in constitution_of(context).active if not judge.abstains(principle)]
    canary_prompts, canaries = _canaries(context)
    covered = sum(p.applies_to.covers(prompt) for prompt in generate.training_prompts(context) for p in spoken)
    return int(covered * replies) + len(
        write_questions(canary_prompts, canaries, constitution_of(context).active, judge).questions
    )


def _estimated(context: RunContext, calls: int, stored: int, most: Usage | None) -> Estimated:
    price = context.config.judge.price
    rates = _rates(context)
    free = judge_shape(context) is None
    tokens = Usage() if free else _expected(calls, rates)
    return Estimated(
        calls=calls, counted=most is not None, stored=stored, free=free, tokens=tokens, most=most,
        money=price.cost(tokens.prompt_tokens, tokens.completion_tokens) if price and tokens else None,
        most_money=price.cost(most.prompt_tokens, most.completion_tokens) if price and most else None,
        currency=price.currency if price else "",
        minutes=Span(0.0, 0.0, 0.0) if not calls else _minutes(calls, rates),
        source=rates[-1].source if rates else "",
    )  # fmt: skip


def _rates(context: RunContext) -> list[Rate]:
    """Of this run, else of the runs beside it."""
    judge = make_judge(context).fingerprint
    mine = observed_rates(context.run, judge)
    folders = sorted(context.config.run.dir.glob("*/round-000")) if not mine else []
    return mine or [rate for folder in folders for rate in observed_rates(RunStore(folder.parent), judge)]


def _expected(calls: int, rates: list[Rate]) -> Usage | None:
    if not rates:
        return None
    newest = rates[-1]
    return Usage(calls, round(calls * newest.prompt_tokens), round(calls * newest.completion_tokens))


def _minutes(calls: int, rates: list[Rate]) -> Span | None:
    if not rates:
        return None
    found = student([math.log(calls / rate.calls_per_s / 60) for rate in rates])
    if found.low is None or found.high is None:
        return Span(math.exp(found.value))
    return Span(math.exp(found.value), math.exp(found.low), math.exp(found.high))


def estimate_lines(found: Estimated) -> list[str]:
    """An estimate for a person."""
    bound = "" if found.counted else "at most "
    reused = f", {found.stored:,} verdicts are stored already" if found.stored else ""
    lines = [f"judge calls: {bound}{found.calls:,}{reused}" + ("; this judge asks nobody" if found.free else "")]
    if found.calls and not found.free:
        lines += [f"tokens:      {_tokens(found)}", *_money(found), f"time:        {_time(found)}"]
    return lines + ([f"panel:       {found.panel}"] if found.panel else [])


def estimate_json(found: Estimated) -> dict[str, Any]:
    """An estimate for a program."""
    usage = {
        name: value._asdict() if value else None for name, value in (("tokens", found.tokens), ("most", found.most))
    }
    whole = {**found._asdict(), **usage, "minutes": found.minutes._asdict() if found.minutes else None}
    return {name: value for name, value in whole.items() if name != "panel" or value}


def _tokens(found: Estimated) -> str:
    if found.tokens is None:
        return "unknown: this judge has not been asked yet" + _at_most(found.most.tokens if found.most else None)
    return f"about {found.tokens.prompt_tokens:,} in, {found.tokens.completion_tokens:,} out"


def _at_most(value: float | None, unit: str = "tokens") -> str:
    return "" if value is None else f"; at most {value:,.0f} {unit}"


def _money(found: Estimated) -> list[str]:
    if found.money is not None:
        return [f"money:       about {found.money:,.2f} {found.currency}"]
    if found.most_money is not None:
        return [f"money:       at most {found.most_money:,.2f} {found.currency}"]
    return []


def _time(found: Estimated) -> str:
    if found.minutes is None:
        return "unknown: this judge has not been asked yet"
    span = found.minutes
    ends = "" if span.low is None else f" (95 % interval {_duration(span.low)} to {_duration(span.high or span.low)})"
    return f"about {_duration(span.value)}{ends}; from {found.source}"


def _duration(minutes: float) -> str:
    return f"{minutes * 60:.0f} s" if minutes < 1 else f"{minutes:.1f} min"
