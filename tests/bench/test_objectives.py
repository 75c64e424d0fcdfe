"""The comparison of objectives: best of n by hand, and settings that load."""

from __future__ import annotations

import math

import pytest

from bench.objectives import ALONE, CONFIG, SHARED, WHAT
from bench.policies import Measured, best_of, known_mean
from ratify.config import load_config
from ratify.types import Completion


def reply(number: int) -> Completion:
    return Completion(
        id=str(number), prompt_id=str(number // 4), text=f"reply {number}", finish_reason="stop", prompt_tokens=1,
        completion_tokens=2, seed=0,
    )  # fmt: skip


def test_the_best_of_each_group_is_kept() -> None:
    drawn = Measured([reply(n) for n in range(8)], [1.0, 5.0, 2.0, 3.0, 0.0, 4.0, 9.0, 7.0], [0.1] * 8)
    best = best_of(drawn, 2, groups=2, per_prompt=4)
    assert [one.id for one in best.replies] == ["1", "3", "5", "6"]
    assert best.reward == [5.0, 3.0, 4.0, 9.0] and best.log_ratio == pytest.approx([math.log(2) - 0.5] * 4)
    assert [one.id for one in best_of(drawn, 4, groups=1, per_prompt=4).replies] == ["1", "6"]


def test_a_reply_without_text_is_never_the_best_and_in_no_mean() -> None:
    rewards = [None, -5.0, None, None, -1.0, None, None, None]
    drawn = Measured([reply(n) for n in range(8)], rewards, [None, 0.5, None, None, 0.1, None, None, None])
    best = best_of(drawn, 2, groups=2, per_prompt=4)
    assert [one.id for one in best.replies] == ["1", "2", "4", "6"] and best.reward == [-5.0, None, -1.0, None]
    owners = [one.prompt_id for one in drawn.replies]
    assert known_mean(drawn.reward, owners).value == -3.0
    assert known_mean(drawn.log_ratio, owners).value == pytest.approx(0.3)


@pytest.mark.parametrize("name", WHAT)
def test_every_objective_loads(name: str) -> None:
    settings = WHAT[name]
    if any(setting.startswith("policy_gradient.") for setting in settings):
        settings = [*settings, *SHARED, *ALONE]
        if not any("rewards" in setting for setting in settings):
            settings.append('policy_gradient.rewards=[{kind="model", models=["folder"]}]')
    load_config(CONFIG, settings)
