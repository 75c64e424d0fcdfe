"""One way to have pairs judged, shared by the stages `label` and `evaluate`: questions, judge, verdicts, labels.

A server is started only when a verdict is missing: relabelling with verdicts that are all stored asks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from constitutions.load import load_constitution
from constitutions.schema import Constitution
from flows.context import RunContext, endpoint_identity
from flows.stages.batching import collect_by_batch
from flows.stages.canaries import (
    Canaries,
    Findings,
    calibrated_verdicts,
    examine_canaries,
    findings_metrics,
    mixed,
    resampling,
    write_canaries,
    write_findings,
)
from flows.stages.judge_server import check_readout, log_abilities
from flows.stages.servers import check_endpoint, judge_client
from flows.stages.spending import judging_budget
from judges import bias
from judges.assignment import cover
from judges.bias import JudgeBias, bias_metrics, measure_bias, require_fair, two_orders
from judges.gold import load_gold
from judges.judge_processes import JudgeProcesses
from judges.labelling import Collection, Tally, label_stream
from judges.labels import Labelled, label_pairs, labels_of
from judges.model_judge import ModelJudge
from judges.questions import Judge, Pair, Question, Questionnaire, verdict_keys, write_questions
from judges.ranking_judge import RankingJudge, model_judge
from judges.rendering import PROMPT_FOLDER
from judges.replay_judge import ReplayJudge, read_recording
from judges.rules_judge import RulesJudge
from judges.statistics import LabellingStatistics, order_statistics
from judges.usage import CallShape
from ratify.canonical import digest
from ratify.client import ChatClient
from ratify.model_family import require_other_family
from ratify.types import Label, Prompt, Protocol, Verdict
from ratify.verdict_store import VerdictStore

DECIDED = "label/checks/decided"
"""Metric key: views (a principle on a pair) that its checks decided, so that no judge was asked."""
WATCHED = "label"
"""The stage whose questions have canaries among them."""
WRITTEN = ("reasoning", "json", "samples")
"""Read-outs that write a text, which is asked for again when it is no verdict."""
TOKENS_OF_ONE = 4
"""More than any read-out of one token writes."""


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


class Heard(NamedTuple):
    """What one judge said of a questionnaire."""

    judge: Judge
    collection: Collection
    watch: Canaries | None
    biases: list[JudgeBias]
    findings: Findings | None
    worth: Mapping[str, Verdict]
    """The verdicts, calibrated where canaries taught how."""
    metrics: dict[str, Any]


def constitution_of(context: RunContext) -> Constitution:
    """The constitution that the configuration names."""
    return load_constitution(context.config.constitution)


def make_judge(context: RunContext, client: ChatClient | None = None) -> Judge:
    """The judge that the configuration names; without a client it can write questions but not answer them."""
    section = context.config.judge
    if section.kind == "rules":
        return RulesJudge(section.verdict_protocol, section.cache_salt)
    if section.recordings is not None:
        return _replay_judge(section.recordings, section.verdict_protocol)
    return model_judge(section, client, model_hash=digest(endpoint_identity(section)))


def judge_shape(context: RunContext) -> CallShape | None:
    """How the configured judge asks its server, at most; None for a judge that asks nobody."""
    section, judge = context.config.judge, make_judge(context)
    if not isinstance(judge, ModelJudge | RankingJudge):
        return None
    texts = section.readout in WRITTEN
    turn = (section.prompts_dir or PROMPT_FOLDER) / f"{section.protocol}_turn.txt"
    return CallShape(
        requests=judge.calls_per_question * (1 + section.max_reasks * texts),
        text_tokens=section.text_tokens if texts else TOKENS_OF_ONE,
        template_bytes=len(judge.prompt.text.encode()) + (turn.stat().st_size if turn.exists() else 0),
    )


@lru_cache(maxsize=2)
def _replayed(path: Path, _changed: int, protocol: Protocol) -> ReplayJudge:
    """A recording is read once while its file stays as it is."""
    return ReplayJudge(read_recording(path), protocol, name=path.stem)


def _replay_judge(path: Path, protocol: Protocol) -> ReplayJudge:
    return _replayed(path, path.stat().st_mtime_ns if path.exists() else 0, protocol)


def check_judge(context: RunContext) -> None:
    """Load the constitution and look at the judge: its family, its recording, its model or server."""
    config = context.config
    constitution_of(context)
    if config.gold.path is not None and config.gold.canaries:
        load_gold(config.gold.path)
    if config.judge.kind == "replay":
        make_judge(context)
    if config.judge.kind == "model":
        if config.judge.forbid_policy_family:
            require_other_family(config.judge.model, config.policy.trainable)
        check_endpoint(config.judge, "judge")
        check_readout(config.judge)


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
    constitution, protocol = constitution_of(context), context.config.judge.verdict_protocol
    judge = make_judge(context)
    coverage = cover(prompts, pairs, constitution.active, judge, per_pair)
    questionnaire = write_questions(prompts, pairs, constitution.active, judge, coverage.open)
    heard = hear(context, questionnaire, log_path=log_path, watched=stage == WATCHED)
    seen, failures = heard.collection.verdicts, heard.collection.failures
    found = label_pairs(questionnaire, heard.worth, failures, constitution, protocol, decided=coverage.decided)
    metrics = heard.metrics | {DECIDED: int(found.evidence.by_checks.sum())}
    if protocol == "pairwise":
        metrics |= order_statistics(questionnaire.keys, seen).metrics()
    write_findings(log_path.parent, judge, heard.biases, heard.findings)
    named = {key.replace("label/", f"{stage}/", 1): value for key, value in metrics.items()}
    return Judged(found, list(seen.values()), named)


def hear(context: RunContext, questionnaire: Questionnaire, *, log_path: Path, watched: bool) -> Heard:
    """Have the configured judge answer a questionnaire, with canaries among the questions when it is `watched`.

    Raises:
        BudgetError: the judge fails too often, goes by position, or agrees with too few canaries.
    """
    constitution, judge = constitution_of(context), make_judge(context)
    watch = write_canaries(context, constitution, judge) if watched else None
    whole = {each.key: each for each in mixed(questionnaire.questions.values(), len(questionnaire.questions), watch)}
    collection = asyncio.run(_collect(context, whole, log_path))
    seen, failures = collection.verdicts, collection.failures
    biases = fair_biases(context, two_orders(questionnaire, seen).items())
    findings = None
    if watch:
        findings = examine_canaries(context, watch, constitution, judge, verdicts=seen, failures=failures)
    metrics = collection.statistics.metrics() | money_spent(context, collection.statistics)
    return Heard(
        judge, collection, watch, biases, findings,
        worth=calibrated_verdicts(context, seen, findings, judge, watched=watched),
        metrics=metrics | bias_metrics(biases) | findings_metrics(findings),
    )  # fmt: skip


def money_spent(context: RunContext, statistics: LabellingStatistics) -> dict[str, float]:
    """What this pass cost by `judge.price`, under a metric key that names the currency; nothing without a price."""
    price = context.config.judge.price
    if price is None:
        return {}
    return {f"label/money/{price.currency}": price.cost(statistics.prompt_tokens, statistics.completion_tokens)}


def fair_biases(context: RunContext, judged: Iterable[tuple[str, bias.Judged]]) -> list[JudgeBias]:
    """What position, length and format decided, by principle; a judge that goes by position is refused.

    `judged` has a principle's name and its pairs; they are let go once they are measured.

    Raises:
        BudgetError: more than `judge.max_same_position` of a principle's pairs prefer the same position in both orders.
    """
    judge, protocol, how = make_judge(context).fingerprint, context.config.judge.verdict_protocol, resampling(context)
    biases = [measure_bias(judge, principle, pairs, how, protocol) for principle, pairs in judged]
    for found in biases:
        require_fair(found, context.config.judge.max_same_position)
    return biases


async def _collect(context: RunContext, questions: Mapping[str, Question], log_path: Path) -> Collection:
    store = context.verdict_store()
    try:
        return await collect(context, questions, store, log_path)
    finally:
        store.close()


async def collect(
    context: RunContext, questions: Mapping[str, Question], store: VerdictStore, log_path: Path
) -> Collection:
    """The verdicts of some questions; a server is started only when `store` lacks one."""
    tally = await ask(context, questions.values, len(questions), store, log_path)
    verdicts = store.get(verdict_keys(questions.values(), tally.failures))
    return Collection(verdicts, tally.failures, tally.statistics)


async def ask(
    context: RunContext, questions: Callable[[], Iterable[Question]], total: int, store: VerdictStore, log_path: Path
) -> Tally:
    """Have questions answered that `store` has no verdict for; a server is started only when there are any.

    Args:
        context: The round.
        questions: Makes the same questions each time.
        total: How many there are; an estimate will do.
        store: Where answers go.
        log_path: Where a managed server logs.
    """
    section = context.config.judge
    if section.kind != "model" or not store.lacks(question.key for question in questions()):
        return await _ask(context, questions(), total, make_judge(context), store)
    if section.batch:
        # A batch is a file of everything that is missing: here all questions are held.
        whole = {question.key: question for question in questions()}
        found = await collect_by_batch(context, whole, store, lambda client: make_judge(context, client))
        return Tally(found.statistics, found.failures)
    async with answering_judge(context, log_path) as judge:
        return await _ask(context, questions(), total, judge, store)


@asynccontextmanager
async def answering_judge(context: RunContext, log_path: Path) -> AsyncIterator[Judge]:
    """The configured judge, ready to answer; a managed server lives as long as the context."""
    section = context.config.judge
    if section.kind != "model":
        yield make_judge(context)
        return
    async with judge_client(context, log_path=log_path) as client:
        await log_abilities(client, section, log_path.parent)
        if section.processes == 1:
            yield make_judge(context, client)
            return
        identity = digest(endpoint_identity(section))
        async with JudgeProcesses(section, client.base_url, client.model, model_hash=identity) as judge:
            yield judge


async def _ask(
    context: RunContext, questions: Iterable[Question], total: int, judge: Judge, store: VerdictStore
) -> Tally:
    section = context.config.judge
    with context.show("judging") as progress, judging_budget(context, judge_shape(context)) as budget:
        return await label_stream(
            questions, judge, store, total=total,
            failure_budget=section.failure_budget, progress=progress, budget=budget, price=section.price,
        )  # fmt: skip
