import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from flows import cli
from ratify.lineage import ROOT


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ratify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line in this process."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["ratify", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def fake_policy_url() -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "fake_policy.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin and server.stdout
    yield json.loads(server.stdout.readline())["base_url"]
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


@pytest.fixture(scope="session")
def labelled_run(tmp_path_factory: pytest.TempPathFactory, fake_policy_url: str) -> Path:
    """The folder of a run whose candidates and labels are made; tests only read it."""
    folder = tmp_path_factory.mktemp("runs")
    arguments = [
        "configs/demo.toml", f"run.dir={folder}", "run.name=labelled", "prompts.train_limit=20",
        "prompts.heldout_limit=4", "policy.concurrency=8", f"policy.base_url={fake_policy_url}",
        "policy.model=fake-policy", "policy.train_from=data/demo/policy", "judge.kind=rules",
    ]  # fmt: skip
    for stage in ("generate", "label"):
        command = [sys.executable, "-m", "flows.cli", stage, *arguments, "--no-prefect"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder / "labelled"


@pytest.fixture
def small_run(tmp_path: Path, fake_policy_url: str) -> list[str]:
    """Arguments of a run that samples from the fake policy and labels by rules."""
    return [
        "configs/demo.toml", f"run.dir={tmp_path}", "run.name=small", "prompts.train_limit=40",
        "prompts.heldout_limit=10", "sampling.shard_size=4", "policy.concurrency=8",
        f"policy.base_url={fake_policy_url}",
        "policy.model=fake-policy", "policy.train_from=data/demo/policy", "judge.kind=rules",
    ]  # fmt: skip
