"""Labelling in parts, by processes that run at once, gives the files of one process and asks nothing twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.chat_server import counts, serving
from flows.stages.label_part import belongs
from ratify.errors import ConfigError
from ratify.lineage import ROOT
from ratify.run_store import RunStore

PARTS = 3


def test_parts_that_run_at_once_give_the_labels_of_one_process(
    small_run: list[str], tmp_path: Path, ratify: Callable[..., object]
) -> None:
    with serving("--latency", "0.002") as url:
        judge = ["judge.kind=model", "judge.model=fake", "judge.protocol=pairwise", f"judge.base_url={url}/v1",
                 "judge.max_same_position=1.0", "prompts.train_limit=12", "labels.pairs_per_prompt=2"]  # fmt: skip
        for name in ("one", "parts"):
            assert ratify("generate", *small_run, *judge, f"run.name={name}", "--no-prefect").code == 0
        assert ratify("label", *small_run, *judge, "run.name=one", "--no-prefect").code == 0
        alone = counts(url)
        command = [sys.executable, "-m", "flows.cli", "label-part", *small_run, *judge, "run.name=parts"]
        children = [
            subprocess.Popen(
                [*command, "--part", str(part), "--of", str(PARTS)],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for part in range(PARTS)
        ]  # fmt: skip
        said = [child.communicate(timeout=200)[0] for child in children]
        assert [child.returncode for child in children] == [0] * PARTS, said
        before = counts(url)["requests"]
        assert ratify("label", *small_run, *judge, "run.name=parts", "--no-prefect").code == 0
        assert counts(url)["requests"] == before, "the stage asks nobody"
        # Each part looks once at what the judge can do, as the one process did.
        probes = alone["requests"] - RunStore(tmp_path / "one").stage("label").manifest().metrics["label/calls/count"]
        assert before - alone["requests"] == alone["requests"] - probes + PARTS * probes
    one, parts = (RunStore(tmp_path / name).stage("label") for name in ("one", "parts"))
    assert parts.manifest().metrics["label/calls/count"] == 0
    for file in ("labels.parquet", "pairs.parquet"):
        assert (one.path / file).read_bytes() == (parts.path / file).read_bytes()


def test_every_question_belongs_to_exactly_one_part() -> None:
    keys = [f"{number * 7919:064x}"[::-1] for number in range(500)]
    owners = [[part for part in range(7) if belongs(key, part, 7)] for key in keys]
    assert all(len(each) == 1 for each in owners) and len({each[0] for each in owners}) == 7


def test_what_cannot_be_judged_in_parts_is_refused(small_run: list[str], ratify: Callable[..., object]) -> None:
    for more, sentence in (
        (["--part", "3", "--of", "3"], "counted from 0 to 2"),
        (["--of", "3"], "JOB_COMPLETION_INDEX"),
        (["budget.requests=5", "--part", "0", "--of", "2"], "keeps no [budget]"),
    ):
        said = ratify("label-part", *small_run, *more)
        assert said.code == ConfigError.exit_code and sentence in said.err
