"""The types that flow between rooms: Prompt → Completion → Comparison → Verdict → Label → PreferencePair.

Frozen and validated, because they cross files and processes. Tensors live in `training/`, constitutions in
`constitutions/`. One word per concept: a *completion* is what a policy wrote, a *verdict* is what one judge said
about one principle, a *label* is what the verdicts of a pair add up to.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant"]
Protocol = Literal["pointwise", "pairwise"]
RevisionOutcome = Literal["better", "worse", "tied", "failed"]
"""What a judge says of a revision against the reply before it; failed is no tie."""


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Prompt(Record):
    """A conversation that waits for the assistant's next turn."""

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    tags: tuple[str, ...] = ()


class Completion(Record):
    """One reply sampled from a policy."""

    id: str
    """`<prompt id>/<policy>/<index>`: unique within a run."""
    prompt_id: str
    text: str
    finish_reason: str
    """As the server said: `stop`, `length`, …"""
    prompt_tokens: int
    completion_tokens: int
    seed: int
    token_ids: tuple[int, ...] | None = None
    """The very tokens that were sampled, where the server tells: a text can be cut into tokens in more than one way."""


class Comparison(NamedTuple):
    """Two completions of one prompt in the order in which a judge is shown them; made for every question, kept in no
    file, so nothing is validated again."""

    prompt: Prompt
    first: Completion
    second: Completion

    def swap(self) -> Comparison:
        """The same comparison shown the other way round."""
        return Comparison(self.prompt, self.second, self.first)


class Failure(StrEnum):
    """Why a judge call gave no verdict. A failure is never a tie and never a number."""

    PARSE_ERROR = "parse_error"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    LOW_COVERAGE = "low_coverage"
    NO_LOGPROBS = "no_logprobs"
    TRANSPORT_ERROR = "transport_error"


class Verdict(Record):
    """What one judge said of one principle: the log-odds of its answer, or a named failure with the raw text.

    Pairwise, positive log-odds mean the completion shown first; pointwise they mean that the reply meets the principle.
    """

    key: str
    """SHA-256 of everything the judge saw."""
    judge: str
    """Fingerprint of the judge: model, read-out, template."""
    principle: str
    """The principle's id."""
    protocol: Protocol
    prompt_id: str
    first_id: str
    second_id: str | None = None
    """None for a pointwise verdict."""
    logit: float | None = None
    coverage: float | None = None
    """Probability mass the judge put on the answers it was offered."""
    failure: Failure | None = None
    raw: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Label(Record):
    """The verdicts of one pair added up: a soft preference for completion `a`, or the reason why there is none."""

    prompt_id: str
    a_id: str
    b_id: str
    outcome: Literal["a", "b", "tie", "failed"]
    probability: float | None
    """P(a is better), None when failed."""
    margin: float | None
    """Weighted log-odds in favour of a, None when failed."""
    by_principle: dict[str, float] = Field(default_factory=dict)
    """Each principle's log-odds in favour of a."""
    verdict_keys: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    by_checks: tuple[str, ...] = ()
    """Principles whose checks decided, so that no judge was asked about them."""


class PreferencePair(Record):
    """A row of the preference dataset, in the conversational format of TRL's trainers plus our lineage."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    probability: float
    """P(chosen is better), above one half."""
    margin: float
    """Weighted log-odds in favour of chosen, positive."""
    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen_finish_reason: str
    """`length` marks a reply that was cut off: a trainer must not teach the policy to stop there."""
    rejected_finish_reason: str
    verdict_keys: tuple[str, ...]
    constitution_hash: str


class RolloutRecord(Record):
    """A completion that a policy gradient learnt from, as the policy of that step wrote it."""

    prompt_id: str
    text: str
    reward: float | None
    """What it was trained by, before shaping; None where there was no score."""
    log_ratio: float
    """log π − log π_ref of the completion, in nats; its mean is the KL."""
    tokens: int


class SupervisedRow(Record):
    """A row of the supervised dataset, in the conversational format of TRL's SFT trainer plus our lineage."""

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    prompt_id: str
    id: str
    """The revision that is learnt."""
    finish_reason: str
    first_id: str
    """The reply that was revised."""
    principles: tuple[str, ...]
    """What it was revised by, step by step."""
    outcome: RevisionOutcome
    """What the judge said of it against the first reply."""
    probability: float | None
    """P(better than the first reply); None when judging failed."""
    margin: float | None
    """Weighted log-odds in its favour; None when judging failed."""
    verdict_keys: tuple[str, ...]
    constitution_hash: str
