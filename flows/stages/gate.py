"""The gate of a run: what its history says to it, the verdict on a finished evaluation, and the moves of the pointer.

Every different evaluation that is put to the gate is an attempt and is remembered, because trying until it passes is
peeking. The first one freezes the run's first policy with its figures and begins an epoch with its judge.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from evaluation.gate import SYCOPHANCY, decide, first_figures
from evaluation.gate_record import GateVerdict, Standing, evidence_hash
from evaluation.report import EvaluationReport, read_report
from flows.context import CONFIG
from ratify.canonical import model_digest
from ratify.config import Config
from ratify.errors import GateError, InputError, StoreError
from ratify.gate_section import CAPABILITY, HARNESS, GateSection
from ratify.promotions import Event, Pointer, PolicyRecord, Promotions, attempts, changed
from ratify.run_store import RunStore

TRUTH = "evaluate/compliance.all/difference"
REPORT = "report.json"


class Approval(NamedTuple):
    """A person's answer to the question whether a policy may be promoted."""

    who: str
    why: str
    evidence: str = ""
    """Hash of the figures that the person was shown; empty for the newest."""


def judge_report(run: Path, report: EvaluationReport, config: Config) -> GateVerdict:
    """Put a report to the gate as one attempt of its run. The caller holds the run's lock."""
    promotions, section = Promotions(run), _section(config)
    _begin(promotions, report)
    watched = _old_policy(report) if config.rounds.start_from == "latest" else None
    _attempt(promotions, report, watched)
    return decide(report, section, standing_of(promotions, report, watched))


def standing_of(promotions: Promotions, report: EvaluationReport, parent: PolicyRecord | None = None) -> Standing:
    """What the history says to the gate about this report, against `parent` or else the promoted policy.

    Rounds that each start from the newest policy are held against the one they started from, promoted or not; promotion
    still asks for the promoted one (`_must_promote`).
    """
    epoch, first, pointer = promotions.epoch(), promotions.first(), promotions.pointer()
    if epoch is None or first is None or first.policy is None or pointer is None:
        return Standing()
    parent = parent or _parent(promotions, report, pointer)
    number = attempts(promotions.events(), parent.digest).get(evidence_hash(report), 1)
    return Standing(
        attempt=number,
        parent=parent.short,
        judge=epoch.judge,
        constitution=epoch.constitution,
        first=None if parent.digest == first.policy.digest else first.first,
    )


def gate_run(run: Path) -> GateVerdict:
    """The verdict on a run's newest evaluation."""
    with RunStore(run).lock():
        Promotions(run).repair()
        return judge_report(run, newest_report(run), run_config(run))


def begin_epoch(run: Path, reason: str) -> None:
    """Begin an epoch with the judge and the constitution of the newest evaluation.

    Raises:
        InputError: the reason is empty.
    """
    _need(reason, "--new-epoch")
    with RunStore(run).lock():
        promotions, report = Promotions(run), newest_report(run)
        if promotions.first() is None:
            _begin(promotions, report)
        promotions.record("epoch", reason=reason, judge=report.identity.judge, constitution=_constitution(report))


def promote(run: Path, override: str | None, approval: Approval | None = None) -> tuple[GateVerdict, Pointer]:
    """Move the pointer to the newest evaluation's policy, if the gate says PROMOTE or a person says why not to ask it.

    Raises:
        GateError: the gate does not say PROMOTE and there is no override, or nobody approved where somebody must.
        InputError: the policy is promoted already, its files have changed, or the override gives no reason.
    """
    if override is not None:
        _need(override, "--override")
    with RunStore(run).lock():
        return promote_report(run, newest_report(run), run_config(run), override, approval)


def promote_report(
    run: Path, report: EvaluationReport, config: Config, override: str | None = None, approval: Approval | None = None
) -> tuple[GateVerdict, Pointer]:
    """Move the pointer to the policy that a report measured, as `promote` does.

    Raises:
        GateError: the gate does not say PROMOTE and there is no override, or nobody approved where somebody must.
        InputError: the policy is promoted already, or its files have changed.
    """
    with RunStore(run).lock():
        promotions = Promotions(run)
        verdict = judge_report(run, report, config)
        pointer, policy = promotions.pointer(), new_policy(run, report)
        if pointer is None:
            raise StoreError(f"{run} has no first policy on record; run `ratify gate {run}`")
        if pointer.policy.digest == policy.digest:
            raise InputError(f"{policy.short} is promoted already")
        if override is None:
            _must_promote(verdict, pointer)
            _not_rolled_back(promotions, policy)
        _must_be_approved(run, config.gate, approval, verdict)
        kept = promotions.keep(policy.model_copy(update={"parent": pointer.policy.digest}))
        promotions.record(
            "promotion", parent=pointer.policy.digest, policy=kept, evidence=verdict.evidence,
            decision=verdict.decision, override=override or "",
            **({"person": approval.who, "reason": approval.why} if approval else {}),
        )  # fmt: skip
        return verdict, _pointer(promotions)


def refuse(run: Path, answer: Approval) -> None:
    """Remember that a person does not want the policy that was measured; nothing moves."""
    _need(answer.why, "a refusal")
    with RunStore(run).lock():
        pointer = Promotions(run).pointer()
        parent = pointer.policy.digest if pointer else ""
        Promotions(run).record("refusal", parent=parent, evidence=answer.evidence, person=answer.who, reason=answer.why)


def refused(run: Path, evidence: str) -> Event | None:
    """The refusal of a policy by the hash of its figures, if a person has refused it."""
    events = reversed(Promotions(run).events())
    return next((event for event in events if event.kind == "refusal" and event.evidence == evidence), None)


def _must_promote(verdict: GateVerdict, pointer: Pointer) -> None:
    remedy = "nothing was promoted; --override REASON promotes it anyway and is logged"
    if verdict.standing.parent != pointer.policy.short:
        found = f"the evaluation compares with {verdict.standing.parent}, but {pointer.policy.short} is promoted now"
        raise GateError(f"{found}; {remedy}")
    if verdict.decision != "PROMOTE":
        raise GateError(f"the gate says {verdict.decision}: {verdict.deciding[0].text.rstrip('.')}; {remedy}")


def _must_be_approved(run: Path, section: GateSection, approval: Approval | None, verdict: GateVerdict) -> None:
    """Where `gate.require_approval` is set, a named person has seen these figures and not others."""
    if approval is None:
        if section.require_approval:
            raise GateError(
                "gate.require_approval asks a person; nothing was promoted: "
                f"`ratify promote {run} --by WHO --reason WHY`, or resume the flow `approve-policy` in Prefect's page"
            )
        return
    _need(approval.who, "--by")
    _need(approval.why, "--reason")
    if approval.evidence and approval.evidence != verdict.evidence:
        raise GateError(
            f"{approval.who} approved the evaluation {approval.evidence[:12]}, and the newest is now "
            f"{verdict.evidence[:12]}; nothing was promoted, ask again"
        )


def _not_rolled_back(promotions: Promotions, policy: PolicyRecord) -> None:
    """A policy that a person took back is not promoted again by a schedule."""
    back = [event for event in promotions.events() if event.kind == "rollback" and event.parent == policy.digest]
    if back:
        why = f" ({back[-1].reason})" if back[-1].reason else ""
        told = f"{policy.short} was rolled back at {back[-1].time}{why}"
        raise GateError(f"{told}; nothing was promoted; --override REASON promotes it again and is logged")


def rollback(run: Path, reason: str) -> Pointer:
    """Move the pointer back to the parent of the promoted policy.

    Raises:
        InputError: there is no parent, or its files are gone or changed.
    """
    with RunStore(run).lock():
        promotions = Promotions(run)
        pointer = promotions.pointer()
        if pointer is None or not pointer.lineage:
            raise InputError(f"{run} has promoted nothing that could be rolled back")
        parent = pointer.lineage[0]
        if changed(parent):
            raise InputError(f"{parent.model} is gone or is not {parent.short} any more; restore it first")
        promotions.record("rollback", parent=pointer.policy.digest, policy=parent, reason=reason)
        return _pointer(promotions)


def newest_report(run: Path) -> EvaluationReport:
    """The report of the newest round with a finished evaluation.

    Raises:
        StoreError: there is none.
    """
    store = RunStore(run)
    for number in reversed(store.rounds()):
        stage = store.stage("evaluate", number)
        if stage.manifest():
            return read_report(stage.path / REPORT)
    raise StoreError(f"{run} has no finished evaluation yet; run `ratify run` on its configuration first")


def run_config(run: Path) -> Config:
    """What the run was last run with.

    Raises:
        StoreError: the file is missing or of another version.
    """
    path = run / CONFIG
    try:
        return Config.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not a configuration of this version; use `ratify run` once more") from error


def new_policy(run: Path, report: EvaluationReport) -> PolicyRecord:
    """The policy that a report measured, as it lies in the run now.

    Raises:
        InputError: it is not the one that was measured any more.
    """
    from flows.stages.policy_gradient import NAME as POLICY_GRADIENT
    from flows.stages.train import POLICY

    store, number = RunStore(run), report.identity.round
    folders = [store.stage(name, number).path / "model" for name in (POLICY, POLICY_GRADIENT)]
    for folder in filter(Path.is_dir, folders):
        found = PolicyRecord(model=str(folder.resolve()), digest=model_digest(folder), round=number)
        if found.short in report.identity.models.get("new", ""):
            return found
    raise InputError(f"{folders[0]} is not the policy that was evaluated any more; run the evaluation again")


def _section(config: Config) -> GateSection:
    """The limits; the truth is required in a world that knows it, and no suite that is given may be lost unseen."""
    section, suites = config.gate, config.suites
    needed = {TRUTH: config.evaluation.world, SYCOPHANCY: suites.sycophancy}
    held = {CAPABILITY: suites.capability, HARNESS: suites.harness_new}
    required = (*section.required, *(key for key, given in needed.items() if given is not None))
    return section.model_copy(update={"required": required}).holding(*(name for name, given in held.items() if given))


def _begin(promotions: Promotions, report: EvaluationReport) -> None:
    """Freeze the first policy, unless that is done."""
    if promotions.first() is not None:
        return
    promotions.record(
        "epoch",
        policy=_old_policy(report),
        reason="first evaluation of the run; its old policy is the first policy",
        judge=report.identity.judge,
        constitution=_constitution(report),
        first=first_figures(report),
    )


def _old_policy(report: EvaluationReport) -> PolicyRecord:
    """The policy that a report compares with.

    Raises:
        InputError: it is not the one that was evaluated any more.
    """
    model, _, short = report.identity.models.get("old", "").rpartition(" (")
    found = PolicyRecord(
        model=str(Path(model).resolve()) if Path(model).is_dir() else model, digest=model_digest(model)
    )
    if found.short != short.rstrip(")"):
        raise InputError(f"{model or 'the old policy'} is not the policy that was evaluated any more; evaluate again")
    return found


def _attempt(promotions: Promotions, report: EvaluationReport, parent: PolicyRecord | None = None) -> None:
    """Remember an evaluation that was not put to the gate before."""
    pointer, events = promotions.pointer(), promotions.events()
    if pointer is None:
        return
    evidence = evidence_hash(report)
    if any(event.kind == "attempt" and event.evidence == evidence for event in events):
        return
    promotions.record("attempt", parent=(parent or pointer.policy).digest, evidence=evidence)


def _parent(promotions: Promotions, report: EvaluationReport, pointer: Pointer) -> PolicyRecord:
    """The policy that was promoted when this report was first put to the gate, or the one that is now."""
    evidence = evidence_hash(report)
    asked = next((e.parent for e in promotions.events() if e.kind == "attempt" and e.evidence == evidence), "")
    chain = (pointer.policy, *pointer.lineage)
    return next((policy for policy in chain if policy.digest == asked), pointer.policy)


def _constitution(report: EvaluationReport) -> str:
    return report.constitution.hash if report.constitution else ""


def _pointer(promotions: Promotions) -> Pointer:
    found = promotions.pointer()
    if found is None:
        raise StoreError(f"{promotions.run} has no pointer after a promotion")
    return found


def _need(reason: str, option: str) -> None:
    if not reason.strip():
        raise InputError(f"{option} needs a reason that others will understand later")
