"""One way to have pairs judged, shared by the stages `label` and `evaluate`: questions, judge, verdicts, labels.

A server is started only when a verdict is missing: relabelling with verdicts that are all stored asks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from constitutions.load import load_constitution
from constitutions.schema import Constitution
from flows.context import RunContext, endpoint_identity
from flows.stages.batching import collect_by_batch
from flows.stages.judge_server import check_readout, log_abilities
from flows.stages.servers import check_endpoint, judge_client
from judges.assignment import cover
from judges.bias import bias_metrics, measure_bias, require_fair, two_orders
from judges.judge_processes import JudgeProcesses
from judges.labelling import Collection, collect_verdicts
from judges.labels import Labelled, label_pairs, labels_of
from judges.model_judge import ModelJudge
from judges.questions import Judge, Pair, Question, Questionnaire, write_questions
from judges.rules_judge import RulesJudge
from judges.statistics import LabellingStatistics, order_statistics
from ratify.canonical import digest
from ratify.client import ChatClient
from ratify.types import Label, Prompt, Verdict
from ratify.verdict_store import VerdictStore

DECIDED = "label/checks/decided"
"""Metric key: views (a principle on a pair) that its checks decided, so that no judge was asked."""


@dataclass(frozen=True)
class Judged:
    """Pairs with their labels, the verdicts behind them, and what it took."""

    labelled: Labelled
    verdicts: list[Verdict]
    metrics: dict[str, Any]

    @cached_property
    def labels(self) -> list[Label]:
        """The labels as records."""
        return labels_of(self.labelled)


def constitution_of(context: RunContext) -> Constitution:
    """The constitution that the configuration names."""
    return load_constitution(context.config.constitution)


def make_judge(context: RunContext, client: ChatClient | None = None) -> Judge:
    """The judge that the configuration names; without a client it can write questions but not answer them."""
    section = context.config.judge
    if section.kind == "rules":
        return RulesJudge(section.protocol, section.cache_salt)
    return ModelJudge(section, client, model_hash=digest(endpoint_identity(section)))


def check_judge(context: RunContext) -> None:
    """Load the constitution, and look at the judge's model or server."""
    constitution_of(context)
    if context.config.judge.kind == "model":
        check_endpoint(context.config.judge, "judge")
        check_readout(context.config.judge)


def judge_pairs(
    context: RunContext,
    prompts: Mapping[str, Prompt],
    pairs: Sequence[Pair],
    *,
    log_path: Path,
    stage: str,
    per_pair: int = 0,
) -> Judged:
    """Have every pair judged; verdicts that the store holds are not asked for again.

    Args:
        context: The round.
        prompts: By id; at least those of the pairs.
        pairs: Two completions of one prompt each.
        log_path: Where a managed server logs.
        stage: First part of the metric keys.
        per_pair: Principles drawn for each pair; 0 asks all that apply.
    """
    constitution, protocol = constitution_of(context), context.config.judge.protocol
    judge = make_judge(context)
    coverage = cover(prompts, pairs, constitution.active, judge, per_pair)
    questionnaire = write_questions(prompts, pairs, constitution.active, judge, coverage.open)
    collection = asyncio.run(_collect(context, questionnaire, log_path))
    found = label_pairs(
        questionnaire, collection.verdicts, collection.failures, constitution, protocol, decided=coverage.decided
    )
    metrics = collection.statistics.metrics() | money_spent(context, collection.statistics)
    metrics[DECIDED] = int(found.evidence.by_checks.sum())
    if protocol == "pairwise":
        metrics |= order_statistics(questionnaire.keys, collection.verdicts).metrics()
        metrics |= _measured_bias(context, questionnaire, collection)
    named = {key.replace("label/", f"{stage}/", 1): value for key, value in metrics.items()}
    return Judged(found, list(collection.verdicts.values()), named)


def money_spent(context: RunContext, statistics: LabellingStatistics) -> dict[str, float]:
    """What this pass cost by `judge.price`, under a metric key that names the currency; nothing without a price."""
    price = context.config.judge.price
    if price is None:
        return {}
    return {f"label/money/{price.currency}": price.cost(statistics.prompt_tokens, statistics.completion_tokens)}


def _measured_bias(context: RunContext, questionnaire: Questionnaire, collection: Collection) -> dict[str, float]:
    """What position, length and format decided, by principle; a judge that goes by position is refused.

    Raises:
        BudgetError: more than `judge.max_same_position` of a principle's pairs prefer the same position in both orders.
    """
    judge = make_judge(context).fingerprint
    sheets = two_orders(questionnaire, collection.verdicts)
    biases = [measure_bias(judge, principle, pairs) for principle, pairs in sheets.items()]
    for bias in biases:
        require_fair(bias, context.config.judge.max_same_position)
    return bias_metrics(biases)


async def _collect(context: RunContext, questionnaire: Questionnaire, log_path: Path) -> Collection:
    store = context.verdict_store()
    try:
        return await collect(context, questionnaire.questions, store, log_path)
    finally:
        store.close()


async def collect(
    context: RunContext, questions: Mapping[str, Question], store: VerdictStore, log_path: Path
) -> Collection:
    """The verdicts of some questions; a server is started only when `store` lacks one."""
    if context.config.judge.kind == "rules" or not store.lacks(questions):
        return await _ask(context, questions, make_judge(context), store)
    if context.config.judge.batch:
        return await collect_by_batch(context, questions, store, lambda client: make_judge(context, client))
    async with judge_client(context, log_path=log_path) as client:
        await log_abilities(client, context.config.judge, log_path.parent)
        if context.config.judge.processes == 1:
            return await _ask(context, questions, make_judge(context, client), store)
        section = context.config.judge
        identity = digest(endpoint_identity(section))
        async with JudgeProcesses(section, client.base_url, client.model, model_hash=identity) as judge:
            return await _ask(context, questions, judge, store)


async def _ask(context: RunContext, questions: Mapping[str, Question], judge: Judge, store: VerdictStore) -> Collection:
    section = context.config.judge
    with context.show("judging") as progress:
        return await collect_verdicts(
            questions, judge, store,
            failure_budget=section.failure_budget, progress=progress, price=section.price,
        )  # fmt: skip
