"""The service between a training task and the judge: each reply is judged once, a failure gives no score, a fault stops
both sides in its own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from accelerate import Accelerator

from flows.context import RunContext
from flows.stages.reward_judging import RewardJudge, calls_per_step
from flows.stages.reward_service import Working, serving_rewards
from judges.questions import Question
from judges.rules_judge import RulesJudge
from ratify.config import load_config
from ratify.errors import BudgetError, SpendingError, TrainingError
from ratify.lineage import ROOT
from ratify.types import Failure, Message, Prompt, Verdict
from ratify.verdict_store import VerdictStore
from training.asked_rewards import AskedRewards
from training.rewards import Rollout
from training.rollouts import PromptItem, Sampled

REWARDS = [
    'policy_gradient.rewards=[{kind="judge", name="odds", principles=["polite"]},'
    '{kind="judge", name="share", score="probability", principles=["polite"]},'
    '{kind="judge", name="beats", score="win_rate", principles=["polite"]}]',
    "policy_gradient.enabled=true",
    "judge.kind=rules",
]
KIND, DRY, LOST = "Certainly. I hope this helps.", "Four.", "Thanks, this one gets lost."
PROMPT = Prompt(id="p", messages=(Message(role="user", content="What is 2 plus 2?"),))


class CountingJudge(RulesJudge):
    """The rules judge, which counts its calls and loses replies that say so."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def answer(self, question: Question) -> Verdict:
        self.calls.append(question.first.text)
        if "lost" in question.first.text:
            return question.failed(self.fingerprint, Failure.PARSE_ERROR, "hm")
        return await super().answer(question)


class World:
    """A service over a judge that counts, and the training side's line to it."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        config = load_config(ROOT / "configs" / "demo.toml", [*REWARDS, f"run.dir={folder}", *overrides])
        self.context = RunContext(config)
        self.judge = CountingJudge()
        self.store = VerdictStore.in_folder(folder)
        self.answering = RewardJudge(self.context, [PROMPT], self.judge, self.store)

    async def serve(self, work: Working) -> None:
        await work(self.answering.answer)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "judge.failure_budget=0.9")
    yield made
    made.store.close()


def rollouts(*texts: str) -> list[Rollout]:
    item = PromptItem("p", "What is 2 plus 2?", (1, 2))
    return [Rollout(item, Sampled((3,), (-1.0,), "stop"), text) for text in texts]


@contextmanager
def line_to(path: Path) -> Iterator[AskedRewards]:
    line = AskedRewards(path, cast(Accelerator, SimpleNamespace(is_main_process=True, num_processes=1)))
    with closing(line):
        yield line


def test_scores_are_log_odds_by_the_constitution_and_a_reply_is_judged_once(world: World) -> None:
    with serving_rewards(world.serve) as service, line_to(service.path) as line:
        assert line.scores("odds", rollouts(KIND, DRY, KIND)) == (3.0, 0.0, 3.0)
        assert line.scores("share", rollouts(KIND)) == pytest.approx((0.9525741,))
        assert line.scores("odds", rollouts(DRY, KIND)) == (0.0, 3.0)
    assert sorted(world.judge.calls) == [KIND, DRY]
    assert world.store.count() == 2
    statistics = world.answering.statistics
    assert (statistics.calls, statistics.reused, statistics.needed) == (2, 3, 5)


def test_a_failed_verdict_gives_no_score_and_is_never_a_zero(world: World) -> None:
    with serving_rewards(world.serve) as service, line_to(service.path) as line:
        assert line.scores("odds", rollouts(KIND, LOST)) == (3.0, None)
        kind, lost, dry = rollouts(KIND, LOST, DRY)
        probabilities = line.probabilities("beats", [(kind, dry), (kind, lost), (dry, dry)])
        assert probabilities == (pytest.approx(0.9525741), None, 0.5)
    assert [failure for _, failure, _ in world.store.failures()] == [Failure.PARSE_ERROR] * 2


def test_too_many_failures_stop_the_training_in_the_judges_words(tmp_path: Path) -> None:
    world = World(tmp_path, "judge.failure_budget=0.1")
    texts = [f"This one gets lost {number}." for number in range(30)]
    with pytest.raises(BudgetError, match="30 of 30 verdicts of the judge failed"), serving_rewards(world.serve) as it:
        with pytest.raises(TrainingError, match="30 of 30 verdicts") as told, line_to(it.path) as line:
            line.scores("odds", rollouts(*texts))
        raise told.value
    world.store.close()


def test_a_spent_budget_stops_before_the_next_call_and_keeps_what_was_answered(tmp_path: Path) -> None:
    world = World(tmp_path)

    class Purse:
        left = 1

        def reserve(self, _question: Question) -> None:
            if not self.left:
                raise SpendingError("judging stopped by the budget")
            self.left -= 1

        def settle(self, _verdict: Verdict) -> None:
            pass

    world.answering = RewardJudge(world.context, [PROMPT], world.judge, world.store, Purse())
    stopped = pytest.raises(SpendingError, match="stopped by the budget")
    with stopped, serving_rewards(world.serve) as it, line_to(it.path) as line:
        line.scores("odds", rollouts(KIND, DRY))
    assert len(world.judge.calls) == 1 and world.store.count() == 1
    world.store.close()


def test_a_judge_that_does_not_start_is_told_before_training(tmp_path: Path) -> None:
    async def refuses(_work: Working) -> None:
        raise SpendingError("no judge")

    with pytest.raises(SpendingError, match="no judge"), serving_rewards(refuses):
        pytest.fail("the context must not be entered")


def test_the_socket_is_for_its_user_alone_and_is_gone_afterwards(world: World) -> None:
    with serving_rewards(world.serve) as service:
        assert service.path.parent.stat().st_mode & 0o077 == 0
    assert not service.path.parent.exists()
    with pytest.raises(TrainingError, match="is gone"), line_to(service.path) as line:
        line.scores("odds", rollouts(KIND))


def test_the_most_calls_of_a_step_by_hand(tmp_path: Path) -> None:
    """32 prompts × 4 completions × 1 principle × 3 rewards pointwise; pairwise, a prompt has 4·3 shown orders."""
    world = World(tmp_path)
    assert calls_per_step(world.context) == 3 * 128
    only = 'policy_gradient.rewards=[{kind="judge", score="win_rate", principles=["polite"]}]'
    assert calls_per_step(World(tmp_path, only, "judge.protocol=pairwise").context) == 32 * 12
