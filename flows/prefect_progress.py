"""Progress in Prefect's page: beside the terminal's bar, an artifact that is kept up to date while a stage works.

A stage reports as often as it likes and never waits for the server: a thread of its own posts the newest figure every
two seconds, and gives up without a word when nobody answers, because the window must not take the work with it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, Self
from uuid import UUID

from prefect import get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.exceptions import MissingContextError
from prefect.runtime import flow_run, task_run

from ratify.progress import Progress, progress

POST_EVERY_S = 2.0
LAST_POST_S = 5.0
"""Seconds that the end of a stage waits for the last figure to arrive."""


class _Figure(NamedTuple):
    done: int
    total: int
    note: str

    @property
    def percent(self) -> float:
        return min(100.0, 100.0 * self.done / self.total) if self.total else 0.0

    def describe(self, title: str) -> str:
        count = f": {self.done:,} of {self.total:,}" if self.total else ""
        return f"{title}{count}  {self.note}".rstrip()


@contextmanager
def shown(title: str) -> Iterator[Progress]:
    """What a stage of a flow reports to: the terminal, and an artifact under a key such as `progress-judging`."""
    with progress(title) as terminal, _Posted(title) as posted:
        yield _Both(terminal, posted)


class _Both:
    def __init__(self, terminal: Progress, posted: _Posted) -> None:
        self._terminal, self._posted = terminal, posted

    def update(self, done: int, total: int, note: str = "") -> None:
        self._terminal.update(done, total, note)
        self._posted.newest = _Figure(done, total, note)

    def say(self, line: str) -> None:
        self._terminal.say(line)
        with suppress(MissingContextError):
            get_run_logger().info(line)


class _Posted:
    """The thread that posts; `newest` is what it will post next."""

    def __init__(self, title: str) -> None:
        self.newest: _Figure | None = None
        self._title = title
        self._key = "progress-" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        self._runs = {"flow_run_id": _id(flow_run.id), "task_run_id": _id(task_run.id)}
        self._client = get_client(sync_client=True)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._post_until_ended, name=self._key, daemon=True)

    def __enter__(self) -> Self:
        if self._runs["flow_run_id"]:
            self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LAST_POST_S)

    def _post_until_ended(self) -> None:
        with suppress(Exception), self._client as client:  # the window is lost, the work is not
            artifact, posted = None, None
            while True:
                last = self._ended.wait(POST_EVERY_S)
                figure = self.newest
                if figure is not None and figure != posted:
                    artifact, posted = self._post(client, artifact, figure), figure
                if last:
                    return

    def _post(self, client: SyncPrefectClient, artifact: UUID | None, figure: _Figure) -> UUID:
        description = figure.describe(self._title)
        if artifact is None:
            new = ArtifactCreate(
                key=self._key, type="progress", description=description, data=figure.percent, **self._runs
            )
            return client.create_artifact(new).id
        client.update_artifact(artifact, ArtifactUpdate(data=figure.percent, description=description))
        return artifact


def _id(text: str | None) -> UUID | None:
    return UUID(text) if text else None
