"""The suites of a run: sampled once per policy, scored beside the held-out replies, gathered into evidence.

A policy's greedy replies lie in the run's folder under `suites/`, by a hash of the policy and the questions: the old
policy's are sampled while its server is up for candidates, and in the next round the parent's are there already. They
are computed again when they are missing. Choices and opinions are rows of the evaluation's scoring.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.grading import Scored, chance_of_first, chose_right, is_right
from evaluation.harness import Tasks, read_harness
from evaluation.report import AnsweredItem, OpinionTwins
from evaluation.suite_items import CapabilityItem, OpinionItem, read_capability, read_sycophancy
from flows.context import RunContext, endpoint_identity
from flows.stages.score_row import score_row
from flows.stages.servers import policy_client
from generation.sampling import read_completions, sample_completions
from ratify.canonical import digest, model_digest
from ratify.client import ChatClient
from ratify.config import Config
from ratify.rounds import first_policy
from ratify.sections import PolicySection

FOLDER = "suites"
"""In the run's folder."""
CHOICE, OPINION = "choice/", "opinion/"
"""Begin the ids of scored rows that are no replies to held-out prompts."""
SIDES = ("a", "b")
REFERENCE = "reference"
"""The weights that training began with, among the scores."""
Written = Mapping[str, str]
"""Item id → a policy's reply."""
Scores = Mapping[str, Mapping[str, Any]]
"""Row id → model's name → its scores."""
_Column = Callable[[str], Scored | None]


class Suites(NamedTuple):
    """What the configuration names."""

    capability: tuple[CapabilityItem, ...] = ()
    sycophancy: tuple[OpinionItem, ...] = ()

    @property
    def written(self) -> tuple[CapabilityItem, ...]:
        """Items that are answered in writing."""
        return tuple(item for item in self.capability if item.answers)


def suites_of(config: Config) -> Suites:
    """Read the files.

    Raises:
        InputError: one of them is not as it should be (file and line).
    """
    section = config.suites
    return Suites(
        read_capability(section.capability) if section.capability else (),
        read_sycophancy(section.sycophancy) if section.sycophancy else (),
    )


def check_suites(context: RunContext) -> None:
    """Look at the files before anything is started."""
    suites_of(context.config)
    harness_of(context.config)


def harness_of(config: Config) -> tuple[Tasks, Tasks] | None:
    """The harness's tasks of the old and of the new policy; None where no results are named.

    Raises:
        InputError: a file is not what the harness writes.
    """
    section = config.suites
    if section.harness_old is None or section.harness_new is None:
        return None
    return read_harness(section.harness_old), read_harness(section.harness_new)


def suites_lineage(config: Config) -> dict[str, Any]:
    """What an evaluation depends on; nothing where no suite is named."""
    suites, harness = suites_of(config), harness_of(config)
    found: dict[str, Any] = {}
    if any(suites):
        items = [item.model_dump(mode="json") for part in suites for item in part]
        found["suites"] = {"items": digest(items), "max_tokens": config.suites.max_tokens}
    if harness:
        found["harness"] = digest([{name: list(task) for name, task in side.items()} for side in harness])
    return found


def compared_models(config: Config) -> dict[str, str]:
    """`old`, and `first` where the run's first policy is another one → the weights.

    A round may train from the first policy and yet sample from the promoted one, so the old policy is not always the
    reference.
    """
    old = config.policy.trainable if config.policy.base_url else config.policy.model
    first = first_policy(config.run_dir)
    differs = first is not None and model_digest(first) != model_digest(old)
    return {"old": old} | ({"first": first} if first and differs else {})


def scored_names(config: Config) -> dict[str, str]:
    """A policy's name in the evidence → its name among the scores, which hold the reference in any case."""
    reference = model_digest(config.policy.trainable)
    compared = compared_models(config)
    return {"new": "new"} | {
        name: REFERENCE if model_digest(model) == reference else name for name, model in compared.items()
    }


async def answer_in_writing(context: RunContext, client: ChatClient, policy: PolicySection) -> Written:
    """The policy's greedy replies, sampled now or when it was last asked the same."""
    items, settings = suites_of(context.config).written, context.config.suites
    if not items:
        return {}
    greedy = context.config.sampling.model_copy(
        update={"completions_per_prompt": 1, "temperature": 0.0, "top_p": 1.0, "max_tokens": settings.max_tokens}
    )
    with context.show("asking the capability suite") as progress:
        sampled = await sample_completions(
            [item.prompt for item in items], client, greedy,
            folder=_folder(context, policy), policy_name="suite", seed=0, concurrency=policy.concurrency,
            progress=progress,
        )  # fmt: skip
    if sampled.failures:
        # What failed is asked again next time.
        for path in _folder(context, policy).glob("*.jsonl"):
            path.unlink()
    return {reply.prompt_id: reply.text for reply in sampled.completions}


def written_answers(context: RunContext, policy: PolicySection, log_path: Path) -> Written:
    """The same for a policy whose server is not up: it is started only if the replies are not there."""

    async def ask() -> Written:
        async with policy_client(context, policy, log_path=log_path) as client:
            return await answer_in_writing(context, client, policy)

    items = suites_of(context.config).written
    if not items:
        return {}
    return _kept(context, policy, items) or asyncio.run(ask())


def score_rows(suites: Suites) -> str:
    """Rows for the scoring task: every choice, and both stances under both opinions, each as the whole reply."""
    rows = [
        score_row(f"{CHOICE}{item.id}/{number}", item.messages, text)
        for item in suites.capability
        for number, text in enumerate(item.choices)
    ]
    rows += [
        score_row(
            f"{OPINION}{item.id}/{opinion}/{reply}",
            item.asked(getattr(item, f"opinion_{opinion}")),
            getattr(item, f"reply_{reply}"),
        )
        for item in suites.sycophancy
        for opinion in SIDES
        for reply in SIDES
    ]
    return "".join(rows)


def answered_items(
    suites: Suites, written: Mapping[str, Written], scores: Scores, names: Mapping[str, str]
) -> list[AnsweredItem]:
    """Which policies answered each item rightly.

    Args:
        suites: the run's.
        written: `old`, `new` and maybe `first` → their replies.
        scores: of the rows of `score_rows`.
        names: as `scored_names` says.
    """
    return [
        AnsweredItem(
            id=item.id,
            tags=item.tags,
            **{policy: _right(item, written.get(policy, {}), _column(scores, name)) for policy, name in names.items()},
        )
        for item in suites.capability
    ]


def opinion_twins(suites: Suites, scores: Scores, names: Mapping[str, str]) -> list[OpinionTwins]:
    """The chances of stance a under both opinions, by the old and the new policy."""
    return [
        OpinionTwins(
            id=item.id,
            tags=item.tags,
            **{policy: _chances(item, _column(scores, names[policy])) for policy in ("old", "new")},
        )
        for item in suites.sycophancy
    ]


def _column(scores: Scores, model: str) -> _Column:
    """A row's score under a model; None where it has none, or none that is finite."""

    def of(row: str) -> Scored | None:
        found = scores.get(row, {}).get(model)
        known = found is not None and math.isfinite(found["logprob"])
        return Scored(float(found["logprob"]), int(found["tokens"])) if found and known else None

    return of


def _right(item: CapabilityItem, written: Written, column: _Column) -> bool | None:
    if item.answers:
        return is_right(item, written[item.id]) if item.id in written else None
    scored = [column(f"{CHOICE}{item.id}/{number}") for number in range(len(item.choices))]
    known = [each for each in scored if each is not None]
    return chose_right(item, known) if len(known) == len(scored) else None


def _chances(item: OpinionItem, column: _Column) -> tuple[float, float] | None:
    found = [_chance(item, column, opinion) for opinion in SIDES]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _chance(item: OpinionItem, column: _Column, opinion: str) -> float | None:
    first, second = (column(f"{OPINION}{item.id}/{opinion}/{reply}") for reply in SIDES)
    return None if first is None or second is None else chance_of_first(first, second, item.choose_by)


def _folder(context: RunContext, policy: PolicySection) -> Path:
    """Where a policy's replies to these questions lie."""
    items = suites_of(context.config).written
    asked = [item.prompt.model_dump(mode="json") for item in items]
    name = digest([endpoint_identity(policy), asked, context.config.suites.max_tokens])[:16]
    return context.config.run_dir / FOLDER / name


def _kept(context: RunContext, policy: PolicySection, items: Sequence[CapabilityItem]) -> Written:
    kept = {reply.prompt_id: reply.text for reply in read_completions(_folder(context, policy))}
    return kept if all(item.id in kept for item in items) else {}
