"""What docs/security.md promises: loopback only, no code from models, no names that leave a folder, no telemetry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows import prefect_settings, temporary_server
from flows.editor import guard
from generation.engine import server_args
from generation.host import QUIET
from ratify.errors import ConfigError
from ratify.safety import TELEMETRY_OFF, is_loopback, switch_telemetry_off
from ratify.sections import PolicySection, PreferenceSection
from training.launch import child_environment
from training.spec import PreferenceTask


def test_every_server_that_a_run_starts_listens_on_the_loopback_address() -> None:
    arguments = server_args(PolicySection(model="data/demo/policy"), 1234)
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1" and "--trust-remote-code" not in arguments
    assert is_loopback(temporary_server.HOST) and all(is_loopback(host) for host in guard.HOSTS)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("192.168.1.5", False), ("example.org", False), ("127.0.0.1.example.org", False)],
)  # fmt: skip
def test_addresses_that_others_reach_are_told_apart(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("flag", ["--trust-remote-code", "--trust_remote_code", "--trust-remote-code=true"])
def test_code_of_a_model_needs_its_own_setting(flag: str, ratify: Callable[..., object]) -> None:
    said = ratify("run", "configs/demo.toml", f"policy.engine.extra_args=['{flag}']", "--dry-run")
    assert said.code == ConfigError.exit_code and "engine.trust_remote_code = true" in said.err


@pytest.mark.parametrize("name", ["../other", "a/b", "/tmp/x", "..", ".hidden", ""])
def test_a_run_cannot_leave_its_folder_by_name(name: str, ratify: Callable[..., object]) -> None:
    said = ratify("run", "configs/demo.toml", f"run.name='{name}'", "--dry-run")
    assert said.code == ConfigError.exit_code and "run.name" in said.err and said.err.count("\n") == 1


def test_no_child_process_reports_to_anyone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    task = PreferenceTask(data=Path("d"), out=Path("o"), model="m", section=PreferenceSection())
    for environment in (QUIET, child_environment(task), prefect_settings.SETTINGS):
        assert TELEMETRY_OFF.items() <= environment.items()
    mine: dict[str, str] = {"DO_NOT_TRACK": "0"}
    switch_telemetry_off(mine)
    assert mine == TELEMETRY_OFF | {"DO_NOT_TRACK": "0"}
