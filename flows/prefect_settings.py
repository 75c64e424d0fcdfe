"""Prefect's settings for a run started from the command line; the environment always wins.

Without a server of your own (`PREFECT_API_URL`) Prefect starts a temporary one over its local database, so runs show
up in `prefect server start` afterwards. Telemetry is off, and a fault that ratify explains in one sentence is not
also printed as Prefect's traceback.
"""

from __future__ import annotations

import os

from ratify.safety import TELEMETRY_OFF

SETTINGS = TELEMETRY_OFF | {
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_EVENTS_WORKER_MAX_QUEUE_SIZE": "10000",
}

TEMPORARY = {"PREFECT_CLIENT_MAX_RETRIES": "2"}
"""A temporary server never comes back: a request to a lost one gives up after 6 s instead of 62."""


def apply() -> None:
    """Set what the environment leaves open; call it before Prefect is imported."""
    _set(SETTINGS)


def apply_to_temporary_server() -> None:
    """Likewise for a run that starts a server of its own."""
    _set(TEMPORARY)


def _set(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        os.environ.setdefault(name, value)
