"""The loop over rounds: who begins the next one, doing it, the gate, promotion, and whether to stop.

`advance` holds the run's lock and is given the way to do one round, so that plain functions and Prefect flows share it.
Everything it decides is written down before it acts (`ratify/rounds.py`), and every step may be repeated: a process
killed at any moment goes on where it was. Left out: what a round does (`flows/stages`), pages (`rounds_page.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from constitutions.hashes import constitution_hash
from evaluation.gate_record import GateVerdict
from evaluation.report import EvaluationReport, read_report
from flows import console
from flows.context import RunContext
from flows.stages import FLOWS
from flows.stages.gate import judge_report, new_policy, promote_report
from flows.stages.judging import constitution_of
from flows.stages.rounds_page import write_rounds_page
from flows.stages.stage import StageGroup
from flows.stages.train import on_several_machines, trained_policy
from ratify.canonical import model_digest
from ratify.config import Config
from ratify.errors import ConfigError, StoreError
from ratify.lineage import code_commit, now
from ratify.promotions import PolicyRecord, Promotions
from ratify.rounds import (
    ClosedRound,
    RoundRecord,
    StartingPolicy,
    closed_rounds,
    read_rounds,
    round_config,
    round_seed,
    write_round,
)
from ratify.rounds_section import STOPS
from ratify.run_store import RunStore

DoRound = Callable[[Config, int], object]
"""Does one round with its own configuration; what is finished in it is not done again."""


class Standstill(NamedTuple):
    """Why no further round begins."""

    round: int
    decision: str
    reason: str

    @property
    def sentence(self) -> str:
        """The reason, and how to go on."""
        return (
            f"the gate said {self.decision} in round {self.round}, so no further round begins: "
            f"{self.reason.rstrip('.')}; to go on, promote or roll back by hand, or set rounds.stop_on"
        )


def advance(config: Config, goal: int, do_round: DoRound) -> Standstill | None:
    """Do rounds until `goal` of them are closed or the gate stops the loop.

    Raises:
        ConfigError: the configured policy is not the one that the run began with, the harness's results are named, or
            a stage trains on several machines.
        StoreError: a policy that a round started from is gone or changed.
    """
    if spread := on_several_machines(RunContext(config), FLOWS["run_round"]):
        raise ConfigError(
            f"ratify rounds works on one machine, and {spread[0].name} trains on several: leave its accelerate_config "
            "out, or use `ratify run`"
        )
    with RunStore(config.run_dir).lock():
        _same_first_policy(config)
        _no_harness(config, goal)
        RunContext(config).remember()
        while len(closed_rounds(read_rounds(config.run_dir))) < goal:
            if (stopped := standstill(config)) is not None:
                return stopped
            record = _open_round(config)
            console.round_begins(record, goal)
            do_round(round_config(config, record), record.number)
            _close_round(config, record)
            stopped = standstill(config)
            write_rounds_page(config, stopped.sentence if stopped else "")
        return standstill(config)


def do_round_plainly(config: Config, number: int) -> None:
    """One round without Prefect."""
    FLOWS["run_round"].run(RunContext(config, number))


def goal_of(config: Config, rounds: int, more: int | None = None) -> int:
    """How many rounds the run shall have: `rounds`, or `more` than are closed now."""
    return rounds if more is None else more + len(closed_rounds(read_rounds(config.run_dir)))


def finished(config: Config, goal: int) -> bool:
    """Is there nothing left to do?"""
    return len(closed_rounds(read_rounds(config.run_dir))) >= goal or standstill(config) is not None


def standstill(config: Config) -> Standstill | None:
    """Whether the last closed round stops the loop; a promotion or rollback by hand after it lets the loop go on."""
    closed = closed_rounds(read_rounds(config.run_dir))
    last = closed[-1] if closed else None
    if last is None or last.closed is None or last.closed.decision not in STOPS[config.rounds.stop_on]:
        return None
    since = Promotions(config.run_dir).events()[last.closed.events :]
    if any(event.kind in ("promotion", "rollback") for event in since):
        return None
    return Standstill(last.number, last.closed.decision, last.closed.reason)


def refuse_to_redo(context: RunContext, group: StageGroup) -> None:
    """Of a run that has several rounds, none is done again by itself: those after it came from it.

    Raises:
        ConfigError: a stage of this round is finished for other inputs than it would have now.
    """
    several = len(read_rounds(context.config.run_dir)) > 1
    wanted = group.wanted(context) if several else ()
    if any(context.stage(stage.name).manifest() and not stage.finished(context) for stage in wanted):
        raise ConfigError(
            f"{context.config.run_dir} has several rounds, and round {context.round_number} is finished with another "
            "configuration, rules or file; for a further round with this one say `ratify rounds CONFIG --more 1`, "
            "to begin anew give it another run.name"
        )


def _open_round(config: Config) -> RoundRecord:
    """The round that was begun and not closed, or a new one."""
    records = read_rounds(config.run_dir)
    if records and records[-1].closed is None:
        _unchanged(records[-1])
        return records[-1]
    number, section = len(records), config.rounds
    record = RoundRecord(
        number=number,
        seed=round_seed(config.run.seed, number),
        start=_start(config, records),
        trained_from=section.train_from,
        portion=number if section.prompts == "new" else 0,
        data=section.data,
        calibrated_in=_calibrated_in(config, records, number),
        constitution=constitution_hash(constitution_of(RunContext(config))),
        started=now(),
        code=code_commit(),
    )
    _unchanged(record)
    write_round(config.run_dir, record)
    return record


def _start(config: Config, records: Sequence[RoundRecord]) -> StartingPolicy:
    """Whom the next round samples from."""
    first = config.policy.trainable
    if not records:
        return StartingPolicy(model=first, digest=model_digest(first), origin="first")
    if config.rounds.start_from == "latest":
        last = records[-1]
        folder = trained_policy(RunContext(config, last.number))
        digest = last.closed.policy if last.closed else model_digest(folder)
        return StartingPolicy(model=str(folder), digest=digest, origin="latest", round=last.number)
    pointer = Promotions(config.run_dir).pointer()
    if pointer is None:
        raise StoreError(f"{config.run_dir} has closed rounds and no history of promotions; restore it from a copy")
    if pointer.policy.digest == records[0].start.digest:
        return records[0].start
    return StartingPolicy(
        model=pointer.policy.model, digest=pointer.policy.digest, origin="promoted", round=pointer.policy.round
    )


def _calibrated_in(config: Config, records: Sequence[RoundRecord], number: int) -> int | None:
    """The round whose calibrators the next one labels with; None where it fits its own."""
    every = config.rounds.recalibrate_every
    if not every or number % every == 0:
        return None
    fitted = [record.number for record in records if record.calibrated_in is None]
    return fitted[-1] if fitted else None


def _close_round(config: Config, record: RoundRecord) -> None:
    """Ask the gate, promote what it lets pass, and write down how the round ended."""
    context = RunContext(round_config(config, record), record.number)
    report = read_report(context.stage("evaluate").path / "report.json")
    verdict = judge_report(config.run_dir, report, config)
    policy = new_policy(config.run_dir, report)
    promoted = _promote(config, report, verdict, policy)
    closed = ClosedRound(
        decision=verdict.decision,
        reason=verdict.deciding[0].text if verdict.deciding else "",
        policy=policy.digest,
        promoted=promoted,
        finished=now(),
        events=len(Promotions(config.run_dir).events()),
    )
    write_round(config.run_dir, record.model_copy(update={"closed": closed}))


def _promote(config: Config, report: EvaluationReport, verdict: GateVerdict, policy: PolicyRecord) -> bool:
    """Move the pointer where the gate lets it; whether the policy is the promoted one now."""
    pointer = Promotions(config.run_dir).pointer()
    if pointer is not None and pointer.policy.digest == policy.digest:
        return True
    beaten = pointer is not None and verdict.standing.parent == pointer.policy.short
    left_to_people = config.gate.require_approval or not config.rounds.promote
    if verdict.decision != "PROMOTE" or left_to_people or not beaten:
        return False
    promote_report(config.run_dir, report, config)
    return True


def _same_first_policy(config: Config) -> None:
    records = read_rounds(config.run_dir)
    first = config.policy.trainable
    if records and model_digest(first) != records[0].start.digest:
        raise ConfigError(
            f"policy.model {first} is not the policy that {config.run_dir} began with "
            f"({records[0].start.digest[:12]}); give this configuration another run.name"
        )


def _no_harness(config: Config, goal: int) -> None:
    """Results of one pair of policies say nothing about those of the next round."""
    if config.suites.harness_new is not None and goal > 1:
        raise ConfigError(
            "suites.harness_old and harness_new are results of one pair of policies, and every round has another; "
            "leave them out, and compare two of its policies by `ratify evaluate --old FILE --new FILE --harness-old "
            "PATH --harness-new PATH`"
        )


def _unchanged(record: RoundRecord) -> None:
    """A round starts from the weights that its record names, or not at all."""
    if model_digest(record.start.model) != record.start.digest:
        raise StoreError(
            f"round {record.number} starts from {record.start.model}, whose files are gone or have changed since; "
            "restore them"
        )
