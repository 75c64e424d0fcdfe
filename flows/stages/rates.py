"""What judge calls needed in the stages of a run so far: speed and tokens per call, from their manifests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ratify.run_store import Manifest, RunStore, StageStore


class Rate(NamedTuple):
    """What a judge call needed in one stage."""

    calls_per_s: float
    prompt_tokens: float
    completion_tokens: float
    source: str


def observed_rates(run: RunStore, judge: str | None = None) -> list[Rate]:
    """Of every finished stage that asked the judge, oldest first; with `judge`, of the judge with that fingerprint."""
    found: list[tuple[str, Rate]] = []
    for stage, prefix in _stages(run):
        manifest = stage.manifest()
        if manifest is None:
            continue
        asked = prefix if judge is None else _asked(manifest, prefix, judge)
        rate = _rate(manifest, asked) if asked else None
        if rate is not None:
            found.append((manifest.finished, rate))
    return [rate for _, rate in sorted(found)]


def _stages(run: RunStore) -> Iterator[tuple[StageStore, str]]:
    """The stages that ask a judge, with the prefix of their metrics."""
    for number in run.rounds():
        yield run.stage("label", number), "label"
        yield run.stage("evaluate", number), "evaluate"
        for path in sorted(run.stage("relabel", number).path.glob("*")):
            yield run.stage(f"relabel/{path.name}", number), "label"


def _asked(manifest: Manifest, prefix: str, judge: str) -> str | None:
    """The prefix of a judge's own figures in a stage; None when the stage did not ask it."""
    seats = manifest.lineage.get("panel", {}).get("judges", [])
    if seats:
        return next((f"{prefix}/panel/{seat['name']}" for seat in seats if seat["judge"] == judge), None)
    return prefix if manifest.lineage.get("judge") == judge else None


def _rate(manifest: Manifest, prefix: str) -> Rate | None:
    figures = manifest.metrics
    calls, speed = figures.get(f"{prefix}/calls/count", 0), figures.get(f"{prefix}/calls/per_s", 0)
    if not calls or not speed:
        return None
    prompt, completion = (figures.get(f"{prefix}/tokens/{kind}", 0) / calls for kind in ("prompt", "completion"))
    return Rate(speed, prompt, completion, f"stage {manifest.stage}, finished {manifest.finished}")
