"""The judge and the constitution's checks as rewards: what a question about a rollout means, and its answer.

The verdicts are those of labelling: the same questions under the same keys in the same store, so a reply that was ever
judged costs nothing, and every answer is on disk before it counts. A verdict that failed gives no score. Failures are
counted over the whole training; beyond `judge.failure_budget` it stops, as a policy would learn from a choice of
replies that nobody made. Left out: panels (`[judge]` alone is asked), calibration by canaries, batch files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from constitutions.schema import Principle
from flows.context import RunContext
from flows.stages.judging import constitution_of, make_judge
from judges.aggregate import sigmoid
from judges.assignment import cover
from judges.completion_scores import asked_about, breach, completion_scores, share_of_checks
from judges.labelling import Budget, Collection, collect_verdicts, over_budget
from judges.labels import label_pairs
from judges.questions import Judge, Pair, Question, write_questions
from judges.statistics import LabellingStatistics
from ratify.canonical import digest
from ratify.errors import BudgetError, ConfigError
from ratify.policy_gradient_section import AskedReward, JudgeSpec
from ratify.reward_questions import RewardQuestion, RewardRequest
from ratify.types import Completion, Prompt
from ratify.verdict_store import VerdictStore

Values = list[float | None]


class RewardJudge:
    """Answers the questions of one training task."""

    def __init__(
        self,
        context: RunContext,
        prompts: Sequence[Prompt],
        judge: Judge | None,
        store: VerdictStore,
        budget: Budget | None = None,
    ) -> None:
        """`judge` can answer; None where no reward asks one."""
        self._context = context
        self._prompts = {prompt.id: prompt for prompt in prompts}
        self._judge = judge
        self._store = store
        self._budget = budget
        self._constitution = constitution_of(context)
        self._rewards = {reward.name: reward for reward in context.config.policy_gradient.asked_rewards}
        self.statistics = LabellingStatistics()

    async def answer(self, request: RewardRequest) -> Values:
        """The answers to a request, in its order.

        Raises:
            BudgetError: too many verdicts failed, or a limit allows no further request.
            EndpointError: a fault that concerns every call.
        """
        reward = self._rewards[request.reward]
        principles = named_principles(self._context, reward)
        if reward.kind == "checks":
            return [share_of_checks(q.first, self._prompts[q.prompt_id], principles) for q in request.questions]
        if reward.compares:
            return await self._compared(request.questions, principles)
        scores = await self._scored(request.questions, principles)
        return scores if reward.score == "log_odds" else [None if score is None else sigmoid(score) for score in scores]

    async def _scored(self, questions: Sequence[RewardQuestion], principles: tuple[Principle, ...]) -> Values:
        judge = make_judge(self._context)
        prompts = [self._prompts[question.prompt_id] for question in questions]
        asked = asked_about(prompts, principles, judge)
        z = np.full(asked.shape, np.nan)
        open_: dict[str, Question] = {}
        places: list[tuple[int, int, str]] = []
        for row, column in zip(*np.nonzero(asked), strict=True):
            principle, text = principles[column], questions[row].first
            fixed = breach(principle, text, judge, self._constitution)
            if fixed is not None:
                z[row, column] = fixed
                continue
            completion = _completion(questions[row].prompt_id, text)
            key = judge.key(principle, prompts[row], completion, None)
            open_[key] = Question(key, principle, prompts[row], completion, None)
            places.append((row, column, key))
        found = await self._heard(open_)
        for row, column, key in places:
            verdict = found.verdicts.get(key)
            z[row, column] = np.nan if verdict is None or verdict.logit is None else verdict.logit
        scores = completion_scores(z, asked, principles, self._constitution)
        return [None if math.isnan(score) else score for score in scores.tolist()]

    async def _compared(self, questions: Sequence[RewardQuestion], principles: tuple[Principle, ...]) -> Values:
        """P(first is better), as a label says it; of two equal texts ½, without asking."""
        judge = make_judge(self._context)
        rows = [row for row, question in enumerate(questions) if question.first != question.second]
        values: Values = [0.5] * len(questions)
        if not rows:
            return values
        pairs: list[Pair] = [_pair(questions[row]) for row in rows]
        coverage = cover(self._prompts, pairs, principles, judge)
        sheet = write_questions(self._prompts, pairs, principles, judge, coverage.open)
        found = await self._heard(sheet.questions)
        only = self._constitution.model_copy(update={"principles": principles})
        labelled = label_pairs(
            sheet, found.verdicts, found.failures, only, judge.protocol, decided=coverage.decided
        )  # fmt: skip
        for row, probability in zip(rows, labelled.made.probability.tolist(), strict=True):
            values[row] = None if math.isnan(probability) else probability
        return values

    async def _heard(self, questions: dict[str, Question]) -> Collection:
        """Verdicts from the store and from the judge; the failure budget is that of the whole training."""
        assert self._judge is not None, "a reward asks the judge, so there is one"
        section = self._context.config.judge
        found = await collect_verdicts(
            questions, self._judge, self._store, failure_budget=1.0, budget=self._budget, price=section.price
        )
        total, new = self.statistics, found.statistics
        total.needed += new.needed
        total.reused += new.reused
        total.calls += new.calls
        total.failures.update(new.failures)
        total.prompt_tokens += new.prompt_tokens
        total.completion_tokens += new.completion_tokens
        total.seconds += new.seconds
        if over_budget(total.needed, total.failed, section.failure_budget, total.needed):
            raise BudgetError(
                f"training stopped: {total.failed:,} of {total.needed:,} verdicts of the judge failed "
                f"(judge.failure_budget allows {section.failure_budget:.1%}), and completions without a score "
                "teach nothing; mend the judge and run the same command again, which goes on from the checkpoint"
            )
        return found


def named_principles(context: RunContext, reward: AskedReward) -> tuple[Principle, ...]:
    """The active principles that a reward is about.

    Raises:
        ConfigError: it names one that the constitution does not have, or none that says anything.
    """
    active = constitution_of(context).active
    known = {principle.id for principle in active}
    unknown = [name for name in reward.principles if name not in known]
    where = f"policy_gradient.rewards: {reward.name!r}"
    if unknown:
        raise ConfigError(
            f"{where} names principle {unknown[0]!r}, which {context.config.constitution} does not have; it has: "
            + ", ".join(sorted(known))
        )
    wanted = tuple(principle for principle in active if not reward.principles or principle.id in reward.principles)
    if isinstance(reward, JudgeSpec):
        judge = make_judge(context)
        if not any(principle.decides and not judge.abstains(principle) for principle in wanted):
            raise ConfigError(f"{where} asks about no principle that the judge can speak about; name another")
    elif not any(principle.decides and principle.checks for principle in wanted):
        raise ConfigError(
            f"{where} is of kind 'checks' and no principle that it names has any; write some, or name others"
        )
    return wanted


def calls_per_step(context: RunContext) -> int:
    """The most questions that one rollout batch puts to the judge."""
    section, protocol = context.config.policy_gradient, context.config.judge.protocol
    k, total = section.completions_per_prompt, 0
    for reward in section.judge_rewards:
        spoken = sum(principle.decides for principle in named_principles(context, reward))
        shown = {"pointwise": k, "pairwise": k * (k - 1), "ranking": 2}[protocol if reward.compares else "pointwise"]
        total += spoken * section.batch_prompts * shown
    return total


def _pair(question: RewardQuestion) -> Pair:
    assert question.second is not None, "a comparison has two sides"
    return _completion(question.prompt_id, question.first), _completion(question.prompt_id, question.second)


def _completion(prompt_id: str, text: str) -> Completion:
    """The reply as a judge knows it; equal texts are the same completion."""
    return Completion(
        id=f"{prompt_id}/rollout/{digest(text)[:16]}",
        prompt_id=prompt_id,
        text=text,
        finish_reason="stop",
        prompt_tokens=0,
        completion_tokens=0,
        seed=0,
    )
