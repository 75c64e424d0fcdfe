"""Gold pairs among the questions of the label stage: what is written, what labels are made of, when it stops."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from flows.stages.canaries import CALIBRATOR, DIAGRAM, QUALITY, Canaries, mixed
from flows.stages.judging import constitution_of
from flows.stages.relabel import Bench, context_of
from judges.dataset import read_labels
from judges.gold import Gold
from judges.gold_calibration import read_calibrators
from judges.questions import Questionnaire, write_questions
from judges.rules_judge import RulesJudge
from tests.judges.worlds import asked, constitution, many

RUN = Callable[..., Any]


def label(ratify: RUN, arguments: list[str], *more: str) -> tuple[Any, Path]:
    """Sample and label with the fake policy and the judge of checks; what was said and the stage's folder."""
    assert ratify("generate", *arguments, *more, "--no-prefect").code == 0
    said = ratify("label", *arguments, *more, "--no-prefect")
    folder = next(argument for argument in arguments if argument.startswith("run.dir=")).removeprefix("run.dir=")
    return said, Path(folder) / "small" / "round-000" / "label"


def test_canaries_are_judged_and_shown_but_never_labelled(ratify: RUN, small_run: list[str]) -> None:
    said, plain = label(ratify, small_run)
    without = read_labels(plain / "labels.parquet")
    assert json.loads((plain / QUALITY).read_text())["canaries"] == 0
    said, folder = label(ratify, small_run, "gold.canaries=40", "gold.human_ceiling=0.8")
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    assert said.code == 0 and "the judge agrees with gold on" in said.out and "of what people reach" in said.out
    assert metrics["label/gold/pairs"] == 40 and metrics["label/gold/failed"] == 0
    assert metrics["label/gold/of_ceiling"] == pytest.approx(metrics["label/gold/agreement"] / 0.8)
    assert read_labels(folder / "labels.parquet") == without
    quality = json.loads((folder / QUALITY).read_text())
    assert {row["principle"] for row in quality["biases"]} == {"polite", "helpful", "honest", "concise"}
    assert any(key.startswith("label/bias/") and key.endswith("/length_slope") for key in metrics)


def test_a_judge_below_the_least_agreement_stops_with_a_sentence(ratify: RUN, small_run: list[str]) -> None:
    said, folder = label(ratify, small_run, "gold.canaries=40", "gold.min_agreement=0.99")
    assert said.code == 7 and "gold.min_agreement is 99.0%" in said.err
    assert not (folder / "manifest.json").exists() and not (folder / "labels.parquet").exists()


def test_calibrated_labels_name_their_calibrator_and_relabelling_uses_it(
    ratify: RUN, small_run: list[str], tmp_path: Path
) -> None:
    said, folder = label(ratify, small_run, "gold.canaries=300", "gold.calibrate=temperature")
    assert said.code == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    calibrators = read_calibrators(folder / CALIBRATOR)
    assert manifest["metrics"]["label/calibrator/hash"] == calibrators.hash
    assert manifest["lineage"]["gold"]["calibrate"] == "temperature" and CALIBRATOR in manifest["files"]
    figures = ("temperature", "gold", "nll_before", "nll_after", "brier_after", "ece_before")
    assert all(f"label/calibrator/concise/{name}" in manifest["metrics"] for name in figures)
    assert ElementTree.parse(folder / DIAGRAM).getroot().tag.endswith("svg")
    labels = read_labels(folder / "labels.parquet")
    context = context_of(folder.parent.parent)
    with Bench(context) as bench:
        rules = constitution_of(context)
        again = bench.aggregate(rules, bench.evidence(rules))
        (judge,) = bench.judges
        principle = next(each for each in rules.active if each.id == "concise")
        worth = judge.worth(principle, judge.column(principle))
        repeated = judge.ask_again(
            write_questions(bench.prompts, bench.pairs, [principle], bench.judge).questions, tmp_path
        )
    assert again.margin.tolist() == [each.margin for each in labels]
    known = dict(zip(worth.keys.ravel().tolist(), worth.z.ravel().tolist(), strict=True))
    assert repeated == {key.decode(): known[key] for key in known}, "asked again, it is calibrated alike: no noise"


def test_canaries_are_spread_over_the_whole_pass() -> None:
    rules, judge = constitution("id: p, checks: [{type: min_words, value: 2}]"), RulesJudge()
    prompts, pairs = many(50)
    sheet = asked(judge, rules, prompts, pairs)
    gold_prompts, gold_pairs = {f"gold/{name}": each for name, each in prompts.items()}, pairs[:5]
    told = Questionnaire({f"gold{key}": question._replace(key=f"gold{key}") for key, question in
                          asked(judge, rules, prompts, gold_pairs).questions.items()}, gold_pairs, [])  # fmt: skip
    canaries, total = Canaries(Gold(gold_prompts, gold_pairs, [], {}), told), len(sheet.questions)
    order = [question.key for question in mixed(sheet.questions.values(), total, canaries)]
    assert len(order) == 110 and set(order) == {*sheet.questions, *told.questions}
    places = [place for place, key in enumerate(order) if key.startswith("gold")]
    assert len(places) == 10 and all(8 <= later - one <= 14 for one, later in itertools.pairwise(places))
    assert [question.key for question in mixed(sheet.questions.values(), total, None)] == list(sheet.questions)
