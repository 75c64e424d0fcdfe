"""The schema of a constitution file, `constitution/v1`: what a writer may say, and the class of each field.

What it leaves out: reading files and naming lines (`load.py`), hashes (`hashes.py`), and what the numbers do to a
label, which is the judges' side. Fields for tests, examples and requests are checked here although other stages use
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator

from constitutions.checks import Check
from constitutions.field_classes import FieldClass, Part
from constitutions.patterns import found, pattern_fault
from ratify.templates import conversation_text
from ratify.types import Prompt

SCHEMA = "constitution/v1"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=200)]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
Severity = Literal["hard", "soft", "info"]
Method = Literal["logit_mean", "logit_sum", "probability_mean"]


class AppliesTo(Part):
    """The prompts a principle is for: with one of the tags, or with one of the patterns in it. Empty means all."""

    tags: tuple[str, ...] = ()
    any_regex: tuple[str, ...] = ()

    @field_validator("any_regex")
    @classmethod
    def _usable(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            fault = pattern_fault(pattern)
            if fault:
                raise ValueError(f"the pattern {pattern!r} {fault}")
        return patterns

    def covers(self, prompt: Prompt) -> bool:
        """Whether a principle with this scope is for the prompt."""
        if not self.tags and not self.any_regex:
            return True
        if set(self.tags) & set(prompt.tags):
            return True
        return any(found(pattern, conversation_text(prompt.messages)) for pattern in self.any_regex)


class Example(Part):
    """Two replies that show what the principle means. The judge sees it."""

    prompt: Text
    better: Text
    worse: Text
    why: str = ""


class PrincipleTest(Part):
    """A comparison whose outcome is known. The judge never sees it among its examples."""

    prompt: Text
    a: Text
    b: Text
    expect: Literal["a", "b", "tie"]
    min_p: float = Field(default=0.5, ge=0.5, le=1)
    """Least probability of the expected reply."""


class Principle(Part):
    """One rule."""

    id: Annotated[Slug, FieldClass.AGGREGATION]
    """A stable slug; verdicts do not depend on it, labels are told apart by it."""
    tier: Annotated[str | None, FieldClass.AGGREGATION] = None
    """One of the constitution's tiers; None ranks below them all."""
    severity: Annotated[Severity, FieldClass.AGGREGATION] = "soft"
    """`hard` vetoes, `soft` is weighed, `info` is measured only."""
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False), FieldClass.AGGREGATION] = 1.0
    """Relative to the other principles that apply."""
    text: Annotated[Text, FieldClass.JUDGE_VISIBLE]
    """What the judge reads. Worded so that one reply can meet it and two can be compared by it."""
    critique_request: Annotated[str, FieldClass.INERT] = ""
    """Asks for a critique of a reply by this principle. Moves no label."""
    revision_request: Annotated[str, FieldClass.INERT] = ""
    """Asks for a revision after the critique. Moves no label."""
    applies_to: Annotated[AppliesTo, FieldClass.SCOPE] = AppliesTo()
    checks: Annotated[tuple[Check, ...], FieldClass.DETERMINISTIC] = ()
    """What every reply that follows the principle meets. Where one of two replies meets them all and the other does
    not, that decides and no judge is asked. The `rules` judge grades by them; all of them count alike."""
    checks_decide: Annotated[bool, FieldClass.DETERMINISTIC] = True
    """`false` for checks that are only hints: then a judge is always asked, and only the `rules` judge applies them."""
    examples: Annotated[tuple[Example, ...], FieldClass.JUDGE_VISIBLE] = ()
    tests: Annotated[tuple[PrincipleTest, ...], FieldClass.INERT] = ()
    meta: Annotated[dict[str, JsonValue], FieldClass.INERT] = Field(default_factory=dict)
    """Owner, rationale, source, since: free."""
    was: Annotated[str | None, FieldClass.INERT] = None
    """The id before a rename."""
    conflicts_with: Annotated[tuple[str, ...], FieldClass.INERT] = ()
    """Principles that it is known to pull against and gives way to: for readers; tiers and weights decide labels."""
    status: Annotated[Literal["active", "draft", "retired"], FieldClass.SCOPE] = "active"
    """Only active principles are judged."""

    @property
    def decides(self) -> bool:
        """Whether the principle can move a label at all."""
        return self.status == "active" and self.severity != "info" and self.weight > 0


class RevisionExample(Part):
    """A reply that was criticised and rewritten, as a model is to do it. Judges never see it."""

    prompt: Text
    reply: Text
    critique_request: Text
    critique: Text
    revision_request: Text
    revision: Text


class Revision(Part):
    """How replies are criticised and rewritten by this constitution."""

    examples: tuple[RevisionExample, ...] = ()
    """Shown before every critique and revision, in this order."""


class JudgeDefaults(Part):
    """How a judge is asked, unless a run says otherwise."""

    readout: Annotated[Literal["logprob"], FieldClass.JUDGE_VISIBLE] = "logprob"
    orders: Annotated[Literal["both"], FieldClass.JUDGE_VISIBLE] = "both"
    cot: Annotated[Literal[False], FieldClass.JUDGE_VISIBLE] = False
    tie_band: Annotated[float, Field(ge=0, lt=0.5), FieldClass.AGGREGATION] = 0.0
    """A label whose probability is nearer to one half than this is a tie."""


class Aggregate(Part):
    """What the verdicts of a pair add up to; `judges/aggregate.py` has the formulas."""

    method: Annotated[Method, FieldClass.AGGREGATION] = "logit_mean"
    hard: Annotated[Literal["veto", "weigh"], FieldClass.AGGREGATION] = "veto"
    """`veto`: a hard principle that is decided outranks everything softer; `weigh`: it is weighed like a soft one."""
    clamp: Annotated[tuple[float, float] | None, FieldClass.AGGREGATION] = None
    """Least and greatest probability a single verdict may claim; None trusts the judge."""
    veto_margin: Annotated[float, Field(ge=0, allow_inf_nan=False), FieldClass.AGGREGATION] = 1.0
    """Log-odds between the replies from which on a hard principle vetoes; 1.0 is a probability of 0.73."""
    min_margin: Annotated[float, Field(ge=0, allow_inf_nan=False), FieldClass.AGGREGATION] = 0.0
    """A label whose margin in log-odds is smaller than this is a tie."""

    @model_validator(mode="after")
    def _ordered_clamp(self) -> Aggregate:
        if self.clamp is not None and not 0 < self.clamp[0] < 0.5 < self.clamp[1] < 1:
            raise ValueError("clamp is two probabilities around one half, such as [0.02, 0.98], or null")
        return self


class Constitution(Part):
    """A whole constitution."""

    schema_: Annotated[Literal["constitution/v1"], FieldClass.INERT] = Field(alias="schema")
    id: Annotated[Slug, FieldClass.INERT]
    version: Annotated[Version, FieldClass.INERT]
    judge_defaults: JudgeDefaults = JudgeDefaults()
    aggregate: Aggregate = Aggregate()
    tiers: Annotated[tuple[Slug, ...], FieldClass.AGGREGATION] = ()
    """Precedence of hard principles, highest first."""
    revision: Annotated[Revision, FieldClass.INERT] = Revision()
    """For critique-and-revision. Moves no label."""
    principles: tuple[Principle, ...] = Field(min_length=1)

    @property
    def active(self) -> tuple[Principle, ...]:
        """The principles that are judged."""
        return tuple(principle for principle in self.principles if principle.status == "active")

    def tier_rank(self, principle: Principle) -> int:
        """0 for the highest tier; a principle without a tier ranks below the last."""
        return self.tiers.index(principle.tier) if principle.tier in self.tiers else len(self.tiers)


class Fault(NamedTuple):
    """Something that is wrong between fields: where it is, and the sentence."""

    location: tuple[str | int, ...]
    sentence: str


def faults_between_fields(constitution: Constitution) -> Iterator[Fault]:
    """What no single field can know: tiers that do not exist, a constitution that cannot decide anything."""
    for index, principle in enumerate(constitution.principles):
        if principle.tier is not None and principle.tier not in constitution.tiers:
            known = ", ".join(constitution.tiers) or "none; add a line `tiers: [...]`"
            yield Fault(
                ("principles", index, "tier"),
                f"principle {principle.id!r} has the unknown tier {principle.tier!r}; known tiers: {known}",
            )
        if principle.was == principle.id:
            yield Fault(
                ("principles", index, "was"), f"principle {principle.id!r} names itself in `was`; remove that line"
            )
    yield from _faults_of_names(constitution)
    doubled = [tier for index, tier in enumerate(constitution.tiers) if tier in constitution.tiers[:index]]
    if doubled:
        yield Fault(("tiers",), f"the tier {doubled[0]!r} is listed twice; a tier has one rank")
    if not any(principle.decides for principle in constitution.principles):
        yield Fault(
            ("principles",),
            "no principle can decide: give one an active status, a weight above 0 and a severity other than info",
        )


def _faults_of_names(constitution: Constitution) -> Iterator[Fault]:
    """References from one principle to another: `was` and `conflicts_with`."""
    ids = {principle.id for principle in constitution.principles}
    before: dict[str, str] = {}
    for index, principle in enumerate(constitution.principles):
        was, name = principle.was, principle.id
        if was is not None and was != name and was in ids:
            yield Fault(
                ("principles", index, "was"),
                f"principle {name!r} says that it was {was!r}, which is still there; remove one of the two",
            )
        if was is not None and was in before:
            yield Fault(
                ("principles", index, "was"),
                f"principles {before[was]!r} and {name!r} both say that they were {was!r}; only one can be its rename",
            )
        before |= {was: name} if was is not None else {}
        for other in principle.conflicts_with:
            if other not in ids:
                yield Fault(
                    ("principles", index, "conflicts_with"),
                    f"principle {name!r} conflicts with {other!r}, which does not exist; name a principle's id",
                )
    yield from _cycle(constitution)


def _cycle(constitution: Constitution) -> Iterator[Fault]:
    """The first circle of principles that each give way to the next, if there is one."""
    edges = {principle.id: principle.conflicts_with for principle in constitution.principles}
    place = {principle.id: index for index, principle in enumerate(constitution.principles)}
    done: set[str] = set()
    for start, first in edges.items():
        path: dict[str, Iterator[str]] = {start: iter(first)} if start not in done else {}
        while path:
            here = next(reversed(path))
            step = next(path[here], None)
            if step is None:
                done.add(here)
                path.pop(here)
            elif step in path:
                circle = [*list(path)[list(path).index(step) :], step]
                yield Fault(
                    ("principles", place[here], "conflicts_with"),
                    f"the conflicts go round in a circle ({' → '.join(circle)}); remove one, so that it is clear "
                    "which principle gives way",
                )
                return
            elif step in edges and step not in done:
                path[step] = iter(edges[step])
