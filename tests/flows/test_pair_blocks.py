"""Labelling block by block: whatever the size of blocks and of row groups, the files are those of one whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.context import RunContext
from flows.stages import generate
from flows.stages.canaries import CALIBRATOR
from flows.stages.judging import collect, constitution_of, make_judge
from flows.stages.label import training_blocks
from flows.stages.pair_blocks import Block, Sheets
from flows.stages.relabel import context_of
from judges.assignment import cover
from judges.gold_calibration import calibrated, read_calibrators
from judges.label_table import write_label_table
from judges.labels import label_pairs
from judges.model_judge import ModelJudge
from judges.pairs import draw_pairs
from judges.preference_table import write_preferences
from judges.questions import write_questions
from ratify.sections import JudgeSection
from tests.judges.worlds import constitution, many, pair, prompt

RUN = Callable[..., Any]


def whole(context: RunContext, folder: Path) -> tuple[bytes, bytes]:
    """Both tables by the path that holds everything, from the verdicts that are stored."""
    config, rules, judge = context.config, constitution_of(context), make_judge(context)
    prompts = {prompt.id: prompt for prompt in generate.training_prompts(context)}
    pairs = draw_pairs(generate.training_completions(context), config.labels.pairs_per_prompt, config.run.seed).pairs
    coverage = cover(prompts, pairs, rules.active, judge, config.labels.principles_per_pair or 0)
    sheet = write_questions(prompts, pairs, rules.active, judge, coverage.open)
    store = context.verdict_store()
    found = asyncio.run(collect(context, sheet.questions, store, folder / "log"))
    store.close()
    verdicts, calibrator = found.verdicts, context.stage("label").path / CALIBRATOR
    if calibrator.exists():
        verdicts = dict(calibrated(verdicts, read_calibrators(calibrator), rules))
    labelled = label_pairs(sheet, verdicts, found.failures, rules, judge.protocol, decided=coverage.decided)
    lineage = context.manifest("label").lineage["constitution"]
    write_label_table(folder / "labels.parquet", labelled)
    write_preferences(folder / "pairs.parquet", labelled, prompts, lineage)
    return (folder / "labels.parquet").read_bytes(), (folder / "pairs.parquet").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        ["judge.protocol=pointwise", "gold.canaries=60", "gold.calibrate=temperature"],
        ["judge.protocol=pairwise", "labels.pairs_per_prompt=2", "labels.principles_per_pair=2"],
    ],
    ids=["calibrated", "drawn"],
)
def test_files_written_by_blocks_are_those_of_one_whole(
    settings: list[str], ratify: RUN, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.stages.pair_blocks.PAIRS_AT_ONCE", 4)
    monkeypatch.setattr("judges.dataset.ROWS_PER_GROUP", 7)
    arguments = [*small_run, *settings, "--no-prefect"]
    assert ratify("generate", *arguments).code == 0
    estimated = json.loads(ratify("estimate", *arguments[:-1], "--json").out)
    said = ratify("label", *arguments)
    assert said.code == 0, said.err
    folder = tmp_path / "small"
    context = context_of(folder)
    sheets = Sheets(
        training_blocks(context), constitution_of(context), make_judge(context),
        context.config.labels.principles_per_pair or 0,
    )  # fmt: skip
    blocks = list(sheets)
    assert len(blocks) > 5 and sheets.pairs == sum(len(block.pairs) for block, _, _ in blocks)
    figures = context.manifest("label").metrics
    assert figures["label/calls/count"] == estimated["calls"] and figures["label/labels/count"] == sheets.pairs
    assert sheets.questions >= len({question.key for question in sheets.all_questions()})
    stage = folder / "round-000" / "label"
    found = (stage / "labels.parquet").read_bytes(), (stage / "pairs.parquet").read_bytes()
    assert found == whole(context, tmp_path)


def test_objectives_by_blocks_are_those_of_one_whole(
    ratify: RUN, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*small_run, 'labels.objectives=["tier"]', "--no-prefect"]
    ratify("generate", *arguments)
    stage, found = tmp_path / "small" / "round-000" / "label", []
    for size in (4, 100_000):
        monkeypatch.setattr("flows.stages.pair_blocks.PAIRS_AT_ONCE", size)
        assert ratify("label", *arguments).code == 0
        files = sorted(stage.rglob("*.parquet"))
        found.append({str(path.relative_to(stage)): path.read_bytes() for path in files})
        (stage / "manifest.json").unlink()
        for path in files:
            path.unlink()
    assert found[0] == found[1] and len(found[0]) > 3


def test_a_run_in_which_nothing_is_decided_leaves_no_table(ratify: RUN, small_run: list[str], tmp_path: Path) -> None:
    plain = "schema: constitution/v1\nid: x\nversion: 1.0.0\naggregate: {min_margin: 99}\nprinciples:\n"
    plain += "  - {id: long, text: Prefer the longer reply., checks: [{type: min_words, value: 5}]}\n"
    (tmp_path / "never.yaml").write_text(plain)
    arguments = [*small_run, f"constitution={tmp_path / 'never.yaml'}", "--no-prefect"]
    ratify("generate", *small_run, "--no-prefect")
    said = ratify("label", *arguments)
    assert said.code != 0 and "no pair was decided" in said.err
    stage = tmp_path / "small" / "round-000" / "label"
    assert not list(stage.glob("*.parquet")) and not list(stage.glob(".*.tmp"))


def test_who_speaks_about_a_block_comes_back_as_it_was_even_without_pairs() -> None:
    rules = constitution(
        "id: long, text: Be long., checks: [{type: min_words, value: 3}]",
        "id: kind, text: Be kind., applies_to: {tags: [other]}",
    )
    prompts, pairs = many(3)
    pairs[0] = pair("A longer reply.", "No.", "p0")
    blocks = [Block(prompts, pairs, 0), Block({"same": prompt("same")}, [], 6)]
    judge = ModelJudge(JudgeSection(model="m"), model_hash="m")
    kept = [coverage for _, coverage, _ in Sheets(lambda: blocks, rules, judge)]
    made = [cover(block.prompts, block.pairs, rules.active, judge) for block in blocks]
    assert made[0].decided.any() and not made[0].asked.all()
    for one, other in zip(kept, made, strict=True):
        assert one.asked.shape == other.asked.shape and one.asked.dtype == other.asked.dtype
        assert (one.asked == other.asked).all() and (one.decided == other.decided).all()
