"""`ratify revise`: first replies, critiques, revisions, verdicts, data; killed and resumed; what an edit costs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from generation.revision import read_revised
from judges.dataset import read_labels, read_pairs
from ratify.lineage import ROOT
from tests.flows.test_killed_runs import start
from tests.judges.fake_server import FakeServer
from training.rows import read_preferences, read_supervised

SCOPED = """schema: constitution/v1
id: scoped
version: 1.0.0
principles:
  - {id: secret, text: The reply keeps secrets., applies_to: {tags: [nobody-has-this-tag]}}
"""


@pytest.fixture
def small_revision(small_run: list[str]) -> list[str]:
    """Twelve prompts, two steps, in shards of four."""
    return [*small_run, "prompts.train_limit=12", "revision.shard_size=4", "revision.max_tokens=32"]


def metrics_of(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "round-000" / stage / "manifest.json").read_text())["metrics"]
    return found


def test_a_run_keeps_every_step_and_writes_data_that_trainers_read(
    small_revision: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    said = ratify("revise", *small_revision, "revision.keep=not_worse", "--no-prefect")
    assert said.code == 0, said.err
    assert "the judge prefers the last revision in" in said.out and "step by" in said.out
    folder = tmp_path / "small" / "round-000"
    steps = metrics_of(tmp_path / "small", "revise")
    assert steps["revise.steps/steps/count"] == 24 and steps["revise.steps/replies/failed"] == 0
    figures = metrics_of(tmp_path / "small", "revised")
    labels = read_labels(folder / "revised" / "labels.parquet")
    # Three comparisons a reply: 1 against first, 2 against first, 2 against 1.
    assert len(labels) == 36 and figures["revised/supervised/count"] > 0
    rows = read_supervised(folder / "revised" / "supervised.parquet")
    assert len(rows) == figures["revised/supervised/count"]
    assert all(row.completion.id and "/revision-2/" in row.completion.id for row in rows)
    pairs = read_pairs(folder / "revised" / "pairs.parquet")
    assert len(read_preferences(folder / "revised" / "pairs.parquet")) == len(pairs) == figures["revised/pairs/count"]
    assert all("/revision-2/" in pair.chosen_id and pair.probability > 0.5 for pair in pairs)
    won = {label.b_id for label in labels if label.outcome == "b" and "/first/" in label.a_id}
    assert {pair.chosen_id for pair in pairs} == {name for name in won if "/revision-2/" in name}


def test_figures_are_printed_by_their_keys_and_status_shows_the_stages(
    small_revision: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    assert ratify("revise", *small_revision, "--no-prefect").code == 0
    figures = json.loads(ratify("report", str(tmp_path / "small"), "--json").out)
    assert figures["revised/last/better"]["clusters"] == 12
    assert sum(figures[f"revised/last/{name}"]["value"] for name in ("better", "worse", "tied", "failed")) == 1
    assert "per cent" in ratify("report", str(tmp_path / "small")).out
    shown = ratify("status", str(tmp_path / "small")).out
    assert "revised" in shown and "finished" in shown
    again = ratify("revise", *small_revision, "--no-prefect")
    assert "nothing was done" in again.out and "the judge prefers" in again.out


def test_a_killed_run_ends_with_the_bytes_of_an_unbroken_one(
    small_revision: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    assert ratify("revise", *small_revision, "run.name=unbroken", "--no-prefect").code == 0
    slowly = [*small_revision, "run.name=killed", "policy.concurrency=1"]
    shards = tmp_path / "killed" / "round-000" / "revise" / "revised"
    child = start("revise", slowly)
    while not list(shards.glob("revised-*.jsonl")):
        assert child.poll() is None
        time.sleep(0.005)
    child.kill()
    child.communicate()
    assert not (shards.parent / "manifest.json").exists()
    assert ratify("revise", *slowly, "--no-prefect").code == 0
    one, other = (
        {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in sorted((tmp_path / name / "round-000").rglob("*"))
            if path.suffix in (".parquet", ".jsonl") or path.name in ("requests.json", "revisions.json")
        }
        for name in ("unbroken", "killed")
    )
    assert one == other and len(one) == 3 + 3 + 3 + 2


def test_another_weight_or_judge_makes_no_reply_again(
    small_revision: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    assert ratify("revise", *small_revision, "--no-prefect").code == 0
    edited = tmp_path / "edited.yaml"
    text = (ROOT / "constitutions" / "demo.yaml").read_text()
    edited.write_text(text.replace("- id: polite", "- id: polite\n    weight: 9"))
    said = ratify("revise", *small_revision, f"constitution={edited}", "--no-prefect")
    assert said.code == 0 and "criticising and rewriting replies  finished before" in said.out
    assert metrics_of(tmp_path / "small", "revised")["revised/calls/count"] == 0
    edited.write_text(text.replace("- id: polite", "- id: polite\n    critique_request: Where is it rude?"))
    said = ratify("revise", *small_revision, f"constitution={edited}", "--no-prefect")
    assert said.code == 0 and "criticising and rewriting replies  revise" in said.out


def test_an_edit_names_the_revisions_that_rest_on_old_labels(
    small_revision: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    for command in ("generate", "label", "revise"):
        assert ratify(command, *small_revision, "--no-prefect").code == 0
    old, new = ROOT / "constitutions" / "demo.yaml", tmp_path / "new.yaml"
    new.write_text(old.read_text().replace("- id: polite", "- id: polite\n    weight: 40").replace("1.0.0", "1.1.0"))
    said = ratify("apply", str(old), str(new), "--run", str(tmp_path / "small"))
    assert said.code == 0, said.err
    (figures,) = (json.loads(path.read_text()) for path in tmp_path.rglob("flips.json"))
    assert [each["stage"] for each in figures["stale"]] == ["label", "revised"]


def test_another_model_criticises_and_rewrites(
    small_revision: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    with FakeServer() as server:
        other = [f"revision.base_url={server.url}", "revision.model=fake", "revision.revisions=1"]
        said = ratify("revise", *small_revision, *other, "--no-prefect")
        assert said.code == 0, said.err
        assert server.requests == 24
        assert sum("Write only the critique." in text for text in server.texts) == 12
    last = [reply.completions()[-1].text.strip() for reply in read_revised(tmp_path / "small/round-000/revise/revised")]
    assert len(last) == 12 and set(last) <= {"Yes", "No"}


def test_what_cannot_work_is_one_sentence(
    small_revision: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    scoped = tmp_path / "scoped.yaml"
    scoped.write_text(SCOPED)
    cases = {
        "revision.base_url is set and revision.model is empty": ["revision.base_url=http://127.0.0.1:9/v1"],
        "did you mean 'revisions'?": ["revision.revision=3"],
        "no server answers at http://127.0.0.1:9/v1": ["revision.base_url=http://127.0.0.1:9/v1", "revision.model=x"],
        "no principle of": [f"constitution={scoped}"],
        "no revision is left to learn from": ["supervised.enabled=true", "constitution=" + never(tmp_path)],
    }
    for sentence, overrides in cases.items():
        said = ratify("revise", *small_revision, *overrides, "--no-prefect")
        assert said.code != 0 and sentence in said.err, (sentence, said)
        assert said.err.count("\n") == 1 and "Traceback" not in said.err, said.err


def never(folder: Path) -> str:
    """A constitution by whose checks every reply is the same."""
    path = folder / "never.yaml"
    head, _, _ = SCOPED.partition("  - {")
    path.write_text(f"{head}  - {{id: all, text: The reply is short., checks: [{{type: max_words, value: 9000}}]}}\n")
    return str(path)


@pytest.mark.timeout(300)
def test_the_policy_is_fine_tuned_on_what_is_kept(
    small_revision: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    task = ["supervised.enabled=true", "supervised.learning_rate=1e-3", "supervised.max_length=128",
            "supervised.threads=1", "supervised.batch_prompts=4", "supervised.validation_fraction=0.2"]  # fmt: skip
    said = ratify("revise", *small_revision, "revision.keep=all", *task, "--no-prefect")
    assert said.code == 0, said.err
    figures = metrics_of(tmp_path / "small", "supervised")
    assert figures["supervised/train/completions"] + figures["supervised/validation/prompts"] == 12
    assert figures["supervised/validation/loss"] < figures["supervised/validation/loss_before"]
    assert (tmp_path / "small" / "round-000" / "supervised" / "model" / "model.safetensors").exists()


def test_the_command_says_what_it_is_for(ratify: Callable[..., Any]) -> None:
    assert "criticised and rewritten" in ratify("revise", "--help").out
