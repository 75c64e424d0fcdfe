"""A stage: what it depends on, and the work it does. Groups of stages are what commands and flows run.

A stage is run again only when something it depends on has changed; otherwise its manifest stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flows import console
from flows.context import RunContext
from ratify.config import Config
from ratify.errors import StoreError
from ratify.run_store import Manifest, StageStore

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One folder of a round."""

    name: str
    title: str
    """What it does, in a few words."""
    lineage: Callable[[RunContext], dict[str, Any]]
    """Everything the result depends on, as JSON. Raises StoreError when an earlier stage is not finished."""
    work: Callable[[RunContext, StageStore], Metrics]
    """Writes files into the stage's folder and returns its metrics."""
    summary: Callable[[Metrics], str]
    """The metrics as a few words for a person."""
    check: Callable[[RunContext], None]
    """Looks at what the user gave before anything is started or paid; raises a RatifyError."""
    wanted: Callable[[RunContext], bool] = lambda _context: True
    needs_device: Callable[[Config], bool] = lambda _config: True
    """Whether it starts vLLM or a trainer on this machine, and does not only ask servers of others."""

    def finished(self, context: RunContext) -> bool:
        """Is it complete for exactly these inputs?"""
        try:
            return context.stage(self.name).complete_for(self.lineage(context)) is not None
        except StoreError:
            return False

    def run(self, context: RunContext) -> Manifest:
        """Do the work unless it is done; the manifest is written last."""
        lineage, stage = self.lineage(context), context.stage(self.name)
        done = stage.complete_for(lineage)
        if done:
            console.skipped(self.title)
            return done
        console.headline(self.title, self.name)
        started = time.monotonic()
        stage.begin(lineage)
        metrics = self.work(context, stage)
        manifest = stage.finish(lineage, metrics, time.monotonic() - started)
        console.finished(manifest, self.summary(manifest.metrics))
        return manifest


@dataclass(frozen=True)
class StageGroup:
    """Stages that one command runs in order, under the run's lock."""

    stages: tuple[Stage, ...]

    def wanted(self, context: RunContext) -> tuple[Stage, ...]:
        """The stages that this configuration asks for."""
        return tuple(stage for stage in self.stages if stage.wanted(context))

    def finished(self, context: RunContext) -> bool:
        """Is there nothing left to do?"""
        return all(stage.finished(context) for stage in self.wanted(context))

    def run(self, context: RunContext) -> list[Manifest]:
        """Check what every unfinished stage was given, then run them."""
        with context.run.lock():
            self.check(context)
            return [stage.run(context) for stage in self.wanted(context)]

    def check(self, context: RunContext) -> None:
        """Raise the first fault in what the user gave to a stage that is not finished."""
        for stage in self.wanted(context):
            if not stage.finished(context):
                stage.check(context)
