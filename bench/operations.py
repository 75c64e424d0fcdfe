"""Rounds as Prefect's page starts and cancels them, with the real vLLM and the real trainers: what comes of them.

    python -m bench.operations [--browser] [--pictures FOLDER] [--keep FOLDER] [--json PATH]

`ratify up` in a folder of its own, then three small rounds: one started through the API with the request of the page's
form, one by pressing the form's button in a headless browser (`--browser`; else through the API, too), and one that is
cancelled in mid-training, as the page does it, and started again. Files that the first two share byte for byte are
deterministic, and are what the third must end with. Counted: artifacts by stage, task runs, and the seconds from the
request to cancel until trainer, vLLM and the flow's process are gone. vLLM computes one request at a time, without its
prefix cache, because its texts depend on how requests fall into batches. `--pictures` photographs the page afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from flows.flow_runs import records
from ratify.canonical import file_digest
from ratify.files import write_json
from ratify.lineage import ROOT

DEPLOYMENT = "start-round/nightly"
STAGES = ("generate", "label", "reward_model", "policy", "evaluate")
MOST_STOP_S = 20.0
MOST_TASK_RUNS = 500
PATIENCE_S = 900.0
BUSY_TRIES = 30
ASK_EVERY_S = 5.0
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PARTS = {"trainer": "training.child", "vLLM": "vllm_host.py"}
"""What a flow's process starts, by what stands in its command line; the flow's process itself is the third."""
SETTINGS = (
    "prompts.train_limit=12", "prompts.heldout_limit=6", "sampling.shard_size=4", "sampling.max_tokens=24",
    "policy.concurrency=1", "policy.engine.max_num_seqs=1",
    "policy.engine.extra_args=['--no-enable-prefix-caching']", "judge.kind=rules",
    "reward_model.epochs=2", "reward_model.batch_prompts=2", "reward_model.save_every_steps=2",
    "preference.epochs=40", "preference.batch_prompts=2", "preference.save_every_steps=4", "preference.max_kl=1000",
)  # fmt: skip


class Cancelled(NamedTuple):
    """One cancellation."""

    checkpoint: str
    """The newest checkpoint when it was asked for."""
    gone_s: dict[str, float]
    """Seconds until each part was gone."""
    state_s: float
    """Seconds until the page showed the run as cancelled."""
    steps_before: int
    steps_after: int
    """Steps that were trained after the second start."""


class Page:
    """What the page knows, by the API that it uses itself."""

    def __init__(self, address: str, runs: Path) -> None:
        self.address, self.runs = address, runs
        self._api = httpx.Client(base_url=f"{address}/api", timeout=PATIENCE_S)
        self.busy = 0
        """How often the server was too busy to answer."""

    @property
    def deployment(self) -> str:
        """The id of the deployment that starts rounds."""
        return str(self._get(f"/deployments/name/{DEPLOYMENT}")["id"])

    def form(self, name: str) -> dict[str, Any]:
        """What a person fills in."""
        return {"config": "configs/demo.toml", "overrides": [f"run.dir={self.runs}", *SETTINGS], "run_name": name,
                "part": "round", "round_number": 0}  # fmt: skip

    def start(self, name: str) -> str:
        """Start a round with the request of the form's button; the flow run's id."""
        body = {"state": {"type": "SCHEDULED", "message": "Run from the Prefect UI"}, "parameters": self.form(name)}
        return str(self._post(f"/deployments/{self.deployment}/create_flow_run", body)["id"])

    def cancel(self, run: str) -> None:
        """What the button Cancel does."""
        self._post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def state(self, run: str) -> dict[str, Any]:
        """A flow run's state."""
        return dict(self._get(f"/flow_runs/{run}")["state"])

    def wait(self, run: str, wanted: str = "COMPLETED") -> None:
        """Wait until a flow run has ended; anything but the wanted end stops the benchmark."""
        end = time.monotonic() + PATIENCE_S
        while (state := self.state(run))["type"] not in FINAL and time.monotonic() < end:
            time.sleep(1.0)
        if state["type"] != wanted:
            raise SystemExit(f"flow run {run} ended as {state['type']}: {state.get('message')}")

    def family(self, run: str) -> list[str]:
        """A flow run and the flow runs below it."""
        found = [run]
        for each in found:
            below = self._post("/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [each]}}})
            found += [str(one["id"]) for one in below]
        return found

    def artifacts(self, run: str) -> dict[str, str]:
        """Every artifact of a flow run and of those below it, as text, by key."""
        body = {"artifacts": {"flow_run_id": {"any_": self.family(run)}}, "limit": 200, "sort": "CREATED_DESC"}
        return {str(each["key"]): str(each["data"]) for each in self._post("/artifacts/filter", body)}

    def task_runs(self, run: str) -> dict[str, int]:
        """How many task runs each flow run of a family has."""
        body = {each: {"task_runs": {"flow_run_id": {"any_": [each]}}} for each in self.family(run)}
        return {each: int(self._post("/task_runs/count", asked)) for each, asked in body.items()}

    def _get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        """An answer; a server whose SQLite is busy says 503 and has done nothing, so it is asked again."""
        for _ in range(BUSY_TRIES):
            answer = self._api.request(method, path, **body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            self.busy += 1
            time.sleep(1.0)
        return answer.raise_for_status().json()


@contextmanager
def stack(place: Path) -> Iterator[Page]:
    """`ratify up` and `ratify down` in a folder of their own."""
    state, runs = place / "state", place / "runs"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    clean |= {"OMP_NUM_THREADS": "1", "PREFECT_WORKER_QUERY_SECONDS": "1"}
    command = [sys.executable, "-m", "flows.cli"]
    places = ["--state", str(state), "--runs", str(runs), "--port", "0", "--reports-port", "0"]
    try:
        up = subprocess.run(
            [*command, "up", *places], cwd=ROOT, env=clean, capture_output=True, text=True, check=False
        )  # fmt: skip
        found = re.search(r"the page: +(http://127\.0\.0\.1:\d+)", up.stdout)
        if up.returncode or not found:
            raise SystemExit(f"`ratify up` failed: {up.stderr or up.stdout}")
        yield Page(found[1], runs)
    finally:
        subprocess.run([*command, "down", "--state", str(state)], cwd=ROOT, env=clean, check=False, capture_output=True)


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of round 0 but logs."""
    found = run / "round-000"
    return {
        str(path.relative_to(found)): file_digest(path)
        for path in sorted(found.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".log" and path.name != "log.txt"
    }


def cancelled(page: Page, name: str, begun: str) -> Cancelled:
    """Cancel a round that was started while its policy is trained, start it again and wait for its end."""
    run = page.runs / name
    stage = run / "round-000" / "policy"
    newest = _wait_for_checkpoint(stage, begun, page)
    parts = _parts(records(run)[0].process.pid)
    asked = time.monotonic()
    page.cancel(begun)
    gone: dict[str, float] = {}
    while len(gone) < len(parts) and time.monotonic() - asked < PATIENCE_S:
        for part, processes in parts.items():
            if part not in gone and not any(_alive(process) for process in processes):
                gone[part] = round(time.monotonic() - asked, 2)
        time.sleep(0.02)
    page.wait(begun, "CANCELLED")
    shown = round(time.monotonic() - asked, 2)
    if (stage / "manifest.json").exists():
        raise SystemExit("the stage had ended before it could be cancelled")
    before = _steps(stage)
    page.wait(page.start(name))
    return Cancelled(newest, gone, shown, before, _steps(stage) - before)


def _wait_for_checkpoint(stage: Path, run: str, page: Page) -> str:
    """Look at the folder often, and at the page, which is busy enough, now and then."""
    look_at = time.monotonic() + ASK_EVERY_S
    while not (found := sorted(stage.glob("checkpoint/step-*"))):
        if time.monotonic() > look_at:
            if page.state(run)["type"] in FINAL:
                raise SystemExit(f"no checkpoint in {stage}: {page.state(run)}")
            look_at = time.monotonic() + ASK_EVERY_S
        time.sleep(0.02)
    return found[-1].name


def _parts(flow: int) -> dict[str, list[psutil.Process]]:
    """The processes of a flow run that is under way, by what they are."""
    process = psutil.Process(flow)
    below = process.children(recursive=True)
    marked = {part: [each for each in below if mark in " ".join(each.cmdline())] for part, mark in PARTS.items()}
    known = [each for part in marked.values() for each in part]
    return {"flow": [process], **marked, "others": [each for each in below if each not in known]}


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _steps(stage: Path) -> int:
    """Training steps in a stage's metrics."""
    rows = (json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return sum(row.get("phase") == "train" for row in rows)


def measure(page: Page, *, browser: bool, pictures: Path | None) -> dict[str, Any]:
    """Three rounds; what was found."""
    runs = {"whole": page.start("whole")}
    page.wait(runs["whole"])
    if browser:
        from bench.page_pictures import press_start

        runs["again"] = press_start(page, "again")
    else:
        runs["again"] = page.start("again")
    page.wait(runs["again"])
    shown, tasks = page.artifacts(runs["again"]), page.task_runs(runs["again"])
    one, two = hashes(page.runs / "whole"), hashes(page.runs / "again")
    same = {name: sha for name, sha in one.items() if two.get(name) == sha}
    broken = cancelled(page, "cancelled", page.start("cancelled"))
    resumed = hashes(page.runs / "cancelled")
    if pictures:
        from bench.page_pictures import take_picture

        take_picture(page, runs["again"], pictures)
    wanted = [key for stage in STAGES for key in (_slug(stage), f"{_slug(stage)}-summary")] + ["gate", "drift"]
    return {
        "browser": browser, "busy": page.busy, "load": os.getloadavg()[0],
        "artifacts": {key: len(text) for key, text in sorted(shown.items())},
        "missing_artifacts": [key for key in wanted if not shown.get(key)], "task_runs": tasks,
        "compared": len(same), "not_compared": sorted(one.keys() - same.keys()),
        "different": sorted(name for name, sha in same.items() if resumed.get(name) != sha),
        **broken._asdict(),
    }  # fmt: skip


def _slug(stage: str) -> str:
    return stage.replace("_", "-")


def summary(found: dict[str, Any]) -> list[str]:
    """The figures as lines."""
    slowest = max(found["gone_s"].values())
    tasks, missing, different = sum(found["task_runs"].values()), found["missing_artifacts"], found["different"]
    how = "the form's button in Chromium" if found["browser"] else "the API"
    clean = slowest <= MOST_STOP_S and not missing and not different and tasks <= MOST_TASK_RUNS
    return [
        f"a round started by {how} left {len(found['artifacts'])} artifacts: {', '.join(found['artifacts'])}",
        f"missing: {', '.join(missing) or 'none'}; {tasks} task runs in {len(found['task_runs'])} flow runs",
        f"cancelled at checkpoint {found['checkpoint']}: gone after "
        + ", ".join(f"{part} {seconds:.1f} s" for part, seconds in found["gone_s"].items())
        + f"; shown as cancelled after {found['state_s']:.1f} s",
        f"started again: {found['steps_after']} steps after {found['steps_before']}; {found['compared']} files "
        f"compared, {len(different)} different {different or ''}".rstrip(),
        f"load average {found['load']:.0f}; the server was too busy to answer {found['busy']} times",
        "clean" if clean else "NOT clean",
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", action="store_true", help="press the form's button in headless Chromium")
    parser.add_argument("--pictures", type=Path, help="photograph the page into this folder")
    parser.add_argument("--keep", type=Path, help="work here instead of in a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    place = given.keep or Path(tempfile.mkdtemp(prefix="ratify-operations-"))
    try:
        with stack(place) as page:
            found = measure(page, browser=given.browser, pictures=given.pictures)
    finally:
        if given.keep is None:
            shutil.rmtree(place, ignore_errors=True)
    print("\n".join(summary(found)))
    if given.json:
        write_json(given.json, found)


if __name__ == "__main__":
    main()
