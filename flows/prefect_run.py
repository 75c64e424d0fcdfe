"""Start a flow from the command line, and end well when Prefect's server does not: it is a window, not the truth.

A server that is only slow or restarting is waited for. A server that is lost in the middle of a run costs nothing that
a stage has finished: the stage at work ends and writes its manifest, then the process leaves with one sentence and
`SchedulerError.exit_code`. What Prefect still wants to tell its server is waited for at most `DRAIN_S` seconds.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from flows import prefect_settings, temporary_server
from flows.flow_runs import recorded_by_this_process
from ratify.config import Config
from ratify.errors import RatifyError, SchedulerError

WAIT_FOR_SERVER_S = 60.0
"""For a server of the user's that does not answer when a run starts."""
CREATION_RETRIES = 3
"""A flow run that could not be created is tried again so often, after 2, 4 and 8 s."""
DRAIN_S = 30.0
"""Prefect's clients wait for their events without limit; a lost server would keep a finished process for minutes."""

LOST_DRAIN_S = 2.0
"""When the temporary server has ended there is nobody to tell."""

_servers: list[temporary_server.TemporaryServer] = []
_undrained: list[Any] = []
"""What Prefect could not tell its server in time."""


def run_flow(name: str, config: Config, **parameters: Any) -> Any:
    """Run the flow `flows.NAME.NAME` on a configuration and further parameters; what it returns.

    Raises:
        SchedulerError: Prefect's server does not answer, or was lost.
        RatifyError: what a stage raised.
    """
    with with_server():
        flow: Callable[..., object] = getattr(importlib.import_module(f"flows.{name}"), name)
        return _run(lambda: flow(config.model_dump(mode="json"), **parameters), config)


@contextmanager
def with_server() -> Iterator[None]:
    """Prefect with a server that answers, the user's or a temporary one; at the end it is told what is left.

    Raises:
        SchedulerError: the user's server does not answer, or a temporary one does not start.
    """
    prefect_settings.apply()
    # What cannot be logged because the server is gone is not worth a traceback between our own sentences.
    logging.raiseExceptions = False
    _find_server()
    try:
        yield
    finally:
        _drain()


def _find_server() -> None:
    """Wait for the user's server, or start a temporary one; it must be known before Prefect is imported."""
    if any(not server.lost for server in _servers):
        return
    url = None if _servers else temporary_server.configured_url()
    if url is None:
        prefect_settings.apply_to_temporary_server()
        server = temporary_server.start()
        _servers.append(server)
        atexit.register(_stop_servers)
        os.environ[temporary_server.API_URL] = server.url
    elif not temporary_server.answers(url, WAIT_FOR_SERVER_S):
        raise SchedulerError(
            f"no Prefect server answers at {url} (PREFECT_API_URL); start it with `prefect server start`, or run with "
            "--no-prefect"
        )


def _run(call: Callable[[], object], config: Config) -> object:
    attempt = 0
    while True:
        try:
            return call()
        except RatifyError:
            raise
        except Exception as error:
            if (fault := explained(error)) is not None:
                raise fault from error
            if not transport_fault(error):
                raise
            if attempt == CREATION_RETRIES or recorded_by_this_process(config.run_dir):
                raise SchedulerError(
                    "Prefect's server was lost; every stage that has ended is kept, and the same command goes on from "
                    "there (with --no-prefect also without a server)"
                ) from error
            attempt += 1
            time.sleep(2.0**attempt)


def explained(error: BaseException) -> RatifyError | None:
    """The stage's own fault behind an exception, such as one that could not be reported to a lost server."""
    return next((each for each in _chain(error) if isinstance(each, RatifyError)), None)


def transport_fault(error: BaseException) -> bool:
    """Whether a connection to Prefect's server, or its answer, is behind an exception."""
    import httpx

    return any(isinstance(each, httpx.TransportError | httpx.HTTPStatusError) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _drain() -> None:
    """Let Prefect tell its server what is left, for a while; then the server may end."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    lost = any(server.lost for server in _servers)
    for worker in (EventsWorker, APILogWorker):
        outcome = worker.drain_all(timeout=LOST_DRAIN_S if lost else DRAIN_S)
        _undrained.extend(outcome[1] if isinstance(outcome, tuple) else ())


def leave(code: int) -> NoReturn:
    """End the process with this code, without waiting any longer for a server that is not there."""
    if _undrained:
        _stop_servers()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _stop_servers() -> None:
    while _servers:
        _servers.pop().stop()
