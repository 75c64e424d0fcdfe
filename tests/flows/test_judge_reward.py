"""A judge and a constitution's checks as rewards, through the stage and its child process."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from constitutions.load import load_constitution
from evaluation.reward_frontier import RewardFrontier
from flows.context import RunContext
from flows.stages.evaluate import EVALUATE
from flows.stages.train import trained_policy
from judges.rules_judge import log_odds
from ratify.config import load_config
from ratify.lineage import ROOT

FAST = [
    "policy_gradient.enabled=true", "policy_gradient.algorithm=rloo", "policy_gradient.epochs=1",
    "policy_gradient.batch_prompts=4", "policy_gradient.completions_per_prompt=2", "policy_gradient.max_tokens=8",
    "policy_gradient.epochs_per_batch=1", "prompts.train_limit=8", "reward_model.enabled=false",
    "preference.enabled=false", "evaluation.policy=policy_gradient", "sampling.completions_per_prompt=2",
    "policy_gradient.keep_rollouts=true",
]  # fmt: skip
REWARDS = (
    "policy_gradient.rewards=["
    '{kind="judge", name="manner", principles=["polite"]},'
    '{kind="judge", name="beats", score="win_rate", weight=0.5},'
    '{kind="checks", weight=0.5, principles=["polite", "concise"]}]'
)


def test_rules_and_checks_reward_a_policy_which_is_what_evaluation_takes(
    ratify: Callable[..., Any], small_run: list[str], tmp_path: Path
) -> None:
    for command in ("generate", "label", "train"):
        said = ratify(command, *small_run, *FAST, REWARDS, "--no-prefect")
        assert said.code == 0, said.err
    assert "the judge gave" in said.out
    folder = tmp_path / "small" / "round-000"
    rows = [json.loads(line) for line in (folder / "policy_gradient" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "completions" in row]
    assert len(steps) == 2 and all(row["scored"] == 1.0 for row in steps)
    for row in steps:
        # In a group the probabilities of both sides sum to 1; checks are a share; one principle's log-odds are in ±3.
        assert abs(row["reward/beats"] - 0.5) < 1e-6
        assert 0 <= row["reward/checks"] <= 1 and -3 <= row["reward/manner"] <= 3
    _kept_completions_are_those_of_the_metrics(folder / "policy_gradient", steps)
    assert not (folder / "policy").exists()
    _stored_before_it_counted(tmp_path / "small" / "verdicts.sqlite")
    context = RunContext(load_config(ROOT / "configs" / "demo.toml", [*small_run[1:], *FAST, REWARDS]))
    assert EVALUATE.lineage(context)["stages"].keys() == {"generate", "label", "policy_gradient"}
    assert trained_policy(context) == folder / "policy_gradient" / "model"
    assert "nothing was done" in ratify("train", *small_run, *FAST, REWARDS, "--no-prefect").out


def _kept_completions_are_those_of_the_metrics(stage: Path, steps: list[dict[str, Any]]) -> None:
    """The frontier's points are means of what was kept, and equal what training logged."""
    found = RewardFrontier.model_validate_json((stage / "frontier.json").read_text())
    for point, row in zip(found.points, steps, strict=True):
        assert abs(point.kl.value - row["kl"]) < 1e-9 and abs(point.proxy.value - row["reward"]) < 1e-9
        assert point.gold is not None and 0 <= point.gold.value <= 1
    assert found.proxy == "reward (manner + beats + checks)"
    assert 'class="frontier"' in (stage / "frontier.html").read_text()


def _stored_before_it_counted(store: Path) -> None:
    with sqlite3.connect(store) as connection:
        found = connection.execute("select principle, logit from verdicts where first_id like '%/rollout/%'").fetchall()
    assert {principle for principle, _ in found} >= {"polite", "concise"}


def test_a_reward_that_the_constitution_cannot_give_is_refused_before_anything_runs(
    ratify: Callable[..., Any], small_run: list[str]
) -> None:
    unknown = 'policy_gradient.rewards=[{kind="judge", principles=["kind"]}]'
    said = ratify("run", *small_run, *FAST, unknown, "--no-prefect")
    assert said.code == 2 and "names principle 'kind', which constitutions/demo.yaml does not have" in said.err
    silent = 'policy_gradient.rewards=[{kind="checks", principles=["safe"]}]'
    said = ratify("run", *small_run, *FAST, silent, "--no-prefect")
    assert said.code == 2 and "no principle that it names has any" in said.err
    pairwise = ratify("run", *small_run, *FAST, 'policy_gradient.rewards=[{kind="judge"}]', "judge.protocol=pairwise")
    assert pairwise.code == 2 and "set score = 'win_rate'" in pairwise.err


def test_the_evaluated_policy_must_be_trained(ratify: Callable[..., Any], small_run: list[str]) -> None:
    said = ratify("run", *small_run, "evaluation.policy=policy_gradient", "--no-prefect")
    assert said.code == 2 and "policy_gradient.enabled = false leaves it untrained" in said.err


def test_the_demo_constitution_has_what_the_tests_ask_for() -> None:
    polite = next(p for p in load_constitution(ROOT / "constitutions" / "demo.yaml").active if p.id == "polite")
    assert log_odds(polite, "Certainly. I hope this is right.") == 3.0
