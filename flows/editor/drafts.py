"""What the page sends: a text as it was opened and what was changed in its form; and the text that comes of it.

The text is a pure function of the two, so a change that is taken back leaves no trace. The server keeps no draft.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from constitutions.editing import AddPrinciple, Edit, RemovePrinciple, SetField, revised
from constitutions.load import parse_constitution
from constitutions.schema import Constitution, Principle
from ratify.errors import ConstitutionError

FORM_FIELDS = ("tier", "severity", "weight", "text", "status")
"""Fields of a principle that the form shows, beside its id."""
SETTINGS = (
    "aggregate.method", "aggregate.hard", "aggregate.clamp", "aggregate.veto_margin", "aggregate.min_margin",
    "judge_defaults.tie_band",
)  # fmt: skip
"""Fields of the whole that the form shows: how verdicts add up."""


class Sent(BaseModel):
    """A part of a request; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PrincipleDraft(Sent):
    """One principle as the form has it; values may be wrong, which the schema says later."""

    origin: int | None = None
    """Its position in the base text; None for a new one."""
    id: str
    text: str
    weight: JsonValue
    tier: str | None
    severity: str
    status: str


class Draft(Sent):
    """A constitution under edit."""

    baseline: str
    """The text that the edit is compared with."""
    base: str
    """The text that the form was filled from."""
    version: str | None = None
    settings: dict[str, JsonValue] = {}
    principles: tuple[PrincipleDraft, ...] | None = None
    """Every principle that the form still has; None when the form was not touched."""

    def text(self, path: Path) -> str:
        """The text that would be saved.

        Raises:
            ConstitutionError: the base text does not load, or an edit cannot be written.
        """
        if self.principles is None and self.version is None and not self.settings:
            return self.base
        edits = list(_edits(self, parsed(self.base, path), sound_or_none(self.baseline, path)))
        return revised(self.base, edits, path) if edits else self.base


@lru_cache(maxsize=8)
def parsed(text: str, path: Path) -> Constitution:
    """A constitution's text, checked; the last few are kept."""
    return parse_constitution(text, path)


def sound_or_none(text: str, path: Path) -> Constitution | None:
    """The constitution, or None where the text does not load."""
    try:
        return parsed(text, path)
    except ConstitutionError:
        return None


def setting(constitution: Constitution, name: str) -> Any:
    """A dotted field of the whole constitution as plain JSON."""
    part, field = name.split(".")
    return getattr(constitution, part).model_dump(mode="json")[field]


def _edits(draft: Draft, base: Constitution, baseline: Constitution | None) -> Iterator[Edit]:
    if draft.version is not None and draft.version != base.version:
        yield SetField(("version",), draft.version)
    for name, value in draft.settings.items():
        if name not in SETTINGS:
            raise ConstitutionError(f"the form has no field {name!r}; its fields: {', '.join(SETTINGS)}")
        if setting(base, name) != value:
            yield SetField(tuple(name.split(".")), value)
    if draft.principles is None:
        return
    kept = {each.origin: each for each in draft.principles if each.origin is not None}
    if not set(kept) <= set(range(len(base.principles))):
        raise ConstitutionError("the form and the text do not belong together; reload the page")
    renamed = {base.principles[position].id: each.id for position, each in kept.items()}
    for position, principle in enumerate(base.principles):
        if position in kept:
            yield from _changes(position, principle, kept[position], baseline)
            yield from _references(position, principle, renamed)
        else:
            yield RemovePrinciple(position)
    for each in draft.principles:
        if each.origin is None:
            yield AddPrinciple(_filled(each))


def _changes(position: int, was: Principle, now: PrincipleDraft, baseline: Constitution | None) -> Iterator[Edit]:
    if now.id != was.id:
        yield SetField(("principles", position, "id"), now.id)
        yield SetField(("principles", position, "was"), _known_as(was, baseline))
    for field in FORM_FIELDS:
        value = getattr(now, field)
        value = value.strip() if field == "text" else value
        if value != getattr(was, field):
            yield SetField(("principles", position, field), value)


def _references(position: int, principle: Principle, renamed: dict[str, str]) -> Iterator[Edit]:
    """Where a principle names another that has a new name."""
    for place, other in enumerate(principle.conflicts_with):
        if renamed.get(other, other) != other:
            yield SetField(("principles", position, "conflicts_with", place), renamed[other])


def _known_as(principle: Principle, baseline: Constitution | None) -> str:
    """What the constitution that is compared with calls a principle: a second rename still names the first id."""
    known = {each.id for each in baseline.principles} if baseline else set()
    return principle.was if principle.was in known and principle.id not in known else principle.id


def _filled(principle: PrincipleDraft) -> dict[str, Any]:
    """A new principle without the fields that are at their defaults."""
    fields: dict[str, Any] = {"id": principle.id}
    for field in FORM_FIELDS:
        value = getattr(principle, field)
        if field == "text" or value != Principle.model_fields[field].default:
            fields[field] = value.strip() if field == "text" else value
    return fields
