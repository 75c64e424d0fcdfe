"""What an edit of a constitution's field costs: every field of the schema carries one class, declared once, beside
the field.

Hashes, diff and version follow from the classes here. A field that holds further parts (`principles`,
`judge_defaults`) carries no class of its own: its parts' fields do.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class FieldClass(StrEnum):
    """The five classes, dearest first."""

    JUDGE_VISIBLE = "judge_visible"
    """The judge reads it: an edit asks that principle again, and no other."""
    SCOPE = "scope"
    """It decides where a principle applies: newly covered replies are judged, old verdicts are kept."""
    AGGREGATION = "aggregation"
    """It decides what verdicts add up to: no call, labels are computed again."""
    DETERMINISTIC = "deterministic"
    """It is computed without a judge: processor time only. Where checks no longer decide, a judge is asked."""
    INERT = "inert"
    """It moves no label."""


class Part(BaseModel):
    """A frozen part of a constitution that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def class_of(info: FieldInfo) -> FieldClass | None:
    """The class that a field declares, or None for a field that holds classified parts."""
    return next((mark for mark in info.metadata if isinstance(mark, FieldClass)), None)
