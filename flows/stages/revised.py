"""Stage `revised`: the revisions judged against the replies before them, and the data that comes of it.

Judged are each revision against the first reply, and each against the reply before it. Files: every label in
`labels.parquet`, what is learnt in `supervised.parquet`, revision over first reply in `pairs.parquet`, all shares with
intervals in `revisions.json`, and the same with replies to read in `revisions.html`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from constitutions.hashes import constitution_hash
from evaluation.compliance import Compared, compliance
from evaluation.intervals import Resampling
from evaluation.revision_page import write_revision_page
from evaluation.revisions import (
    JudgedStep,
    ShownReply,
    ShownStep,
    own_outcome,
    summarise_revisions,
    write_revision_report,
)
from flows.context import RunContext, files_identity
from flows.stages import revise
from flows.stages.generate import training_prompts
from flows.stages.judging import constitution_of, make_judge
from flows.stages.label import LABELS, PAIRS
from flows.stages.panel_judging import check_panel, judge_by_all, panel_lineage
from flows.stages.stage import Metrics, Stage
from generation.revision_records import RevisedReply, RevisionStep
from judges.dataset import write_pairs
from judges.label_table import write_label_table
from judges.questions import Pair
from judges.revision_data import LastRevision, RevisionData, build_revision_data, outcome_of, write_supervised
from ratify.run_store import StageStore
from ratify.templates import conversation_text
from ratify.types import Completion, Label, Prompt, RevisionOutcome

NAME = "revised"
SUPERVISED = "supervised.parquet"
REPORT = "revisions.json"
PAGE = "revisions.html"

Labels = dict[tuple[str, str], Label]
"""By the ids of the reply before and after; none where both texts are the same."""


class Move(NamedTuple):
    """One revision beside the reply before it and the first one."""

    step: RevisionStep
    first: Completion
    before: Completion
    after: Completion


def _lineage(context: RunContext) -> dict[str, Any]:
    config = context.config
    return {
        "revise": files_identity(context.manifest(revise.NAME)),
        "constitution": constitution_hash(constitution_of(context)),
        "judge": make_judge(context).fingerprint,
        **panel_lineage(context),
        "data": config.revision.model_dump(mode="json", include={"revisions", "keep", "pairs_against"}),
        "evaluation": config.evaluation.model_dump(mode="json", include={"confidence", "bootstrap_draws", "world"}),
        "seed": config.run.seed,
    }


def _work(context: RunContext, stage: StageStore) -> Metrics:
    config, prompts = context.config, {prompt.id: prompt for prompt in training_prompts(context)}
    firsts = {each.id: each for each in revise.first_replies(context)}
    moves = [move for reply in revise.revised_replies(context) for move in _moves(firsts[reply.first_id], reply)]
    judged = judge_by_all(context, prompts, _pairs(moves), log_path=stage.path / "server.log", stage=NAME)
    labels = {(label.a_id, label.b_id): label for label in judged.labels}
    data = _data(context, moves, labels, prompts)
    steps = [_judged(move, labels, config.revision.revisions) for move in moves]
    how = Resampling(config.evaluation.confidence, config.evaluation.bootstrap_draws, config.run.seed)
    counts = {f"{NAME}/{thing}/count": count for thing, count in data.counts.items()}
    constitution = constitution_of(context)
    title = f"{constitution.id} {constitution.version}, critique and revision"
    report = summarise_revisions(
        steps,
        counts,
        how,
        title=title,
        replies=_shown(moves, labels, prompts),
        truth=_truth(context, moves, prompts, how),
    )
    write_label_table(stage.path / LABELS, judged.labelled)
    write_pairs(stage.path / PAIRS, data.pairs)
    write_supervised(stage.path / SUPERVISED, data.supervised)
    write_revision_report(stage.path / REPORT, report)
    write_revision_page(stage.path / PAGE, report)
    return judged.metrics | {key: estimate.value for key, estimate in report.metrics.items()} | counts


def _truth(
    context: RunContext, moves: Sequence[Move], prompts: Mapping[str, Prompt], how: Resampling
) -> dict[str, Compared]:
    """What the demo's oracle says of first replies and last revisions, where the prompts belong to the demo's world."""
    last = [move for move in moves if move.step.number == context.config.revision.revisions]
    if context.config.evaluation.world != "demo" or not last:
        return {}
    from demo.oracle import assess

    firsts, lasts = [move.first for move in last], [move.after for move in last]
    questions = {name: prompt.messages[-1].content for name, prompt in prompts.items()}
    facts = {each.id: assess(questions[each.prompt_id], each.text)._asdict() for each in (*firsts, *lasts)}
    return compliance(firsts, lasts, facts, how)


def _moves(first: Completion, reply: RevisedReply) -> Iterator[Move]:
    before = first
    for step, after in zip(reply.steps, reply.completions(), strict=True):
        yield Move(step, first, before, after)
        before = after


def _pairs(moves: Sequence[Move]) -> list[Pair]:
    """First reply and revision, reply before and revision; each pair once, and none of equal texts."""
    pairs = {
        (before.id, move.after.id): (before, move.after)
        for move in moves
        for before in (move.first, move.before)
        if before.text != move.after.text
    }
    return list(pairs.values())


def _data(context: RunContext, moves: Sequence[Move], labels: Labels, prompts: dict[str, Prompt]) -> RevisionData:
    section = context.config.revision
    drawn: dict[str, list[str]] = {}
    for move in moves:
        drawn.setdefault(move.first.id, []).append(move.step.principle)
    last = [move for move in moves if move.step.number == section.revisions]
    return build_revision_data(
        [LastRevision(move.first, move.after, tuple(drawn[move.first.id])) for move in last],
        {move.after.id: found for move in last if (found := labels.get((move.first.id, move.after.id)))},
        prompts,
        constitution_hash(constitution_of(context)),
        keep=section.keep,
        pairs_against=section.pairs_against,
    )


def _shown(moves: Sequence[Move], labels: Labels, prompts: dict[str, Prompt]) -> list[ShownReply]:
    """Every reply as the page would show it."""
    steps: dict[str, list[ShownStep]] = {}
    for move in moves:
        label = labels.get((move.first.id, move.after.id))
        chance = 0.5 if label is None else None if label.probability is None else 1.0 - label.probability
        steps.setdefault(move.first.id, []).append(
            ShownStep(
                principle=move.step.principle,
                critique=move.step.critique.text,
                revision=move.after.text,
                outcome=outcome_of(label),
                probability=chance,
            )
        )
    firsts = {move.first.id: move.first for move in moves}
    return [
        ShownReply(
            prompt=conversation_text(prompts[first.prompt_id].messages), first=first.text, steps=tuple(steps[name])
        )
        for name, first in firsts.items()
    ]


def _judged(move: Move, labels: Labels, revisions: int) -> JudgedStep:
    change = labels.get((move.before.id, move.after.id))
    return JudgedStep(
        prompt_id=move.first.prompt_id,
        number=move.step.number,
        is_last=move.step.number == revisions,
        principle=move.step.principle,
        against_first=outcome_of(labels.get((move.first.id, move.after.id))),
        against_before=outcome_of(change),
        own=_own(change, move.step.principle),
        first_tokens=move.first.completion_tokens,
        tokens=move.after.completion_tokens,
    )


def _own(change: Label | None, principle: str) -> RevisionOutcome | None:
    """What the drawn principle alone says of its step; None where the judge abstains from it."""
    if change is None:
        return "tied"
    if principle in change.by_principle:
        return own_outcome(change.by_principle[principle])
    return "failed" if any(each.startswith(f"{principle}: ") for each in change.failures) else None


def _summary(metrics: Metrics) -> str:
    shares = ", ".join(
        f"{metrics[key]:.0%} {outcome}"
        for outcome in ("better", "worse", "tied", "failed")
        if (key := f"{NAME}/last/{outcome}") in metrics
    )
    return (
        f"last revisions against first replies: {shares or 'none to compare'}; "
        f"{metrics[f'{NAME}/supervised/count']:,} supervised rows, {metrics[f'{NAME}/pairs/count']:,} preference pairs"
    )


REVISED = Stage(NAME, "judging the revisions by the constitution", _lineage, _work, _summary, check_panel)
