"""Which policy of a run is promoted: an append-only history, and a pointer that follows from it.

`promotions.jsonl` in the run's folder has one event a line: evaluations that were put to the gate, epochs, promotions,
a person's refusals and rollbacks, each with its time, code and reason. An event counts once its line is whole and on
disk; a line that a killed process left half-written is dropped by the next writer. `promoted.json` is the pointer for
readers who know nothing of the history; it is replaced whole and written again wherever it disagrees with the history.
A run's first policy, which nobody trained here, is promoted from the first epoch on.

A promoted policy is kept under `policies/` by its hash (hard links where the file system has them), so that a later
round that trains again cannot take it away and rollback finds its parent. What may be promoted is the gate's question.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from ratify.canonical import model_digest
from ratify.errors import InputError, StoreError
from ratify.files import disk_fault, flush, write_text
from ratify.intervals import Estimate
from ratify.journal import append_line, whole_lines
from ratify.lineage import code_commit, now
from ratify.types import Record

HISTORY = "promotions.jsonl"
POINTER = "promoted.json"
POLICIES = "policies"
SHORT = 12
"""Characters of a hash in names."""
EventKind = Literal["attempt", "epoch", "promotion", "rollback", "refusal"]


class PolicyRecord(Record):
    """One policy."""

    model: str
    """Folder or name of the model."""
    digest: str
    """SHA-256 over its files."""
    round: int | None = None
    """The round that trained it; None for the run's first policy."""
    parent: str = ""
    """Digest of the policy that it replaced."""

    @property
    def short(self) -> str:
        """Its hash as names show it."""
        return self.digest[:SHORT]


class Event(Record):
    """One line of the history."""

    number: int = Field(ge=1)
    kind: EventKind
    time: str
    code: str
    parent: str = ""
    """Digest of the policy that was promoted until then."""
    policy: PolicyRecord | None = None
    """Attempt: the one that was measured; otherwise the one that is promoted from now on. The first epoch has the run's
    first policy, later ones none."""
    evidence: str = ""
    """Hash of the figures."""
    decision: str = ""
    """The gate's."""
    override: str = ""
    """Why a person promoted against the gate."""
    person: str = ""
    """Who approved or refused, as that person said."""
    reason: str = ""
    judge: str = ""
    """Epoch: fingerprint of its judge."""
    constitution: str = ""
    first: dict[str, Estimate] | None = None
    """First epoch: the first policy's figures, frozen."""


class Pointer(Record):
    """promoted.json: the promoted policy and those it came from."""

    format: Literal["ratify.promoted/1"] = "ratify.promoted/1"
    event: int
    """Number of the event that it follows from."""
    policy: PolicyRecord
    lineage: tuple[PolicyRecord, ...]
    """Its parent, the parent's parent and so on to the run's first policy."""
    since: str
    decision: str = ""
    override: str = ""


class Promotions:
    """The history of one run. Take the run's lock before writing."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def events(self) -> list[Event]:
        """The history, oldest first.

        Raises:
            StoreError: a whole line is not an event of this version.
        """
        path = self.run / HISTORY
        try:
            return [Event.model_validate_json(line) for line in whole_lines(path)]
        except ValidationError as error:
            raise StoreError(f"{path} is not a history of this version; restore it from a copy") from error

    def append(self, event: Event) -> None:
        """Write one event, whole and on disk, or nothing; then bring the pointer up to date."""
        append_line(self.run / HISTORY, event.model_dump_json(exclude_defaults=True))
        self.repair()

    def record(self, kind: EventKind, **fields: object) -> Event:
        """Append a new event with the next number, the time and the code."""
        number = len(self.events()) + 1
        event = Event.model_validate({"number": number, "kind": kind, "time": now(), "code": code_commit(), **fields})
        self.append(event)
        return event

    def pointer(self) -> Pointer | None:
        """The promoted policy as the history says; None before the first epoch."""
        moves = [(event, event.policy) for event in self.events() if event.policy and event.kind != "attempt"]
        if not moves:
            return None
        known = {policy.digest: policy for _, policy in reversed(moves)}
        last, policy = moves[-1]
        return Pointer(
            event=last.number, policy=policy, lineage=_ancestors(policy, known), since=last.time,
            decision=last.decision, override=last.override,
        )  # fmt: skip

    def epoch(self) -> Event | None:
        """The event with which the present epoch began."""
        return next((event for event in reversed(self.events()) if event.kind == "epoch"), None)

    def first(self) -> Event | None:
        """The event that froze the run's first policy."""
        return next((event for event in self.events() if event.kind == "epoch"), None)

    def repair(self) -> None:
        """Write the pointer again if it is not what the history says."""
        found, path = self.pointer(), self.run / POINTER
        if found is None:
            return
        text = found.model_dump_json(indent=2) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)

    def keep(self, policy: PolicyRecord) -> PolicyRecord:
        """Put a policy's files where no later training touches them, and name that place.

        Raises:
            InputError: its files are gone or are no longer those that were measured.
        """
        source, target = Path(policy.model), self.run / POLICIES / policy.short
        if not target.exists():
            if not source.is_dir() or model_digest(source) != policy.digest:
                raise InputError(
                    f"{source} is not the policy {policy.short} that was measured any more; evaluate again"
                )
            _link_tree(source, target)
        return policy.model_copy(update={"model": str(target.resolve())})


def changed(policy: PolicyRecord) -> bool:
    """Are the files of a policy gone or other ones than were promoted?"""
    return model_digest(policy.model) != policy.digest


def attempts(events: list[Event], parent: str) -> Mapping[str, int]:
    """Evidence hash → number of the attempt, among those against one parent, from 1."""
    seen: dict[str, int] = {}
    for event in events:
        if event.kind == "attempt" and event.parent == parent:
            seen.setdefault(event.evidence, len(seen) + 1)
    return seen


def _ancestors(policy: PolicyRecord, known: Mapping[str, PolicyRecord]) -> tuple[PolicyRecord, ...]:
    line: list[PolicyRecord] = []
    seen = {policy.digest}
    while policy.parent and policy.parent not in seen and policy.parent in known:
        policy = known[policy.parent]
        seen.add(policy.digest)
        line.append(policy)
    return tuple(line)


def _link_tree(source: Path, target: Path) -> None:
    """Copy a folder, by hard links where the file system has them; whole or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(source, temporary, copy_function=_link)
        flush(temporary)
        temporary.rename(target)
        flush(target.parent)
    except OSError as error:
        raise StoreError(disk_fault(target, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
