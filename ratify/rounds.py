"""What a run knows of its rounds: `round-NNN/round.json`, and the configuration that follows from it.

The record is written when a round begins and says what was decided then: the policy it starts from, the weights it
trains, its seed, its portion of the prompts. A killed round goes on with exactly that, whatever has been promoted
meanwhile. It is written a second time when the round is closed; a closed round is never done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ratify.canonical import digest
from ratify.config import Config
from ratify.errors import StoreError
from ratify.files import write_text
from ratify.run_store import RunStore
from ratify.types import Record

RECORD = "round.json"
SEEDS = 2**31
"""Seeds lie below this."""

Origin = Literal["first", "promoted", "latest"]


class StartingPolicy(Record):
    """Whom a round samples from."""

    model: str
    """Folder or name of the model."""
    digest: str
    """SHA-256 over its files."""
    origin: Origin
    """The run's first policy, the promoted one, or the newest whatever the gate said of it."""
    round: int | None = None
    """The round that trained it; None for the first policy."""


class ClosedRound(Record):
    """How a round ended."""

    decision: str
    """The gate's."""
    reason: str = ""
    """What decided it, in one sentence."""
    policy: str
    """Digest of the policy that was trained."""
    promoted: bool
    finished: str
    events: int
    """Events in the run's history of promotions at that time."""


class RoundRecord(Record):
    """One round of a run."""

    format: Literal["ratify.round/1"] = "ratify.round/1"
    number: int
    seed: int
    """Every seed inside the round is derived from this one."""
    start: StartingPolicy
    trained_from: Literal["start", "first"]
    """Whose weights training begins with."""
    portion: int
    """Which portion of the training prompts it draws."""
    data: str
    """Its data policy."""
    calibrated_in: int | None = None
    """The round whose calibrators it labels with; None when it fits its own or has none."""
    constitution: str = ""
    """Hash of the constitution when the round began."""
    started: str
    code: str
    closed: ClosedRound | None = None


def round_seed(seed: int, number: int) -> int:
    """The seed of a round: the run's own for round 0, one derived by hash for each after it."""
    return seed if number == 0 else int(digest({"seed": seed, "round": number})[:8], 16) % SEEDS


def round_path(run: Path, number: int) -> Path:
    """Where a round's record lies."""
    return run / f"round-{number:03d}" / RECORD


def read_rounds(run: Path) -> list[RoundRecord]:
    """The records of a run, by number; rounds that were run alone have none.

    Raises:
        StoreError: a record is of another version.
    """
    paths = (round_path(run, number) for number in RunStore(run).rounds())
    return [_read(path) for path in paths if path.exists()]


def write_round(run: Path, record: RoundRecord) -> None:
    """Write a round's record whole or not at all."""
    write_text(round_path(run, record.number), record.model_dump_json(indent=2) + "\n")


def round_config(config: Config, record: RoundRecord) -> Config:
    """The configuration of one round: the run's, with what the record says in its place.

    Round 0 that starts from the configured policy has the run's own configuration, so `ratify run` may have done it.
    """
    updates: dict[str, object] = {"policy": _policy(config, record)}
    if record.number:
        updates["run"] = config.run.model_copy(update={"seed": record.seed})
        updates["selection"] = config.selection.model_copy(
            update={"seed": config.run.seed, "portion": config.selection.portion + record.portion}
        )
    if record.calibrated_in is not None:
        place = RunStore(config.run_dir).stage("label", record.calibrated_in).path / "calibrator.json"
        gold = {"canaries": 0, "min_agreement": None, "calibrate": "none", "calibrator": place}
        updates["gold"] = config.gold.model_copy(update=gold)
    return config.model_copy(update=updates)


def config_of_round(config: Config, number: int) -> Config:
    """The configuration that a round of this run has, if it has a record; the run's own otherwise."""
    path = round_path(config.run_dir, number)
    return round_config(config, _read(path)) if path.exists() else config


def first_policy(run: Path) -> str | None:
    """The policy that the run's rounds began with; None where nobody recorded rounds."""
    path = round_path(run, 0)
    return _read(path).start.model if path.exists() else None


def closed_rounds(records: Sequence[RoundRecord]) -> list[RoundRecord]:
    """The rounds that are over."""
    return [record for record in records if record.closed]


def _policy(config: Config, record: RoundRecord) -> object:
    if record.start.origin == "first":
        return config.policy
    first = config.policy.trainable if record.trained_from == "first" else None
    here = {"model": record.start.model, "base_url": None, "replicas": (), "train_from": first}
    return config.policy.model_copy(update=here)


def _read(path: Path) -> RoundRecord:
    try:
        return RoundRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path} is not a round's record of this version; restore it from a copy") from error
