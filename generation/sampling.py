"""K completions of every prompt from one policy, in shards that a killed run finds again.

One request per completion, each with a seed derived from the run's seed, the prompt and the index, so that a
completion does not depend on the order of the work. Requests of several shards are in flight together, which keeps
the server busy over the end of a shard; a shard is written when its last completion is there, and read instead of
sampled when it exists. A request that fails after the client's retries is a failure with its raw text, beside the
shard; shards with failures are written last, so that a run stopped by too many of them samples those prompts again.
Left out: several completions per request, which would tie their seeds to each other and stretch the longest request.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ratify.client import CallFailed, ChatClient
from ratify.errors import EndpointError, StoreError
from ratify.files import read_records, write_records
from ratify.progress import Progress, Silent
from ratify.sections import SamplingSection
from ratify.types import Completion, Failure, Prompt, Record
from ratify.workers import run_workers

OnShard = Callable[[Sequence[Completion]], None]
FAILURE_BUDGET = 0.02
"""Largest share of requests that may fail before sampling stops."""


class FailedCompletion(Record):
    """A request that gave no completion."""

    prompt_id: str
    index: int
    failure: Failure
    raw: str


class Sampled(NamedTuple):
    """All completions in the order of the prompts, what failed, and the figures by metric key."""

    completions: list[Completion]
    failures: list[FailedCompletion]
    metrics: dict[str, float]


class Shard(NamedTuple):
    """Some prompts whose completions lie in one file."""

    number: int
    prompts: Sequence[Prompt]
    folder: Path

    @property
    def path(self) -> Path:
        """The completions; the file's existence means that the shard is whole."""
        return self.folder / f"completions-{self.number:05d}.jsonl"

    @property
    def failures_path(self) -> Path:
        """The requests that failed; there only if some did."""
        return self.folder / f"failures-{self.number:05d}.jsonl"


def read_completions(folder: Path) -> list[Completion]:
    """The completions of a finished pass, in the order of the prompts."""
    return list(stream_completions(folder))


def stream_completions(folder: Path) -> Iterator[Completion]:
    """The same, a shard in memory at a time."""
    for shard in sorted(folder.glob("completions-*.jsonl")):
        yield from read_records(shard, Completion)


def completion_seed(run_seed: int, prompt_id: str, index: int) -> int:
    """The seed of one completion: a pure function of the three, in the 31 bits that every server accepts."""
    digest = hashlib.sha256(f"{run_seed}\n{prompt_id}\n{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def shards_of(prompts: Sequence[Prompt], shard_size: int, folder: Path) -> list[Shard]:
    """Cut the prompts into shards, in their order."""
    starts = range(0, len(prompts), shard_size)
    return [Shard(number, prompts[at : at + shard_size], folder) for number, at in enumerate(starts)]


async def sample_completions(
    prompts: Sequence[Prompt],
    client: ChatClient,
    section: SamplingSection,
    *,
    folder: Path,
    policy_name: str,
    seed: int,
    concurrency: int = 64,
    token_ids: bool = False,
    progress: Progress | None = None,
    on_shard: OnShard | None = None,
) -> Sampled:
    """Sample `section.completions_per_prompt` completions of each prompt, or read those that are there.

    Args:
        folder: where the shards lie; its owner removes shards of other settings.
        policy_name: the middle part of the completions' ids.
        seed: the run's seed.
        concurrency: requests in flight.
        token_ids: ask for the sampled tokens too, which vLLM gives and other servers may refuse.
        progress: where the state of the pass is shown.
        on_shard: called with each shard that is on disk, those that were there first.

    Raises:
        EndpointError: the server refuses every request, or more than `FAILURE_BUDGET` of them failed.
        StoreError: a shard belongs to other prompts, or the disk is full.
    """
    shown = progress or Silent()
    work = _Sampling(
        client, section, shown, policy_name=policy_name, seed=seed, prompts=len(prompts), token_ids=token_ids,
        on_shard=on_shard or (lambda _completions: None),
    )  # fmt: skip
    missing = []
    for shard in shards_of(prompts, section.shard_size, folder):
        if shard.path.exists():
            work.keep(shard, *_read(shard))
        else:
            missing.append(shard)
    await work.run(missing, concurrency)
    return work.result()


class _Sampling:
    """The requests in flight and the shards that they fill."""

    def __init__(
        self,
        client: ChatClient,
        section: SamplingSection,
        progress: Progress,
        *,
        policy_name: str,
        seed: int,
        prompts: int,
        token_ids: bool,
        on_shard: OnShard,
    ) -> None:
        self._client = client
        self._section = section
        self._policy_name = policy_name
        self._seed = seed
        self._token_ids = token_ids
        self._on_shard = on_shard
        self._progress = progress
        self._total = prompts * section.completions_per_prompt
        self._completions: dict[int, list[Completion]] = {}
        self._failures: dict[int, list[FailedCompletion]] = {}
        self._done = self._failed = self._new_tokens = 0
        self._started = time.monotonic()

    def keep(self, shard: Shard, completions: list[Completion], failures: list[FailedCompletion]) -> None:
        """Count a shard that was there already."""
        self._completions[shard.number] = completions
        self._failures[shard.number] = failures
        self._done += len(completions) + len(failures)
        self._failed += len(failures)
        self._on_shard(completions)

    async def run(self, shards: list[Shard], concurrency: int) -> None:
        """Fill the shards; the first fault cancels what is in flight."""
        for shard in shards:
            self._completions[shard.number], self._failures[shard.number] = [], []
        requests = self._requests(shards)
        await run_workers(min(concurrency, self._total), lambda: self._work(requests))
        for shard in shards:
            if self._failures[shard.number]:
                self._write(shard)

    def result(self) -> Sampled:
        """Everything, in the order of the prompts."""
        completions = [item for number in sorted(self._completions) for item in self._completions[number]]
        failures = [item for number in sorted(self._failures) for item in self._failures[number]]
        seconds = time.monotonic() - self._started
        return Sampled(completions, failures, _metrics(completions, len(failures), self._new_tokens, seconds))

    def _requests(self, shards: list[Shard]) -> Iterator[tuple[Shard, Prompt, int]]:
        for shard in shards:
            for prompt in shard.prompts:
                for index in range(self._section.completions_per_prompt):
                    yield shard, prompt, index

    async def _work(self, requests: Iterator[tuple[Shard, Prompt, int]]) -> None:
        for shard, prompt, index in requests:
            try:
                completion = await self._one(prompt, index)
            except CallFailed as error:
                failed = FailedCompletion(prompt_id=prompt.id, index=index, failure=error.failure, raw=error.raw)
                self._fail(shard, failed)
            else:
                self._completions[shard.number].append(completion)
                self._new_tokens += completion.completion_tokens
            self._settle(shard)

    async def _one(self, prompt: Prompt, index: int) -> Completion:
        seed = completion_seed(self._seed, prompt.id, index)
        answer = await self._client.chat(
            prompt.messages,
            max_tokens=self._section.max_tokens,
            temperature=self._section.temperature,
            top_p=self._section.top_p,
            seed=seed,
            extra_body={"return_token_ids": True} if self._token_ids else None,
        )
        return Completion(
            id=f"{prompt.id}/{self._policy_name}/{index}",
            prompt_id=prompt.id,
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            seed=seed,
            token_ids=answer.token_ids,
        )

    def _fail(self, shard: Shard, failed: FailedCompletion) -> None:
        self._failures[shard.number].append(failed)
        self._failed += 1
        if self._failed > FAILURE_BUDGET * self._total:
            raise EndpointError(
                f"{self._failed} of {self._total} requests to {self._client.base_url} failed, more than "
                f"{FAILURE_BUDGET:.0%} (the last: {failed.failure}: {failed.raw[:200]}); mend the server and run again"
            )

    def _settle(self, shard: Shard) -> None:
        self._done += 1
        rate = self._new_tokens / max(time.monotonic() - self._started, 1e-9)
        self._progress.update(self._done, self._total, f"{rate:.0f} tokens/s")
        wanted = len(shard.prompts) * self._section.completions_per_prompt
        if len(self._completions[shard.number]) == wanted:
            self._write(shard)

    def _write(self, shard: Shard) -> None:
        order = {prompt.id: position for position, prompt in enumerate(shard.prompts)}
        self._completions[shard.number].sort(key=lambda item: (order[item.prompt_id], int(item.id.rpartition("/")[2])))
        self._failures[shard.number].sort(key=lambda item: (order[item.prompt_id], item.index))
        if self._failures[shard.number]:
            write_records(shard.failures_path, self._failures[shard.number])
        write_records(shard.path, self._completions[shard.number])
        self._on_shard(self._completions[shard.number])


def _read(shard: Shard) -> tuple[list[Completion], list[FailedCompletion]]:
    completions = read_records(shard.path, Completion)
    failures = read_records(shard.failures_path, FailedCompletion) if shard.failures_path.exists() else []
    found = {item.prompt_id for item in completions} | {item.prompt_id for item in failures}
    if found != {prompt.id for prompt in shard.prompts}:
        raise StoreError(f"{shard.path} holds completions of other prompts; delete {shard.folder} and run again")
    return completions, failures


def _metrics(completions: list[Completion], failed: int, new_tokens: int, seconds: float) -> dict[str, float]:
    """The stage's figures; tokens per second counts only what was sampled now, not what was read."""
    tokens = sum(item.completion_tokens for item in completions)
    count = max(len(completions), 1)
    figures: dict[str, float] = {
        "generation/completions/count": len(completions),
        "generation/completions/failed": failed,
        "generation/tokens/count": tokens,
        "generation/tokens/prompt_count": sum(item.prompt_tokens for item in completions),
        "generation/tokens/per_second": new_tokens / seconds if seconds > 0 else 0.0,
        "generation/length/mean": tokens / count,
        "generation/seconds/sampling": seconds,
    }
    reasons = Counter(item.finish_reason for item in completions)
    return figures | {f"generation/finish/{reason}": times / count for reason, times in sorted(reasons.items())}
