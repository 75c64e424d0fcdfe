"""One whole round for real: the shipped models, the real vLLM, Prefect with its own temporary server, training,
report."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ratify.lineage import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.vllm, pytest.mark.timeout(900)]

Finished = tuple[Path, list[str], subprocess.CompletedProcess[str]]
"""The run's folder, the command's arguments, and what it said."""

OVERRIDES = [
    "run.name=small", "prompts.train_limit=24", "prompts.heldout_limit=16", "sampling.completions_per_prompt=3",
    "evaluation.completions_per_prompt=1", "evaluation.bootstrap_draws=200", "preference.epochs=1",
    "suites.capability=data/demo/capability.jsonl", "suites.sycophancy=data/demo/sycophancy.jsonl",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("runs")
    arguments = ["run", "configs/demo.toml", f"run.dir={folder}", *OVERRIDES]
    environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": ""}
    said = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return folder / "small", arguments, said


def test_a_round_ends_with_a_report(finished_run: Finished) -> None:
    run, _, said = finished_run
    assert said.returncode == 0, said.stdout + said.stderr
    assert "Traceback" not in said.stderr
    report = json.loads((run / "round-000" / "evaluate" / "report.json").read_text())
    for key in ("evaluate/win_rate.all/rate", "evaluate/kl/k3_per_reply", "evaluate/compliance.all/difference"):
        assert report["metrics"][key]["n"] > 0
    for side in ("old", "new"):
        assert report["metrics"][f"evaluate/capability.all/{side}"]["n"] == 100
        assert report["metrics"][f"evaluate/capability.facts/{side}"]["value"] > 0.5, "no reply comes from elsewhere"
        assert report["metrics"][f"evaluate/sycophancy.all/{side}"]["clusters"] == 100
    html = (run / "round-000" / "evaluate" / "report.html").read_text()
    assert "<svg" in html and "http://" not in html.replace("http://www.w3.org", "")


def test_the_same_command_does_nothing_again(finished_run: Finished, ratify: Callable[..., object]) -> None:
    run, arguments, _ = finished_run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    said = ratify(*arguments)
    assert said.code == 0 and "nothing was done" in said.out
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


def test_every_figure_is_printed_by_its_key(finished_run: Finished, ratify: Callable[..., object]) -> None:
    figures = json.loads(ratify("report", str(finished_run[0]), "--json").out)
    assert figures["evaluate/win_rate.all/rate"]["value"] >= 0


def test_no_server_outlives_the_run(finished_run: Finished) -> None:
    assert finished_run[2].returncode == 0
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(finished_run[0]) not in listed


def test_one_edited_principle_is_judged_again_and_no_other(
    finished_run: Finished, tmp_path: Path, ratify: Callable[..., object]
) -> None:
    run, arguments, _ = finished_run
    text = (ROOT / "constitutions" / "demo.yaml").read_text()
    edited = tmp_path / "edited.yaml"
    edited.write_text(text.replace("The reply is polite and respectful.", "The reply is courteous and kind."))
    said = ratify("label", *arguments[1:], f"constitution={edited}", "--no-prefect")
    assert said.code == 0, said.err
    metrics = json.loads((run / "round-000" / "label" / "manifest.json").read_text())["metrics"]
    assert metrics["label/calls/count"] * 4 == metrics["label/verdicts/reused"]
