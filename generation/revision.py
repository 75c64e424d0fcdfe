"""Critique-and-revision: each first reply is criticised by a drawn principle and rewritten, n times.

One worker per reply, because its steps follow each other; as many replies at once as the endpoint takes requests.
Principle and seeds are pure functions of the run's seed, the reply's id and the step, so nothing depends on the order
of the work. Replies come in shards: one is written when its last reply is done, and read instead of asked when it
exists. A request that fails ends its reply's steps and is kept as a typed failure with the steps before it; shards
with failures are written last, so that a run stopped by too many of them asks again. Left out: the first replies
(`sampling`), and whether a revision is any better, which judges decide.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from generation.revision_prompts import RevisionScript, messages_hash
from generation.revision_records import FailedStep, RevisedReply, RevisionRequest, RevisionStep, StepPart, Turn
from generation.sampling import completion_seed
from ratify.client import CallFailed, ChatClient
from ratify.errors import EndpointError, StoreError
from ratify.files import read_records, write_records
from ratify.progress import Progress, Silent
from ratify.sections import RevisionSection
from ratify.types import Completion, Failure, Message, Prompt
from ratify.workers import run_workers


class Revised(NamedTuple):
    """All replies in the order of the first ones, and the figures by metric key."""

    replies: list[RevisedReply]
    metrics: dict[str, float]


class Draft(NamedTuple):
    """A first reply with what it answers and the principles that are for it."""

    prompt: Prompt
    first: Completion
    requests: Sequence[RevisionRequest]


class Shard(NamedTuple):
    """Some first replies whose steps lie in one file; its existence means that it is whole."""

    path: Path
    drafts: Sequence[Draft]


def read_revised(folder: Path) -> list[RevisedReply]:
    """The replies of a finished pass, in the order of the first replies."""
    return [reply for path in sorted(folder.glob("revised-*.jsonl")) for reply in read_records(path, RevisedReply)]


def draw_request(requests: Sequence[RevisionRequest], run_seed: int, first_id: str, number: int) -> RevisionRequest:
    """One principle, each as likely as the others, drawn anew at every step.

    The principle whose id hashes highest is taken (rendezvous hashing), so that one more or less among them leaves
    most draws as they were, and their order moves none.
    """
    place = f"{run_seed}\n{first_id}\n{number}\n"
    return max(requests, key=lambda request: hashlib.sha256(f"{place}{request.principle}".encode()).digest())


async def revise_replies(
    drafts: Sequence[Draft],
    client: ChatClient,
    section: RevisionSection,
    script: RevisionScript,
    *,
    folder: Path,
    seed: int,
    concurrency: int = 64,
    progress: Progress | None = None,
) -> Revised:
    """Criticise and rewrite every reply `section.revisions` times, or read what is there.

    Args:
        drafts: the first replies; one for which no principle is keeps no steps.
        folder: where the shards lie; its owner removes shards of other settings.
        seed: the run's seed.
        concurrency: replies in work, each with one request in flight.

    Raises:
        EndpointError: the server refuses every request, or more than `section.failure_budget` of the replies failed.
        StoreError: a shard belongs to other replies, or the disk is full.
    """
    work = _Revising(client, section, script, progress or Silent(), seed=seed, total=len(drafts))
    missing = []
    for number, at in enumerate(range(0, len(drafts), section.shard_size)):
        shard = Shard(folder / f"revised-{number:05d}.jsonl", drafts[at : at + section.shard_size])
        if shard.path.exists():
            work.keep(shard, _read(shard))
        else:
            missing.append(shard)
    await work.run(missing, concurrency)
    return work.result(drafts)


class _Revising:
    """The replies in work and the shards that they fill."""

    def __init__(
        self,
        client: ChatClient,
        section: RevisionSection,
        script: RevisionScript,
        progress: Progress,
        *,
        seed: int,
        total: int,
    ) -> None:
        self._client = client
        self._section = section
        self._script = script
        self._progress = progress
        self._seed = seed
        self._total = total
        self._replies: dict[str, RevisedReply] = {}
        """By the first reply's id."""
        self._failed = self._new_tokens = 0
        self._started = time.monotonic()

    def keep(self, shard: Shard, replies: list[RevisedReply]) -> None:
        """Count a shard that was there already."""
        self._replies |= {draft.first.id: reply for draft, reply in zip(shard.drafts, replies, strict=True)}
        self._failed += sum(reply.failed is not None for reply in replies)

    async def run(self, shards: list[Shard], concurrency: int) -> None:
        """Fill the shards; the first fault cancels what is in flight."""
        drafts = ((shard, draft) for shard in shards for draft in shard.drafts)
        await run_workers(min(concurrency, self._total), lambda: self._work(drafts))
        for shard in shards:
            if not shard.path.exists():
                self._write(shard)

    def result(self, drafts: Sequence[Draft]) -> Revised:
        """Everything, in the order of the first replies."""
        replies = [self._replies[draft.first.id] for draft in drafts]
        texts = {draft.first.id: draft.first.text for draft in drafts}
        seconds = time.monotonic() - self._started
        return Revised(replies, _metrics(replies, texts, self._new_tokens, seconds))

    async def _work(self, drafts: Iterator[tuple[Shard, Draft]]) -> None:
        for shard, draft in drafts:
            reply = await self._revise(draft)
            self._replies[draft.first.id] = reply
            if reply.failed:
                self._fail(reply.failed)
            self._settle(shard)

    async def _revise(self, draft: Draft) -> RevisedReply:
        steps: list[RevisionStep] = []
        failed: FailedStep | None = None
        text = draft.first.text
        for number in range(1, self._section.revisions + 1) if draft.requests else ():
            made = await self._step(draft, text, number)
            if isinstance(made, FailedStep):
                failed = made
                break
            steps.append(made)
            text = made.revision.text
        return RevisedReply(prompt_id=draft.prompt.id, first_id=draft.first.id, steps=tuple(steps), failed=failed)

    async def _step(self, draft: Draft, text: str, number: int) -> RevisionStep | FailedStep:
        request = draw_request(draft.requests, self._seed, draft.first.id, number)
        messages = self._script.critique(draft.prompt, text, request)
        part: StepPart = "critique"
        critique: Turn | None = None
        try:
            critique = await self._ask(messages, draft.first.id, number, part)
            part = "revision"
            messages = self._script.revision(messages, critique.text, request)
            revision = await self._ask(messages, draft.first.id, number, part)
        except CallFailed as error:
            return FailedStep(
                number=number, part=part, principle=request.principle, failure=error.failure, raw=error.raw,
                messages_hash=messages_hash(messages), critique=critique,
            )  # fmt: skip
        return RevisionStep(
            number=number, principle=request.principle, requests_hash=request.hash, composed=request.composed,
            critique=critique, revision=revision,
        )  # fmt: skip

    async def _ask(self, messages: Sequence[Message], first_id: str, number: int, part: StepPart) -> Turn:
        """One answer; an empty or a refused one is a failure."""
        seed = completion_seed(self._seed, f"{first_id}\n{part}", number)
        section = self._section
        answer = await self._client.chat(
            messages, max_tokens=section.max_tokens, temperature=section.temperature, top_p=section.top_p, seed=seed
        )
        if answer.finish_reason == "content_filter":
            raise CallFailed(Failure.REFUSED, answer.text)
        if not answer.text.strip():
            raise CallFailed(Failure.PARSE_ERROR, f"the {part} is empty (finish reason {answer.finish_reason!r})")
        self._new_tokens += answer.completion_tokens
        return Turn(
            text=answer.text,
            messages_hash=messages_hash(messages),
            seed=seed,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
        )

    def _fail(self, failed: FailedStep) -> None:
        self._failed += 1
        if self._failed > self._section.failure_budget * self._total:
            raise EndpointError(
                f"{self._failed} of {self._total} replies could not be revised by {self._client.base_url}, more than "
                f"revision.failure_budget = {self._section.failure_budget:.0%} (the last: {failed.part} of step "
                f"{failed.number}: {failed.failure}: {failed.raw[:200]}); mend the server or raise the budget, and run "
                "again"
            )

    def _settle(self, shard: Shard) -> None:
        rate = self._new_tokens / max(time.monotonic() - self._started, 1e-9)
        failed = f", {self._failed} failed" if self._failed else ""
        self._progress.update(len(self._replies), self._total, f"{rate:.0f} tokens/s{failed}")
        found = [self._replies.get(draft.first.id) for draft in shard.drafts]
        if all(reply is not None and reply.failed is None for reply in found):
            self._write(shard)

    def _write(self, shard: Shard) -> None:
        write_records(shard.path, [self._replies[draft.first.id] for draft in shard.drafts])


def _read(shard: Shard) -> list[RevisedReply]:
    replies = read_records(shard.path, RevisedReply)
    if [reply.first_id for reply in replies] != [draft.first.id for draft in shard.drafts]:
        raise StoreError(f"{shard.path} holds revisions of other replies; delete {shard.path.parent} and run again")
    return replies


def _metrics(
    replies: Sequence[RevisedReply], firsts: Mapping[str, str], new_tokens: int, seconds: float
) -> dict[str, float]:
    """The figures; tokens per second counts only what was asked now, not what was read."""
    steps = [step for reply in replies for step in reply.steps]
    failed = [reply.failed for reply in replies if reply.failed]
    critiques = [step.critique for step in steps] + [each.critique for each in failed if each.critique]
    turns = [*critiques, *(step.revision for step in steps)]
    count = max(len(steps), 1)
    figures: dict[str, float] = {
        "revision/replies/count": len(replies),
        "revision/replies/failed": len(failed),
        "revision/replies/without_principle": sum(not reply.steps and reply.failed is None for reply in replies),
        "revision/steps/count": len(steps),
        "revision/steps/unchanged": sum(_unchanged(reply, firsts[reply.first_id]) for reply in replies) / count,
        "revision/steps/composed_requests": sum(step.composed for step in steps) / count,
        "revision/steps/cut_critiques": sum(step.critique.finish_reason == "length" for step in steps) / count,
        "revision/steps/cut_revisions": sum(step.revision.finish_reason == "length" for step in steps) / count,
        "revision/tokens/count": sum(turn.completion_tokens for turn in turns),
        "revision/tokens/prompt_count": sum(turn.prompt_tokens for turn in turns),
        "revision/tokens/per_second": new_tokens / seconds if seconds > 0 else 0.0,
        "revision/length/critique_mean": sum(step.critique.completion_tokens for step in steps) / count,
        "revision/length/revision_mean": sum(step.revision.completion_tokens for step in steps) / count,
        "revision/seconds/revising": seconds,
    }
    kinds = Counter(f"{each.part}_{each.failure}" for each in failed)
    return figures | {f"revision/failures/{kind}": times for kind, times in sorted(kinds.items())}


def _unchanged(reply: RevisedReply, first: str) -> int:
    """Steps whose revision is the reply before it, word for word."""
    texts = [first, *(step.revision.text for step in reply.steps)]
    return sum(before == after for before, after in pairwise(texts))
