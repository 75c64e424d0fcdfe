"""The other side of `training.served_sampler`: serves each version of a policy in training with a fresh vLLM server.

A server is never told to load new weights: on a CPU vLLM 0.32 then serves a mixture of old and new ones without saying
so. A fresh one from the warm host takes a few seconds, and what it serves is what it has read. The old server stops
first, so there is memory for one. Left out: GPUs of several hosts.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from generation.engine import ManagedServer, start, warm_up
from ratify.errors import RatifyError
from ratify.files import write_json
from ratify.sections import EndpointSection
from training.served_sampler import DESK, Served, answer, version_folder

SECTION = "policy"
"""Whose engine settings the server takes."""
LOOK_EVERY_S = 0.05
TEMPERED = "--logprobs-mode=processed_logprobs"
"""Log-probabilities behind the temperature, which are those that were sampled from."""

logger = logging.getLogger(__name__)


@contextmanager
def serving_rollouts(endpoint: EndpointSection, mailbox: Path, log_path: Path) -> Iterator[None]:
    """Serve every version of the weights that appears in `mailbox` while the context lasts.

    Args:
        endpoint: whose engine settings and limits are taken; `dtype` auto becomes float32, the trainer's.
        mailbox: emptied first, and removed in the end.
        log_path: the servers' log is appended there.
    """
    shutil.rmtree(mailbox, ignore_errors=True)
    mailbox.mkdir(parents=True)
    warm_up(endpoint.engine)
    desk = _Desk(endpoint, mailbox, log_path)
    write_json(mailbox / DESK, {"section": SECTION})
    thread = threading.Thread(target=desk.run, name="rollout-desk", daemon=True)
    thread.start()
    try:
        yield
    finally:
        desk.closing.set()
        thread.join()
        shutil.rmtree(mailbox, ignore_errors=True)


def endpoint_of(endpoint: EndpointSection, folder: Path) -> EndpointSection:
    """The policy's endpoint for one version of its weights."""
    engine = endpoint.engine
    given = tuple(each for each in engine.extra_args if not each.startswith("--logprobs-mode"))
    served = engine.model_copy(
        update={"dtype": "float32" if engine.dtype == "auto" else engine.dtype, "extra_args": (*given, TEMPERED)}
    )
    return endpoint.model_copy(update={"model": str(folder), "base_url": None, "replicas": (), "engine": served})


class _Desk:
    """The thread that waits for versions; one server at a time."""

    def __init__(self, endpoint: EndpointSection, mailbox: Path, log_path: Path) -> None:
        self.closing = threading.Event()
        self._endpoint = endpoint
        self._mailbox = mailbox
        self._log_path = log_path
        self._server: ManagedServer | None = None

    def run(self) -> None:
        """Answer versions in their order until closed."""
        version = 1
        while not self.closing.wait(LOOK_EVERY_S):
            if version_folder(self._mailbox, version).is_dir():
                answer(self._mailbox, version, self._serve(version))
                shutil.rmtree(version_folder(self._mailbox, version - 1), ignore_errors=True)
                version += 1
        self._stop()

    def _serve(self, version: int) -> Served:
        self._stop()
        endpoint = endpoint_of(self._endpoint, version_folder(self._mailbox, version))
        try:
            self._server = start(endpoint, log_path=self._log_path, section=SECTION)
            served = asyncio.run(self._server.wait_ready())
        except RatifyError as error:
            return Served(fault=str(error))
        except Exception as error:  # the trainer waits for an answer whatever happened
            logger.exception("the rollouts' server could not be started")
            return Served(fault=f"{type(error).__name__}: {error}")
        return Served(
            base_url=served.base_url,
            model=served.model,
            concurrency=self._endpoint.concurrency,
            timeout_s=self._endpoint.total_timeout_s,
        )

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
