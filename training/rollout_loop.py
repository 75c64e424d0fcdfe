"""The rollout loop of all policy-gradient algorithms: sample, score, compare, learn; one step is one batch of prompts.

PPO, GRPO, RLOO, REINFORCE and online DPO differ in what `section.method` names; the loop is one. Everything that a step
depends on is a function of seed and step, or in the checkpoint: weights, both optimisers' moments, KL coefficient,
moments of the reward, moving baseline, dual variables. Left out: building the parts from a specification
(`policy_gradient`), sampling while learning (asynchronous rollouts), resampling groups without variance.

Shapes: N completions of a rollout batch, T tokens of the longest one, M tokens of a prompt's completions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from ratify.canonical import digest
from ratify.policy_gradient_section import PolicyGradientSection
from ratify.sections import PreferenceSection
from training import batching, cancellation, rollout_metrics
from training.advantages import AdvantageName, Knobs, Outcomes, advantages, mean_return, whiten
from training.checkpoint import Cursor, load_checkpoint
from training.data import Element
from training.engine import Engine, Fit, make_optimiser
from training.kl_control import KLController
from training.metrics import PHASE
from training.preference import KL_WINDOW, PreferenceObjective
from training.reward_shaping import RunningMoments, token_rewards, without_end_penalty
from training.rewards import Batch, RewardSource, Rollout, Scored
from training.rollout_objective import Experience, PolicyObjective, ValueObjective, element_share, token_weights
from training.rollout_sample import Sample, best_and_worst
from training.rollouts import Group, PromptItem, Sampler
from training.schedule import learning_rate_factor
from training.scorers import PolicyScorer, ValueScorer

Means = dict[str, float]


class Parts(NamedTuple):
    """What the loop works with."""

    policy: PolicyScorer
    reference: PolicyScorer
    """Frozen; the policy before training."""
    critic: ValueScorer | None
    sampler: Sampler
    source: RewardSource
    items: Sequence[PromptItem]
    text: Callable[[Sequence[int]], str]
    """Tokens of a completion, without the one that ended it, to text."""
    pretraining: Sequence[Element] = ()


@dataclass
class Carried:
    """What goes from step to step and into checkpoints."""

    kl: KLController
    moments: RunningMoments = field(default_factory=RunningMoments)
    baseline: float | None = None
    recent_kl: list[float] = field(default_factory=list)


class RolloutLoop:
    """Runs the steps of one task."""

    def __init__(self, engine: Engine, section: PolicyGradientSection, parts: Parts) -> None:
        self.engine = engine
        self.section = section
        self.parts = parts
        self.carried = Carried(KLController(section.beta, section.kl_target, section.kl_horizon))
        self.trained = nn.ModuleDict({"policy": parts.policy, **({"critic": parts.critic} if parts.critic else {})})
        for scorer in (self.trained, parts.reference):
            engine.prepare(scorer)

    def run(self) -> Fit:
        """Train in place for the section's epochs, from the newest checkpoint if there is one.

        Raises:
            TrainingError: a loss, gradient or reward is no number (the last checkpoint stays), or a foreign checkpoint.
            StoreError: a checkpoint cannot be written.
        """
        engine, section = self.engine, self.section
        steps = section.epochs * batching.steps_per_epoch(len(self.parts.items), section.batch_prompts)
        modules = [module for module in (self.parts.policy, self.parts.critic) if module is not None]
        for module in modules:
            engine.allow_recomputation(module)
        *prepared, self.optimiser = engine.accelerator.prepare(*modules, self._optimiser())
        self.modules = dict(zip(("policy", "critic"), prepared, strict=False))
        cursor = load_checkpoint(engine.checkpoints, self.trained, self.optimiser, engine.fingerprint)
        cursor = cursor or Cursor(0, {}, None)
        self._restore(cursor.objective)
        engine.log.keep_until(cursor.step)
        engine.log.write(PHASE, cursor.step, steps) if cursor.step == 0 else None
        started, tokens, stopped, done = time.perf_counter(), 0, cursor.stopped, cursor.step
        while done < steps and stopped is None:
            rate = section.learning_rate * learning_rate_factor(done, steps, section.warmup_fraction, section.schedule)
            stopped, means = self.step(done, rate)
            tokens += int(means.get("tokens", 0))
            done += stopped is None
            seconds = time.perf_counter() - started
            engine.log.write(PHASE, done, steps, {**means, "learning_rate": rate, "seconds": round(seconds, 3)})
            due = section.save_every_steps and done % section.save_every_steps == 0
            if due or done == steps or stopped or cancellation.asked():
                engine.save(Cursor(done, self._state(), stopped), self.trained, self.optimiser)
                cancellation.leave_if_asked()
        engine.accelerator.wait_for_everyone()
        return Fit(done, steps, tokens, time.perf_counter() - started, stopped)

    def step(self, step: int, rate: float) -> tuple[str | None, Means]:
        """One rollout batch; returns why training stops before learning from it, if so, and its metrics."""
        # 1. Prompts of this step, 2. completions of each by the policy as it is now.
        groups = self._sampled(step)
        # 3. A score for each completion from the reward source, or none.
        batch, scored = self._scored(groups)
        # 4. Shape scores: missing end, normalisation, clip.
        score_N = self._shaped(batch, scored)
        # 5. Log-probabilities of policy and reference and the critic's values, by the trainer's own arithmetic.
        sample = self._recomputed(batch, scored, score_N, step)
        means = rollout_metrics.describe(sample) | {"kl_coefficient": self.carried.kl.value}
        if stopped := self._too_far(means["kl"]):
            return stopped, means
        # 6. to 8. Advantages, and passes over the batch.
        learnt = self._preferences(sample, step, rate) if self._online_dpo else self._gradients(sample, step, rate)
        # 9. Once for each batch: the KL controller.
        self.carried.kl = self.carried.kl.updated(means["kl"], len(batch.rollouts))
        return None, means | learnt

    @property
    def _online_dpo(self) -> bool:
        return self.section.algorithm == "online_dpo"

    def _sampled(self, step: int) -> list[Group]:
        """Completions of the step's prompts; several processes sample a share each and exchange them."""
        section, accelerator = self.section, self.engine.accelerator
        items = batching.step_elements(self.parts.items, step, section.batch_prompts, self.engine.seed)
        rank, processes = accelerator.process_index, accelerator.num_processes
        seed = int(digest(["rollout", self.engine.seed, step, rank])[:15], 16)
        self.parts.sampler.refresh()
        with accelerator.autocast():
            mine = items[rank::processes]
            drawn = self.parts.sampler.sample(mine, section.completions_per_prompt, seed) if mine else []
        numbered = list(zip(range(rank, len(items), processes), drawn, strict=True))
        if processes > 1:
            numbered = sorted(gather_object(numbered))
        return [Group(items[place], completions) for place, completions in numbered]

    def _scored(self, groups: Sequence[Group]) -> tuple[Batch, Scored]:
        rollouts = []
        for group in groups:
            for sampled in group.completions:
                body = sampled.tokens[:-1] if sampled.finish_reason == "stop" else sampled.tokens
                rollouts.append(Rollout(group.item, sampled, self.parts.text(body)))
        batch = Batch(groups, [group.element for group in groups], rollouts)
        return batch, self.parts.source.score(batch)

    def _shaped(self, batch: Batch, scored: Scored) -> Tensor:
        """Scores with penalty, normalisation and clip, (N,) float32; 0 where there is none."""
        section, has_N = self.section, scored.has_score_N
        finished_N = torch.tensor([rollout.sampled.finish_reason == "stop" for rollout in batch.rollouts])
        score_N = without_end_penalty(scored.value_N, finished_N, section.missing_end_penalty)
        if section.reward_normalisation == "running":
            self.carried.moments = self.carried.moments.updated(score_N[has_N].tolist())
            score_N = self.carried.moments.normalised(score_N)
        if section.reward_clip is not None:
            score_N = score_N.clamp(-section.reward_clip, section.reward_clip)
        return score_N.nan_to_num(0.0).float()

    def _recomputed(self, batch: Batch, scored: Scored, score_N: Tensor, step: int) -> Sample:
        """Per-token values of policy, reference and critic before the first optimiser step on the batch.

        The policy's are computed on the minibatches of the first pass, cut as learning cuts them, so that the first
        ratio is exactly 1 and not nearly.
        """
        engine, parts = self.engine, self.parts
        old: dict[int, Tensor] = {}
        value: dict[int, Tensor] = {}
        for elements in self._minibatches(batch.elements, step, 0):
            found = engine.score_tokens(parts.policy, elements, lambda output: output.token_M)
            old |= zip(map(id, elements), found, strict=True)
            if parts.critic is not None:
                values = engine.score_tokens(parts.critic, elements, lambda value_M: value_M)
                value |= zip(map(id, elements), values, strict=True)
        reference = engine.score_tokens(parts.reference, batch.elements, lambda output: output.token_M)
        sampler = [
            torch.tensor([logprob for sampled in group.completions for logprob in sampled.logprobs])
            for group in batch.groups
        ]
        olds = [old[id(element)] for element in batch.elements]
        values = [value.get(id(e), torch.zeros_like(o)) for e, o in zip(batch.elements, olds, strict=True)]
        return Sample(batch, scored, score_N, olds, reference, values, sampler)

    def _too_far(self, kl: float) -> str | None:
        """Why training stops: the mean KL of the last batches exceeds the limit."""
        self.carried.recent_kl = [*self.carried.recent_kl, kl][-KL_WINDOW:]
        recent, limit = self.carried.recent_kl, self.section.max_kl
        mean = sum(recent) / len(recent)
        if limit is None or len(recent) < KL_WINDOW or mean <= limit:
            return None
        return f"the KL to the reference is {mean:.3f} nats per reply, above max_kl = {limit}"

    def _minibatches(self, elements: Sequence[Element], step: int, epoch: int) -> list[list[Element]]:
        """The batch in equal parts, shuffled for each pass by seed."""
        order = list(elements)
        random.Random(f"minibatch/{self.engine.seed}/{step}/{epoch}").shuffle(order)
        count = min(self.section.minibatches, len(order))
        return [order[place::count] for place in range(count)]

    def _gradients(self, sample: Sample, step: int, rate: float) -> Means:
        """Steps 6 to 8 of every algorithm with advantages."""
        section = self.section
        # 6. Rewards of tokens, advantages, whitening.
        advantage_NT, return_NT, means = self._advantages(sample)
        experience = self._experience(sample, advantage_NT, return_NT)
        kl = self.carried.kl.value
        policy = PolicyObjective(section, experience, kl)
        critic = ValueObjective(section, experience)
        learning = step >= (section.critic_warmup_steps or 0)
        found: list[Means] = []
        for epoch in range(section.method.epochs_per_batch):
            stopped = None
            for number, elements in enumerate(self._minibatches(sample.batch.elements, step, epoch)):
                if not any(critic.weight(element) for element in elements):
                    continue
                # 7. The critic, 8. the policy, each with its own gradient norm.
                if self.parts.critic is not None:
                    _, value = self.engine.update(self.modules["critic"], self.optimiser, elements, critic, rate)
                    found.append({"value_loss": value["loss"], "tokens": value["tokens"]})
                if learning:
                    place = (step * section.method.epochs_per_batch + epoch) * section.minibatches + number
                    mixed = [*elements, *self._pretraining(elements, experience, policy, place)]
                    stopped, moved = self.engine.update(self.modules["policy"], self.optimiser, mixed, policy, rate)
                    found.append(moved)
                if stopped:
                    break
            if stopped:
                break
        return means | rollout_metrics.combined(found) | {"ratio_max": policy.largest_ratio, "passes": epoch + 1.0}

    def _advantages(self, sample: Sample) -> tuple[Tensor, Tensor, Means]:
        """Advantages and the critic's targets, (N, T) each.

        In float64: divided by the deviation of a group of equal scores, float32's rounding would not be small.
        """
        section, method = self.section, self.section.method
        old_NT, reference_NT = sample.rows(sample.old).double(), sample.rows(sample.reference).double()
        counts_N = torch.tensor(sample.counts)
        coefficient = self.carried.kl.value if method.kl_in == "reward" else 0.0
        mask_NT = torch.arange(old_NT.shape[1]) < counts_N[:, None]
        group_N = torch.arange(len(sample.batch.elements)).repeat_interleave(
            torch.tensor([len(element.completions) for element in sample.batch.elements])
        )
        reward_NT = token_rewards(sample.score_N.double(), old_NT - reference_NT, counts_N, coefficient)
        value_NT = sample.rows(sample.value).double() if self.parts.critic is not None else None
        outcomes = Outcomes(reward_NT, mask_NT, sample.scored.has_score_N, group_N, value_NT)
        knobs = Knobs(
            section.gamma, 0.95 if section.gae_lambda is None else section.gae_lambda, self._baseline(outcomes)
        )
        advantage_NT = advantages(cast(AdvantageName, method.advantage), outcomes, knobs)
        value_NT = torch.zeros_like(reward_NT) if value_NT is None else value_NT
        return_NT = advantage_NT + value_NT
        means = rollout_metrics.of_advantages(outcomes, advantage_NT, return_NT)
        if method.whiten:
            advantage_NT = whiten(advantage_NT, outcomes.counted_NT)
        return advantage_NT.float(), return_NT.float(), means

    def _baseline(self, outcomes: Outcomes) -> float:
        """The moving mean return as it was before this batch moves it; the first batch takes its own."""
        decay = self.section.moving_baseline
        if decay is None or not outcomes.scored_N.any():
            return 0.0
        mean = float(mean_return(outcomes))
        before = mean if self.carried.baseline is None else self.carried.baseline
        self.carried.baseline = decay * before + (1 - decay) * mean
        return before

    def _experience(self, sample: Sample, advantage_NT: Tensor, return_NT: Tensor) -> dict[int, Experience]:
        section, aggregation = self.section, self.section.method.aggregation
        kept = iter(sample.scored.has_score_N.tolist())
        rows = zip(
            sample.batch.elements, sample.sampler, sample.old, sample.reference, sample.columns(advantage_NT),
            sample.value, sample.columns(return_NT), strict=True,
        )  # fmt: skip
        found = {}
        for element, sampler_M, old_M, reference_M, advantage_M, value_M, return_M in rows:
            counts = [len(completion) for completion in element.completions]
            counted = [next(kept) for _ in counts]
            weight_M = token_weights(counts, counted, aggregation, section.max_tokens)
            share = element_share(counts, counted, aggregation)
            found[id(element)] = Experience(
                sampler_M, old_M, reference_M, advantage_M, value_M, return_M, weight_M, torch.zeros_like(old_M), share
            )
        return found

    def _pretraining(
        self, elements: Sequence[Element], experience: dict[int, Experience], policy: PolicyObjective, place: int
    ) -> list[Element]:
        """PPO-ptx: the elements whose likelihood joins this optimiser step (arXiv 2203.02155, equation 2, γ).

        The engine divides the whole sum by the rollouts' denominator; the weights undo that for these tokens.
        """
        section = self.section
        if not self.parts.pretraining:
            return []
        drawn = batching.step_elements(self.parts.pretraining, place, section.pretraining_prompts, self.engine.seed)
        tokens = sum(len(completion) for element in drawn for completion in element.completions)
        share = sum(map(policy.weight, elements))
        for element in drawn:
            zeros = torch.zeros(sum(map(len, element.completions)))
            weight_M = torch.full_like(zeros, section.pretraining_weight * share / tokens)
            experience[id(element)] = Experience(zeros, zeros, zeros, zeros, zeros, zeros, zeros, weight_M, 0.0)
        return drawn

    def _preferences(self, sample: Sample, step: int, rate: float) -> Means:
        """Steps 6 to 8 of online DPO: the best and the worst completion of each prompt are a pair."""
        section = self.section
        soft = section.soft_labels is not False
        pairs, reference = best_and_worst(sample)
        means = {"pairs": float(len(pairs))}
        if not pairs:
            return means
        kl = self.carried.kl.value
        settings = PreferenceSection(beta=kl, soft_labels=soft)
        objective = PreferenceObjective(settings, pairs, reference)
        found: list[Means] = []
        for epoch in range(section.method.epochs_per_batch):
            for elements in self._minibatches(pairs, step, epoch):
                found.append(self.engine.update(self.modules["policy"], self.optimiser, elements, objective, rate)[1])
        combined = rollout_metrics.combined(found)
        # The objective's own KL is of the two chosen completions; that of all of them is measured already.
        return means | {name: value for name, value in combined.items() if name not in ("kl", "kl_forward")}

    def _optimiser(self) -> torch.optim.Optimizer:
        """One AdamW over both modules; the critic's parameters carry their own rate."""
        optimiser = make_optimiser(self.parts.policy, self.section)
        if self.parts.critic is not None:
            wanted = self.section.critic_learning_rate or 3 * self.section.learning_rate
            for group in make_optimiser(self.parts.critic, self.section).param_groups:
                optimiser.add_param_group({**group, "rate_factor": wanted / self.section.learning_rate})
        return optimiser

    def _state(self) -> dict[str, Any]:
        carried = self.carried
        return {
            "kl": carried.kl.value,
            "moments": carried.moments._asdict(),
            "baseline": carried.baseline,
            "recent_kl": carried.recent_kl,
            "source": self.parts.source.state(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        if not state:
            return
        self.carried.kl = self.carried.kl._replace(value=state["kl"])
        self.carried.moments = RunningMoments.of(state["moments"])
        self.carried.baseline = state["baseline"]
        self.carried.recent_kl = list(state["recent_kl"])
        self.parts.source.restore(state["source"])
