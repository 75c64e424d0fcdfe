"""Labelling on a Ray cluster of two nodes gives the files of one process, also when a worker or a node is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.chat_server import counts, serving
from flows.context import RunContext
from flows.stages.ray_node import Answer, Order, judged
from flows.stages.ray_parts import check_store, fault_of
from ratify.config import load_config, resolved_json
from ratify.errors import BudgetError, ConfigError, InputError, RatifyError, SchedulerError
from ratify.lineage import ROOT
from ratify.run_store import RunStore

pytestmark = pytest.mark.timeout(900)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


DIED = "its worker or its node died"


class Cluster(NamedTuple):
    process: subprocess.Popen[str]
    address: str
    nodes: list[str]
    raylets: list[int]

    def judging(self, raylet: int) -> list[int]:
        """Workers of a node that have a part."""
        threads = Path(f"/proc/{raylet}/task").glob("*/children")
        workers = [int(pid) for each in threads for pid in read(each).split()]
        return [pid for pid in workers if b"part " in read(Path(f"/proc/{pid}/cmdline"))]


def read(path: Path) -> bytes:
    """Of a process that may have ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets lie in it, and their paths are short
    process, told = None, ""
    for attempt in range(3):  # Ray gives its own processes little time to start
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "ray_cluster.py"), f"{folder}/{attempt}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT,
        )  # fmt: skip
        assert process.stdin and process.stdout
        told = process.stdout.readline()
        if told:
            break
        end(process)
    try:
        yield Cluster(process, **json.loads(told))
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdin and process.stdout
    process.stdin.close()
    process.wait(120)
    process.stdout.close()


def judge_in_parts(
    arguments: list[str], cluster: Cluster, of: int, when: Callable[[], list[int]], then: Callable[[int], object]
) -> str:
    """What `ratify label-parts` says, where `then` is done to the first process that `when` finds."""
    child = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "label-parts", *arguments, "--of", str(of), "--ray", cluster.address],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    found: list[int] = []
    while child.poll() is None and not found:
        time.sleep(0.02)
        found = when()
    if found:
        then(found[0])
    said, _ = child.communicate()
    assert child.returncode == 0 and found, said
    return said


def ended_on(said: str) -> dict[int, str]:
    """The first digits of the node that each part was ended on."""
    return {int(part): node for part, node in re.findall(r"part (\d+) of \d+: .* verdicts on .* \(node (\w+)\)", said)}


@pytest.mark.slow
def test_two_nodes_give_the_labels_of_one_process_whatever_dies(
    small_run: list[str], tmp_path: Path, ratify: Callable[..., object], cluster: Cluster
) -> None:
    with serving("--latency", "0.07") as url:
        judge = [*small_run, "judge.kind=model", "judge.model=fake", "judge.protocol=pairwise",
                 f"judge.base_url={url}/v1", "judge.max_same_position=1.0", "prompts.train_limit=12",
                 "labels.pairs_per_prompt=2"]  # fmt: skip
        assert ratify("generate", *judge, "run.name=one", "--no-prefect").code == 0
        for name in ("worker", "node"):
            shutil.copytree(tmp_path / "one", tmp_path / name)
        assert ratify("label", *judge, "run.name=one", "--no-prefect").code == 0
        alone = counts(url)["requests"]

        slow = [*judge, "judge.concurrency=1"]
        said = judge_in_parts(
            [*slow, "run.name=worker", "--no-prefect"], cluster, 4,
            lambda: cluster.judging(cluster.raylets[0]) if counts(url)["requests"] > alone + 5 else [],
            lambda worker: os.kill(worker, signal.SIGKILL),
        )  # fmt: skip
        assert DIED in said and set(ended_on(said)) == set(range(4))
        assert set(ended_on(said).values()) == {node[:8] for node in cluster.nodes}

        home = tmp_path / "prefect"
        ENVIRONMENT.update(PREFECT_HOME=str(home), PREFECT_API_URL="")
        said = judge_in_parts(
            [*slow, "run.name=node"], cluster, 2,
            lambda: cluster.judging(cluster.raylets[1]),
            lambda _worker: print("kill", file=cluster.process.stdin, flush=True),
        )  # fmt: skip
        assert DIED in said and ended_on(said) == dict.fromkeys(range(2), cluster.nodes[0][:8])
        with sqlite3.connect(home / "prefect.db") as database:
            tasks = database.execute("SELECT name, state_type FROM task_run ORDER BY name").fetchall()
        assert tasks == [("part 0 of 2", "COMPLETED"), ("part 1 of 2", "COMPLETED")]

        asked = counts(url)["requests"]
        for name in ("worker", "node"):
            assert ratify("label", *judge, f"run.name={name}", "--no-prefect").code == 0
        assert counts(url)["requests"] == asked, "the stage asks nobody"
    one, *others = (RunStore(tmp_path / name).stage("label").path for name in ("one", "worker", "node"))
    for other in others:
        for file in ("labels.parquet", "pairs.parquet"):
            assert (one / file).read_bytes() == (other / file).read_bytes()


def test_what_cannot_be_judged_on_a_cluster_is_one_sentence(
    small_run: list[str], ratify: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ratify("generate", *small_run, "--no-prefect").code == 0

    def refusal(*more: str) -> tuple[int, str]:
        said = ratify("label-parts", *small_run, "--of", "2", "--no-prefect", *more)
        assert said.err.count("\n") == 1
        return said.code, said.err

    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    with serving() as url:
        for more, kind, sentence in (
            (["--ray", nobody], SchedulerError, f"no Ray cluster answers at {nobody}: "),
            (["--ray", url.removeprefix("http://")], SchedulerError, "what listens there is not Ray"),
            (["--ray", "ray://head:10001"], ConfigError, "is not of the form HOST:PORT"),
            (["--ray", nobody, "judge.kind=model"], ConfigError, "set judge.base_url"),
            (["--ray", nobody, "budget.requests=5"], ConfigError, "keeps no [budget]"),
            (["--ray", nobody, "--of", "501"], ConfigError, "not between 1 and 500"),
        ):
            code, said = refusal(*more)
            assert code == kind.exit_code and sentence in said
    monkeypatch.setitem(sys.modules, "ray", None)
    code, said = refusal("--ray", nobody)
    assert code == ConfigError.exit_code and "Ray is not installed" in said


def test_a_sqlite_store_is_for_the_nodes_of_one_machine() -> None:
    for url in (None, "sqlite:////shared/verdicts.sqlite"):
        check_store(url, ["a", "a"], here="a")
        with pytest.raises(ConfigError, match="SQLite file, which b, c of the Ray cluster cannot share"):
            check_store(url, ["a", "c", "b"], here="a")
    check_store("postgresql+psycopg://ratify@db/ratify", ["a", "b"], here="a")


def test_a_node_with_other_files_judges_nothing(small_run: list[str], ratify: Callable[..., object]) -> None:
    assert ratify("generate", *small_run, "--no-prefect").code == 0
    context = RunContext(load_config(Path(small_run[0]), small_run[1:]))
    order = Order(
        config=resolved_json(context.config), folder=str(ROOT), inputs="another", board="none",
        round_number=0, part=0, parts=2,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"are not those of the machine that began the parts.*ratify pull"):
        judged(order)
    with pytest.raises(InputError, match="there is no folder /nowhere"):
        judged(order.model_copy(update={"folder": "/nowhere"}))
    assert context.verdict_store().count() == 0


def test_a_fault_of_a_node_keeps_its_kind_and_names_the_node() -> None:
    told = Answer(part=1, node="0123456789abcdef", host="node-b", kind="BudgetError", message="too many failed")
    assert type(fault_of(told)) is BudgetError and str(fault_of(told)) == "on node-b (node 01234567): too many failed"
    assert type(fault_of(told.model_copy(update={"kind": "ROOT"}))) is RatifyError
