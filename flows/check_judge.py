"""Prefect flow `check-judge`: ask the judge about gold pairs and tampered ones, and say whether it is still fit.

With `fresh` nothing that was answered before is reused: a hosted judge may have changed behind its name, and only new
answers show that. Its answers go to `judge-checks/<day>/` in the run's folder. The artifact `judge` keeps the history.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.context import RunContext
from flows.prefect_events import JUDGE_UNFIT, tell
from flows.prefect_progress import shown
from flows.prefect_tags import name_run, tag_run
from flows.stages.judge_check import Checked, ask, prepare
from flows.start_round import configured
from ratify.files import write_text
from ratify.intervals import Estimate
from ratify.lineage import now

FOLDER = "judge-checks"


@flow(name="check-judge", flow_run_name=name_run)
def check_judge(
    config: str = "configs/demo.toml",
    overrides: list[str] = [],  # noqa: B006  Prefect shows the default in its form
    run_name: str = "",
    *,
    pairs: int = 60,
    probed: int = 30,
    fresh: bool = True,
) -> State:
    """Measure the judge against gold: agreement, biases, injections. An unfit judge is an event, not a failure.

    Args:
        config: A TOML file in the checkout, with a section [gold].
        overrides: What to change in it, such as judge.model=NAME. No secrets: name the variable that holds one.
        run_name: Folder name of the run; empty takes run.name of the file.
        pairs: Gold pairs that are judged, drawn by the run's seed.
        probed: How many of them have their worse reply tampered with.
        fresh: Ask again what was answered before.
    """
    context = RunContext(configured(config, overrides, run_name), show=shown)
    tag_run(context.config)
    folder = context.config.run_dir / FOLDER / now()[:10] if fresh else None
    checked = ask(prepare(context, pairs=pairs, probed=probed, folder=folder))
    if folder:
        write_text(folder / "checkup.json", checked.checkup.model_dump_json(indent=2) + "\n")
    name, fitness = context.config.run.name, checked.checkup.fitness
    create_table_artifact(key="judge", description=f"judge of run {name}, {now()[:10]}", table=judge_table(checked))
    for reason in fitness.reasons:
        get_run_logger().warning(reason)
    if not fitness.fit:
        tell(JUDGE_UNFIT, name, reasons=list(fitness.reasons))
    return Completed(name=None if fitness.fit else "Unfit", message="; ".join(fitness.reasons) or "the judge is fit")


def judge_table(checked: Checked) -> list[dict[str, Any]]:
    """The examination as rows: agreement with gold, failures, position bias, tampering."""
    checkup = checked.checkup
    rows = [_row("agreement with gold", "overall", checkup.agreement.overall)]
    rows += [_row("agreement with gold", name, share) for name, share in checkup.agreement.by_principle.items()]
    rows.append(
        {"about": "failures", "of": "verdicts", "value": f"{checkup.failed:,} of {checkup.verdicts:,}", "interval": ""}
    )
    kinds = checked.statistics.failures.most_common()
    rows += [{"about": "failures", "of": kind, "value": f"{count:,}", "interval": ""} for kind, count in kinds]
    rows += [
        _row("same position wins", bias.principle, bias.position.same_position)
        for bias in checkup.biases
        if bias.position
    ]
    rows += [_row("losers that win by tampering", each.attack, each.success) for each in checkup.probes]
    return rows


def _row(about: str, of: str, found: Estimate | None) -> dict[str, Any]:
    if found is None:
        return {"about": about, "of": of, "value": "not measured", "interval": ""}
    known = found.low is not None and found.high is not None
    return {
        "about": about,
        "of": of,
        "value": f"{found.value:.1%}",
        "interval": f"{found.low:.1%} to {found.high:.1%}" if known else "too few prompts",
    }
