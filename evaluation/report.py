"""The records of an evaluation: what goes in (`Evidence`) and the one machine-written report that comes out.

`Evidence` is assembled by whoever ran the stages; every part but the replies may be missing, and what cannot be
computed without it is named in `EvaluationReport.missing` with the reason. The report holds all that its HTML page
and the terminal table show: both are functions of it alone, so a report can be drawn again years later.

Metric keys are `stage/thing/stat`. A figure of both policies has the stats `old`, `new` and, where prompts are paired,
`difference`; a thing with a part is `thing.part`, as in `evaluate/compliance.polite/new`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from evaluation.harness import Tasks
from evaluation.intervals import STANDARD, Estimate, Resampling
from evaluation.judge_quality import JudgeQuality
from evaluation.judging import Judging
from ratify.errors import StoreError
from ratify.files import write_text
from ratify.types import Completion, Label, Message, Prompt, Record, Verdict

Row = Mapping[str, float | int | str | bool | None]
"""One line of a training stage's metrics.jsonl, with its `step`."""


class PrincipleText(Record):
    """A principle as the constitution states it."""

    id: str
    text: str
    weight: float = 1.0
    severity: str = "soft"
    tier: str = ""


class ConstitutionText(Record):
    """The constitution that the run applied."""

    id: str
    version: str
    hash: str
    principles: tuple[PrincipleText, ...]


class StageCost(Record):
    """What one stage cost; what does not apply is None."""

    stage: str
    seconds: float
    calls: int | None = None
    """Requests to a model server."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    note: str = ""


class RunIdentity(Record):
    """Where the figures come from."""

    run: str
    round: int = 0
    finished: str = ""
    """UTC, ISO 8601."""
    judge: str = ""
    """Fingerprint of the judge."""
    models: dict[str, str] = Field(default_factory=dict)
    """Role (`old`, `new`, `judge`, `reward_model`) → name and hash."""
    seeds: dict[str, int] = Field(default_factory=dict)
    code: str = ""
    packages: dict[str, str] = Field(default_factory=dict)


class ScoredReply(Record):
    """A reply of the new policy, scored under both policies: summed log-probabilities in nats."""

    completion_id: str
    tokens: int
    log_new: float
    log_reference: float
    reference_tokens: int | None = None
    """Tokens of the same text under the reference, where they were counted; another number is another tokenizer."""


class AnsweredItem(Record):
    """An item of the capability suite, and which policies answered it rightly; None where one gave no answer."""

    id: str
    tags: tuple[str, ...] = ()
    old: bool | None = None
    new: bool | None = None
    first: bool | None = None
    """The run's first policy, where it is another one than the old."""


class OpinionTwins(Record):
    """A sycophancy item: P(the reply that agrees with opinion a) when a, and when b, is the user's opinion."""

    id: str
    tags: tuple[str, ...] = ()
    old: tuple[float, float] | None = None
    new: tuple[float, float] | None = None


class Repeated(Record):
    """A figure of one policy that was sampled again with other seeds (A/A)."""

    values: tuple[float, ...]
    spread: float
    """Standard deviation from seed to seed."""


@dataclass(frozen=True, kw_only=True)
class JudgedSet:
    """The labels of one set of pairs and the verdicts behind them."""

    labels: Sequence[Label] = ()
    verdicts: Sequence[Verdict] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything an evaluation is computed from."""

    identity: RunIdentity
    prompts: Sequence[Prompt]
    """The held-out prompts."""
    old: Sequence[Completion]
    """Replies of the old policy to them; ids differ from those of `new`."""
    new: Sequence[Completion]
    heldout: JudgedSet = field(default_factory=JudgedSet)
    """Pairs of an old and a new reply, in either order."""
    training: JudgedSet = field(default_factory=JudgedSet)
    """The pairs that preference data was made of."""
    properties: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """Completion id → property → true or not, by an oracle; names that are principle ids also measure the judge. May
    hold held-out and training replies."""
    scored: Sequence[ScoredReply] = ()
    """Replies of `new` under new policy and reference."""
    repeats: Sequence[Sequence[Completion]] = ()
    """The new policy sampled again to the same prompts, once a seed."""
    scored_again: Mapping[str, float] = field(default_factory=dict)
    """Completion id → log-probability under the new policy, scored a second time in other batches."""
    anchor_scored: Sequence[ScoredReply] = ()
    """Lines of the anchor under new policy and reference."""
    safe_twins: Sequence[str] = ()
    """Tags of held-out prompts that only look unsafe."""
    capability: Sequence[AnsweredItem] = ()
    """Items of the capability suite."""
    sycophancy: Sequence[OpinionTwins] = ()
    """Prompts that differ in the user's opinion alone."""
    harness: tuple[Tasks, Tasks] | None = None
    """Tasks of lm-evaluation-harness, of the old and of the new policy."""
    scored_first: Sequence[ScoredReply] = ()
    """Likewise with the run's first policy as the reference, where that is another one."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Completion id → reward, for held-out replies."""
    gold: Mapping[tuple[str, str], Literal["a", "b", "tie"]] = field(default_factory=dict)
    """(a_id, b_id) of a label → what people prefer; either judged set."""
    anchor: Sequence[str] = ()
    """Frozen text by people that no training round sees, for the figures of rare words."""
    constitution: ConstitutionText | None = None
    curves: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Training stage → rows of its metrics.jsonl."""
    stages: Sequence[StageCost] = ()
    stage_metrics: Mapping[str, Estimate] = field(default_factory=dict)
    """Figures that a stage measured itself, by key; taken over as they are."""
    judges: Mapping[str, JudgeQuality] = field(default_factory=dict)
    """`training` and `heldout`: what judging these pairs showed of the judge."""
    how: Resampling = STANDARD


class Sample(Record):
    """One held-out pair to read."""

    group: Literal["gain", "loss", "random"]
    prompt_id: str
    messages: tuple[Message, ...]
    old: str
    new: str
    outcome: str
    """`new`, `old`, `tie`, `failed`, or `unjudged`."""
    margin: float | None = None
    """Weighted log-odds in favour of the new reply."""
    by_principle: dict[str, float] = Field(default_factory=dict)
    """Log-odds in favour of the new reply."""
    old_properties: dict[str, bool] = Field(default_factory=dict)
    new_properties: dict[str, bool] = Field(default_factory=dict)


class EvaluationReport(Record):
    """What one evaluation found; written as report.json."""

    format: Literal["ratify.report/1"] = "ratify.report/1"
    conclusion: tuple[str, ...]
    """Plain sentences, the most important first."""
    warnings: tuple[str, ...] = ()
    """What speaks against the new policy or against the figures."""
    metrics: dict[str, Estimate]
    missing: dict[str, str] = Field(default_factory=dict)
    """Figures that the evidence does not support → why. Missing evidence never passes."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Plain counts by key, such as `evaluate/win_rate.ties/count`."""
    repeated_samples: dict[str, Repeated] = Field(default_factory=dict)
    """Key of a figure of the new policy → its values when the same policy is sampled again; empty without A/A seeds."""
    repeated_scores: float | None = None
    """KL between two scorings of the same policy, nats per reply: the floor of every KL."""
    repeated_distance: float | None = None
    """Mean MMD between samples of the same policy with other seeds: the floor of `mmd/distance`."""
    identity: RunIdentity
    constitution: ConstitutionText | None = None
    judging: dict[str, Judging] = Field(default_factory=dict)
    """`training` and `heldout`."""
    judges: dict[str, JudgeQuality] = Field(default_factory=dict)
    """`training` and `heldout`: agreement with gold, biases, calibration."""
    repeated: dict[str, dict[str, int]] = Field(default_factory=dict)
    """`old` and `new`: most repeated reply texts → prompts that got them."""
    curves: dict[str, tuple[dict[str, float], ...]] = Field(default_factory=dict)
    """Training stage → rows of its numeric metrics."""
    stages: tuple[StageCost, ...] = ()
    samples: tuple[Sample, ...] = ()


def write_report(path: Path, report: EvaluationReport) -> None:
    """Write report.json whole or not at all."""
    write_text(path, report.model_dump_json(indent=2) + "\n")


def read_report(path: Path) -> EvaluationReport:
    """Read a report that this version wrote.

    Raises:
        StoreError: when the file is missing or of another format.
    """
    try:
        return EvaluationReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not an evaluation report of this version; run the evaluation again") from error
