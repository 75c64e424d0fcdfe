"""An edit that nobody watches is applied only under its limits, and what cannot be measured is over them."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.context import RunContext
from flows.stages.kept_constitutions import keep_constitution, labelled_with
from flows.stages.limited_edit import EditLimits, cost_reasons, flip_reasons, handle_edit
from flows.stages.relabel import context_of
from ratify.config import load_config
from ratify.errors import InputError
from ratify.lineage import ROOT

DEMO = ROOT / "constitutions" / "demo.yaml"
PLAN: dict[str, Any] = {"calls": 100, "money": 2.5, "currency": "EUR"}


@pytest.mark.parametrize(
    ("limits", "held"),
    [
        ({"max_calls": 100}, 0),
        ({"max_calls": 99}, 1),
        ({"max_calls": None}, 0),
        ({"max_money": 2.5}, 0),
        ({"max_money": 2.4}, 1),
        ({"max_calls": 1, "max_money": 1}, 2),
    ],
)
def test_calls_and_money_have_limits(limits: dict[str, Any], held: int) -> None:
    assert len(cost_reasons(PLAN, EditLimits(**limits))) == held


def test_an_unknown_price_is_over_the_limit_and_no_call_costs_nothing() -> None:
    unknown = PLAN | {"money": None}
    assert "nobody knows" in cost_reasons(unknown, EditLimits(max_money=1))[0]
    assert cost_reasons(unknown | {"calls": 0}, EditLimits(max_money=1)) == ()


@pytest.mark.parametrize(
    ("rate", "held"),
    [
        ({"rate": 0.05, "high": 0.11, "exact": False}, True),
        ({"rate": 0.05, "high": 0.11, "exact": True}, False),
        ({"rate": 0.05, "high": 0.1, "exact": False}, False),
        ({"rate": None}, True),
        ({}, True),
    ],
)
def test_the_upper_end_of_a_sampled_flip_rate_counts(rate: dict[str, Any], held: bool) -> None:
    assert bool(flip_reasons({"flip_rate": rate}, EditLimits(max_flip_rate=0.1))) is held
    assert flip_reasons({"flip_rate": rate}, EditLimits(max_flip_rate=None)) == ()


@pytest.fixture
def context(labelled_run: Path, tmp_path: Path) -> RunContext:
    """A copy of a labelled run that knows its configuration."""
    run = tmp_path / "runs" / "edited"
    shutil.copytree(labelled_run, run)
    arguments = [
        "prompts.train_limit=20", "prompts.heldout_limit=4", "judge.kind=rules", "policy.train_from=data/demo/policy",
        "policy.base_url=http://127.0.0.1:9/v1", "policy.model=fake-policy",
    ]  # fmt: skip
    config = load_config(ROOT / "configs" / "demo.toml", [f"run.dir={run.parent}", "run.name=edited", *arguments])
    RunContext(config).remember()
    return context_of(run)


def heavier(tmp_path: Path) -> Path:
    """The demo's constitution with one principle that outweighs the others."""
    path, text = tmp_path / "edited.yaml", "    text: The reply is polite and respectful.\n"
    assert text in DEMO.read_text()
    path.write_text(DEMO.read_text().replace(text, f"{text}    weight: 9.0\n"))
    return path


def test_an_edit_is_left_alone_held_and_applied(
    context: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert handle_edit(context, DEMO, EditLimits()).outcome == "unchanged"
    new = heavier(tmp_path)
    strict = EditLimits(max_flip_rate=0.0)
    held = handle_edit(context, new, strict)
    assert held.outcome == "held" and "labels" in held.reasons[0] and held.figures["flip_rate"]["rate"] > 0
    assert not list(context.run.path.glob("round-000/relabel/*/manifest.json"))
    assert handle_edit(context, new, strict).outcome == "held before"
    applied = handle_edit(context, new, EditLimits(max_flip_rate=1.0))
    assert applied.outcome == "applied" and applied.folder and (applied.folder / "labels.parquet").exists()
    assert handle_edit(context, new, EditLimits(max_flip_rate=1.0)).outcome == "applied before"
    assert labelled_with(context).read_text() == DEMO.read_text(), "the run's own labels still follow the old one"


def test_what_the_labels_followed_must_be_known(
    context: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    other = heavier(tmp_path)
    moved = RunContext(context.config.model_copy(update={"constitution": other}))
    with pytest.raises(InputError, match="no copy is kept"):
        labelled_with(moved)
    keep_constitution(context)
    assert labelled_with(moved).read_text() == DEMO.read_text()
