"""Reward sources: functions, ensembles, mixtures with constraints, judges; and scores that are missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from ratify.errors import TrainingError
from ratify.policy_gradient_section import ExactAnswerSpec, LengthSpec, PolicyGradientSection, RegexSpec
from training.rewards import (
    Batch,
    Ensemble,
    FunctionReward,
    GroupJudgeReward,
    JudgeReward,
    Mixture,
    Rollout,
    Scored,
    Stateless,
)
from training.rollouts import Group, PromptItem, Sampled
from training.verifiable import exact_answer, length_within, pattern_found


def batch_of(*groups: Sequence[str], answer: str | None = None) -> Batch:
    """Completions by their texts; each has as many tokens as letters."""
    made = []
    for number, texts in enumerate(groups):
        item = PromptItem(f"p{number}", "?", (1, 2), answer)
        sampled = tuple(
            Sampled(tuple(range(3, 3 + max(1, len(text)))), (-1.0,) * max(1, len(text)), "stop") for text in texts
        )
        made.append(Group(item, sampled))
    rollouts = [
        Rollout(group.item, one, text)
        for group, texts in zip(made, groups, strict=True)
        for one, text in zip(group.completions, texts, strict=True)
    ]
    return Batch(made, [group.element for group in made], rollouts)


class Fixed(Stateless):
    """A source that says what it was given."""

    def __init__(self, name: str, values: Sequence[float]) -> None:
        self.name = name
        self.values = torch.tensor(values, dtype=torch.float64)

    def score(self, batch: Batch) -> Scored:
        return Scored(self.values, {self.name: self.values})


NOTHING = batch_of()


@pytest.mark.parametrize(
    ("text", "reward"),
    [("17", 1.0), ("it is 17.0", 1.0), ("3 + 14 = 17", 1.0), ("18", 0.0), ("no idea", 0.0), ("I cannot say. 17", 0.3)],
)
def test_exact_answer_takes_the_last_number_and_abstention_lies_between(text: str, reward: float) -> None:
    spec = ExactAnswerSpec(abstain_pattern="cannot say")
    assert exact_answer(spec, batch_of([text], answer="17").rollouts[0]) == reward


def test_exact_answer_of_words_and_of_rows_without_one() -> None:
    spec = ExactAnswerSpec(pattern=r"answer: (\w+)")
    assert exact_answer(spec, batch_of(["Answer: no. answer: Paris"], answer="paris").rollouts[0]) == 1.0
    assert exact_answer(spec, batch_of(["answer: Paris"]).rollouts[0]) is None


def test_patterns_and_lengths() -> None:
    rollouts = batch_of(["abc", "xyz", "abcdefg"]).rollouts
    assert [pattern_found(RegexSpec(name="r", pattern="^a"), r) for r in rollouts] == [1.0, 0.0, 1.0]
    assert [pattern_found(RegexSpec(name="r", pattern="^a", present=False), r) for r in rollouts] == [0.0, 1.0, 0.0]
    assert [length_within(LengthSpec(max_tokens=3), r) for r in rollouts] == [1.0, 1.0, 0.0]
    assert [length_within(LengthSpec(max_tokens=3, slack=8), r) for r in rollouts] == [1.0, 1.0, 0.5]


def test_function_without_answer_gives_no_score_and_not_nought() -> None:
    scored = FunctionReward("f", lambda r: None if r.text == "b" else 0.0).score(batch_of(["a", "b"]))
    assert scored.has_score_N.tolist() == [True, False]


def test_ensembles_by_hand() -> None:
    members = [Fixed("a", [1.0, 4.0, 1.0]), Fixed("b", [3.0, 0.0, math.nan])]
    for combine, expected in (("mean", [2.0, 2.0]), ("min", [1.0, 0.0]), ("variance_penalised", [1.5, 0.0])):
        scored = Ensemble("e", members, combine, penalty=0.5).score(NOTHING)  # type: ignore[arg-type]
        assert scored.value_N[:2].tolist() == expected and math.isnan(scored.value_N[2])
        assert scored.parts["e_variance"][:2].tolist() == [1.0, 4.0]


def test_mixtures_by_hand_and_every_part_is_kept() -> None:
    sources = [Fixed("a", [1.0, 4.0, 1.0]), Fixed("b", [3.0, 0.0, math.nan])]
    total = Mixture(sources, [1.0, 2.0], [None, None]).score(NOTHING)
    assert total.value_N[:2].tolist() == [7.0, 4.0] and math.isnan(total.value_N[2])
    assert set(total.parts) == {"a", "b"}
    worst = Mixture(sources, [1.0, 2.0], [None, None], combine="worst").score(NOTHING)
    assert worst.value_N[:2].tolist() == [1.0, 0.0] and math.isnan(worst.value_N[2])


def test_dual_variable_rises_while_the_constraint_is_violated_and_is_kept() -> None:
    """helpful subject to mean harmless ≥ 0.5, which is 0: λ goes up by η·0.5, and comes back when resumed."""
    helpful, harmless = Fixed("helpful", [1.0, 0.0]), Fixed("harmless", [-1.0, 1.0])
    mixture = Mixture([helpful, harmless], [1.0, 1.0], [None, 0.5], dual_learning_rate=2.0)
    assert mixture.score(NOTHING).value_N.tolist() == [1.0, 0.0]
    assert mixture.duals == [0.0, 1.0]
    second = mixture.score(NOTHING)
    assert_close(second.value_N, torch.tensor([1.0 - 1.5, 0.5], dtype=torch.float64) / 2)
    assert second.parts["dual_1"].tolist() == [2.0]
    resumed = Mixture([helpful, harmless], [1.0, 1.0], [None, 0.5], dual_learning_rate=2.0)
    resumed.restore(mixture.state())
    assert resumed.duals == mixture.duals
    harmless.values = torch.tensor([9.0, 9.0], dtype=torch.float64)
    mixture.score(NOTHING)
    assert mixture.duals == [0.0, 0.0]


def test_judge_is_asked_once_and_may_abstain() -> None:
    calls = []

    def judge(rollouts: Sequence[Rollout]) -> list[float | None]:
        calls.append(len(rollouts))
        return [None if rollout.text == "?" else 0.5 for rollout in rollouts]

    scored = JudgeReward("judge", judge).score(batch_of(["a", "?"], ["b"]))
    assert calls == [3] and scored.has_score_N.tolist() == [True, False, True]
    with pytest.raises(TrainingError, match="reward judge answered 0 of 3 questions"):
        JudgeReward("judge", lambda _: []).score(batch_of(["a", "?"], ["b"]))


def test_pairwise_judge_gives_the_mean_probability_to_win_in_the_group() -> None:
    def longer(pairs: Sequence[tuple[Rollout, Rollout]]) -> list[float | None]:
        return [None if "?" in a.text + b.text else float(len(a.text) > len(b.text)) for a, b in pairs]

    scored = GroupJudgeReward("judge", longer).score(batch_of(["a", "aaa", "aa"], ["b", "?"]))
    assert scored.value_N[:3].tolist() == [0.0, 1.0, 0.5]
    assert scored.has_score_N.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"algorithm": "grpo", "completions_per_prompt": 1}, "would learn nothing"),
        ({"algorithm": "rloo", "gae_lambda": 0.9}, "gae_lambda is set and algorithm is 'rloo'; .* algorithm = 'ppo'"),
        ({"algorithm": "grpo", "critic_warmup_steps": 2}, "critic_warmup_steps"),
        ({"algorithm": "dapo", "kl_target": 3.0}, "kl_coefficient is 0"),
        ({"max_tokens": 2048}, "max_tokens must be below max_length"),
        ({"minibatches": 17}, "minibatches must not exceed"),
        ({"rewards": [{"kind": "regex", "name": "a", "pattern": "("}]}, "not a regular expression"),
        ({"rewards": [{"kind": "exact_answer", "abstain": 0.0}]}, "wrong < abstain < right"),
        ({"rewards": [{"kind": "length", "max_tokens": 3, "at_least": 0.5}]}, "none is left to maximise"),
        ({"rewards": [{"kind": "exact_answer"}, {"kind": "exact_answer"}]}, "same name"),
        ({"algorithm": "online_dpo", "pretraining_data": "x.jsonl"}, "no pretraining_data"),
    ],
)
def test_settings_that_cannot_work_die_at_load(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PolicyGradientSection.model_validate(settings)
