"""Settings of every training task that say where it runs; they move no fingerprint, for they decide no outcome."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ratify.endpoint_sections import Section


class DeviceSection(Section):
    """Processes, threads, time."""

    processes: int = Field(default=1, gt=0)
    """More than one goes through `accelerate launch`."""
    accelerate_config: Path | None = Field(default=None, exclude_if=lambda path: path is None)
    """File for `accelerate launch`, such as those in configs/accelerate; it names the processes: leave those at 1."""
    threads: int | None = Field(default=None, gt=0)
    """CPU only: torch threads; None leaves it to torch."""
    time_limit_s: float | None = Field(default=None, gt=0, exclude_if=lambda limit: limit is None)
    """Stop the training process after so many seconds; it resumes from its checkpoint. None sets no limit."""
