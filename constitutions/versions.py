"""What version number a change of a constitution needs: computed from the changes, never asserted.

MAJOR: labels before and after cannot be compared, or a hard principle holds less than it did. MINOR: labels may move.
PATCH: no label moves. An author may raise the number further, never stay below it. A rewording of a hard principle
counts as MINOR, because whether it relaxes the rule cannot be computed; its author can raise it.
"""

from __future__ import annotations

from enum import IntEnum

from constitutions.schema import Constitution


class Bump(IntEnum):
    """Which of the three numbers has to rise, smallest first."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


def numbers(version: str) -> tuple[int, int, int]:
    """`2.3.0` as three numbers that compare."""
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def raised(version: str, bump: Bump) -> str:
    """The least version that shows a bump."""
    major, minor, patch = numbers(version)
    if bump is Bump.MAJOR:
        return f"{major + 1}.0.0"
    if bump is Bump.MINOR:
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + (bump is Bump.PATCH)}"


def version_fault(old: Constitution, new: Constitution, bump: Bump) -> str | None:
    """Why the new constitution's version is too low for what changed, with the remedy; None if it is not."""
    least = raised(old.version, bump)
    if numbers(new.version) >= numbers(least):
        return None
    return (
        f"version {new.version} is below {least}, which the changes since {old.version} need "
        f"({bump.name.lower()}); write `version: {least}` or higher"
    )
