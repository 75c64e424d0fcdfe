"""What differs between two constitutions, in meaning: by field, with what each change costs and what it does to the
version.

Principles are matched by id, renames by `was:`. Comments, quoting and the order of keys are no difference at all; the
order of principles is one that moves nothing. Classes and costs come from the schema. What is left out: how many
calls an edit takes and which labels it flips, which needs data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from constitutions.field_classes import FieldClass, Part, class_of
from constitutions.schema import Constitution, Principle
from constitutions.versions import Bump, version_fault

Kind = Literal["added", "removed", "renamed", "changed"]

COSTS: dict[FieldClass, str] = {
    FieldClass.JUDGE_VISIBLE: "judged again",
    FieldClass.SCOPE: "newly covered pairs are judged, old verdicts are kept",
    FieldClass.AGGREGATION: "no call: labels are computed again",
    FieldClass.DETERMINISTIC: "checks are run again; a judge is asked only where they no longer decide",
    FieldClass.INERT: "nothing",
}
"""What an edit of each class costs, in words."""

_UNCOMPARED = {"principles", "schema_", "version", "was", "id"}


class Change(NamedTuple):
    """One difference."""

    kind: Kind
    principle: str | None
    """The id in the new constitution (in the old one when removed); None for a field of the whole constitution."""
    field: str
    """Dotted, such as `aggregate.clamp`; empty when the whole principle came, went or was renamed."""
    old: Any
    new: Any
    field_class: FieldClass
    bump: Bump
    why: str
    """Why this bump."""

    @property
    def cost(self) -> str:
        """What the change costs."""
        return COSTS[self.field_class] if self.kind != "removed" else COSTS[FieldClass.AGGREGATION]


class ConstitutionDiff(NamedTuple):
    """Every difference between two constitutions."""

    old: Constitution
    new: Constitution
    changes: tuple[Change, ...]
    renamed: dict[str, str]
    """New id → old id."""

    @property
    def bump(self) -> Bump:
        """The least bump that the changes need together."""
        return max((change.bump for change in self.changes), default=Bump.NONE)

    @property
    def version_fault(self) -> str | None:
        """Why the new version number is too low; None if it is not."""
        return version_fault(self.old, self.new, self.bump)

    @property
    def rejudged(self) -> tuple[str, ...]:
        """Ids of the new constitution's principles that a judge has to be asked about afresh, on every pair."""
        everywhere = any(
            change.principle is None and change.field_class is FieldClass.JUDGE_VISIBLE for change in self.changes
        )
        touched = {
            change.principle
            for change in self.changes
            if change.field_class is FieldClass.JUDGE_VISIBLE and change.kind in ("added", "changed")
        }
        return tuple(each.id for each in self.new.active if everywhere or each.id in touched)

    @property
    def rescoped(self) -> tuple[str, ...]:
        """Ids of principles whose scope alone changed: only newly covered pairs are judged."""
        moved = {change.principle for change in self.changes if change.field_class is FieldClass.SCOPE}
        return tuple(each.id for each in self.new.active if each.id in moved - set(self.rejudged))


def diff_constitutions(old: Constitution, new: Constitution) -> ConstitutionDiff:
    """Compare two constitutions by meaning."""
    before = {principle.id: principle for principle in old.principles}
    after = {principle.id: principle for principle in new.principles}
    renamed = {
        each.id: str(each.was)
        for each in new.principles
        if each.was in before and each.was not in after and each.id not in before
    }
    changes = [*_whole(old, new), *_order(old, new, renamed)]
    for name, principle in after.items():
        origin = before.get(renamed.get(name, name))
        if origin is None:
            changes.append(_added(principle))
            continue
        if name in renamed:
            bump = Bump.MINOR if principle.status == "active" else Bump.PATCH
            why = "labels name the principle by its id"
            changes.append(
                Change("renamed", name, "", origin.id, name, FieldClass.AGGREGATION, bump, f"{why}; verdicts are kept")
            )
        changes += _within(origin, principle, new, old)
    gone = [each for name, each in before.items() if name not in after and name not in renamed.values()]
    changes += map(_removed, gone)
    return ConstitutionDiff(old, new, tuple(changes), renamed)


def _added(principle: Principle) -> Change:
    active = principle.status == "active"
    return Change(
        "added", principle.id, "", None, principle.text,
        FieldClass.JUDGE_VISIBLE if active else FieldClass.INERT,
        Bump.MINOR if active else Bump.PATCH,
        "labels may move" if active else f"it is a {principle.status} principle",
    )  # fmt: skip


def _removed(principle: Principle) -> Change:
    if principle.status != "active":
        bump, why = Bump.PATCH, f"it was a {principle.status} principle"
    elif principle.severity == "hard":
        bump, why = Bump.MAJOR, "a hard principle is gone"
    else:
        bump, why = Bump.MINOR, "labels may move"
    field_class = FieldClass.SCOPE if principle.status == "active" else FieldClass.INERT
    return Change("removed", principle.id, "", principle.text, None, field_class, bump, why)


def _order(old: Constitution, new: Constitution, renamed: dict[str, str]) -> Iterator[Change]:
    before = [each.id for each in old.principles]
    after = [renamed.get(each.id, each.id) for each in new.principles]
    if [name for name in before if name in set(after)] != [name for name in after if name in set(before)]:
        yield Change(
            "changed", None, "order of principles", before, after, FieldClass.INERT, Bump.PATCH, "no label moves"
        )


def _whole(old: Constitution, new: Constitution) -> Iterator[Change]:
    """Differences outside the principles."""
    if old.id != new.id:
        yield Change("changed", None, "id", old.id, new.id, FieldClass.INERT, Bump.PATCH, "no label moves")
    for field, kind, was, now in _fields(old, new):
        bump, why = _bump_of_whole(field, kind, was, now)
        yield Change("changed", None, field, was, now, kind, bump, why)


def _bump_of_whole(field: str, kind: FieldClass, was: Any, now: Any) -> tuple[Bump, str]:
    if kind is FieldClass.INERT:
        return Bump.PATCH, "no label moves"
    if kind is FieldClass.JUDGE_VISIBLE:
        return Bump.MAJOR, "every verdict is asked for in another way"
    if field == "aggregate.method":
        return Bump.MAJOR, "verdicts add up in another way, so margins cannot be compared"
    if (field == "aggregate.hard" and now == "weigh") or (field == "aggregate.veto_margin" and now > was):
        return Bump.MAJOR, "hard principles veto less"
    return Bump.MINOR, "labels may move"


def _within(was: Principle, now: Principle, new: Constitution, old: Constitution) -> Iterator[Change]:
    """Differences of one principle's fields."""
    idle = was.status != "active" and now.status != "active"
    strict = was.severity == "hard" and was.status == "active"
    for field, kind, before, after in _fields(was, now):
        if idle or kind is FieldClass.INERT:
            bump, why = Bump.PATCH, f"a {now.status} principle moves no label" if idle else "no label moves"
        elif strict and _relaxes(field, was, now, old, new):
            bump, why = Bump.MAJOR, "a hard principle holds less than before"
        else:
            bump, why = Bump.MINOR, "labels may move"
        revived = field == "status" and after == "active"
        shown = FieldClass.INERT if idle else FieldClass.JUDGE_VISIBLE if revived else kind
        yield Change("changed", now.id, field, before, after, shown, bump, why)


def _relaxes(field: str, was: Principle, now: Principle, old: Constitution, new: Constitution) -> bool:
    """Whether a change of a hard principle's field makes it hold less, as far as that can be computed."""
    if field in ("severity", "status") or (field == "checks_decide" and was.checks_decide):
        return True
    if field == "weight":
        return now.weight < was.weight
    if field == "tier":
        return new.tier_rank(now) > old.tier_rank(was)
    if field == "checks":
        return not set(map(str, was.checks)) <= set(map(str, now.checks))
    if field == "applies_to":
        held = {*was.applies_to.tags, *was.applies_to.any_regex}
        holds = {*now.applies_to.tags, *now.applies_to.any_regex}
        return bool(holds) and (not held or not held <= holds)
    return False


def _fields(old: Part, new: Part, prefix: str = "") -> Iterator[tuple[str, FieldClass, Any, Any]]:
    """The classified fields that differ, as (dotted name, class, old, new) in plain JSON."""
    for name, info in type(new).model_fields.items():
        was, now, kind = getattr(old, name), getattr(new, name), class_of(info)
        if was == now or name in _UNCOMPARED:
            continue
        if kind is None and isinstance(was, Part):
            yield from _fields(was, now, f"{prefix}{name}.")
        elif kind is not None:
            yield f"{prefix}{name}", kind, _plain(old, name), _plain(new, name)


def _plain(part: Part, name: str) -> Any:
    return part.model_dump(mode="json", include={name})[name]
