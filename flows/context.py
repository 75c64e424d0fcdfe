"""What a stage is given: the configuration, the run's folder, the round, and where progress is shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ratify.canonical import digest, model_digest
from ratify.config import Config, resolved_json
from ratify.errors import StoreError
from ratify.files import write_text
from ratify.progress import Progress, progress
from ratify.run_store import Manifest, RunStore, StageStore
from ratify.sections import EndpointSection
from ratify.verdict_store import VerdictStore

CONFIG = "config.json"
"""What a run was last run with, in its folder."""


@dataclass(frozen=True)
class RunContext:
    """One round of one run."""

    config: Config
    round_number: int = 0
    show: Callable[[str], AbstractContextManager[Progress]] = field(default=progress)
    """Opens a progress display with a title."""

    @property
    def run(self) -> RunStore:
        """The run's folder."""
        return RunStore(self.config.run_dir)

    def stage(self, name: str) -> StageStore:
        """A stage's folder in this round."""
        return self.run.stage(name, self.round_number)

    def manifest(self, name: str) -> Manifest:
        """The manifest of an earlier stage.

        Raises:
            StoreError: that stage is not finished.
        """
        manifest = self.stage(name).manifest()
        if manifest is None:
            raise StoreError(
                f"stage {name!r} of {self.config.run_dir} is not finished; run it first or use `ratify run`"
            )
        return manifest

    def remember(self) -> None:
        """Keep the configuration in the run's folder, for commands that are given a run alone."""
        path, text = self.config.run_dir / CONFIG, resolved_json(self.config) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)

    def verdict_store(self) -> VerdictStore:
        """The store that the configuration names; `verdicts.sqlite` in the run's folder by default."""
        url = self.config.store.url
        return VerdictStore(url) if url else VerdictStore.in_folder(self.config.run_dir)


def endpoint_identity(endpoint: EndpointSection) -> dict[str, Any]:
    """What makes an endpoint's answers what they are: the weights, or the server's address and the model's name."""
    if endpoint.base_url:
        return {"base_url": endpoint.base_url, "model": endpoint.model}
    return {"model": model_digest(endpoint.model), "dtype": endpoint.engine.dtype}


def files_identity(manifest: Manifest) -> str:
    """Hash of a finished stage's files: what a later stage depends on."""
    return digest(manifest.files)
