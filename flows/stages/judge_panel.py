"""Ask the judges of several configurations about the same gold pairs, one judge after the other.

Each judge's verdicts go to its own run's store. What the judges are compared by is the first configuration's:
constitution, gold, seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flows.context import RunContext
from flows.stages.canaries import resampling
from flows.stages.judge_check import Check, prepare
from flows.stages.judging import check_judge, collect, constitution_of, make_judge
from judges.labelling import Collection
from judges.panel import Member
from judges.panel_study import Panelist, PanelStudy, study_panel
from ratify.errors import ConfigError


def prepare_panel(contexts: Sequence[RunContext], pairs: int) -> list[Check]:
    """Every judge's questions about the same pairs.

    Raises:
        ConfigError: fewer than two judges, two that are one, or judges that are asked in different ways.
    """
    first = contexts[0].config
    same = {"constitution": first.constitution, "gold": first.gold, "evaluation": first.evaluation}
    alike = [_with(context, same, first.run.seed) for context in contexts]
    if len(alike) < 2 or len({make_judge(context).fingerprint for context in alike}) < len(alike):
        raise ConfigError("a panel needs two judges or more, and each of them once; give as many CONFIGs")
    if len({context.config.judge.protocol for context in alike}) > 1:
        raise ConfigError("the judges of a panel must be asked in the same way: give all the same judge.protocol")
    return [prepare(context, pairs=pairs, probed=0) for context in alike]


def ask_panel(checks: Sequence[Check], names: Sequence[str], weights: Sequence[float], quorum: float) -> PanelStudy:
    """Have every judge answer what is not stored, and compare them."""
    panelists = []
    for check, name, weight in zip(checks, names, weights, strict=True):
        if check.missing():
            check_judge(check.context)
        found = asyncio.run(_collect(check))
        judge = make_judge(check.context).fingerprint
        panelists.append(Panelist(name, Member(judge, weight, check.sheet, found.verdicts, found.failures)))
    context = checks[0].context
    gold, protocol = checks[0].examination.gold, context.config.judge.verdict_protocol
    return study_panel(gold, panelists, constitution_of(context), protocol, quorum=quorum, how=resampling(context))


async def _collect(check: Check) -> Collection:
    log = check.context.run.path / "judge-check.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    store = check.store()
    try:
        return await collect(check.context, check.sheet.questions, store, log)
    finally:
        store.close()


def _with(context: RunContext, update: dict[str, object], seed: int) -> RunContext:
    run = context.config.run.model_copy(update={"seed": seed})
    return RunContext(context.config.model_copy(update={**update, "run": run}), context.round_number, context.show)
