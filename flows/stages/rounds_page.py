"""The page and the figures across a run's rounds."""

from __future__ import annotations

from ratify.config import Config


def write_rounds_page(config: Config) -> None:
    """Write `rounds.json` and `rounds.html` into the run's folder."""
