"""One side of `bench.training` in a process of its own: a task on our engine or on TRL, timed step by step.

    python -m bench.training_sides SIDE CASE FOLDER

FOLDER holds a random model and the data that `bench.training` wrote; both sides read the same files. The first steps
are left out (caches, lazy initialisation), and so is everything before training: loading, tokenising, the reference's
log-probabilities, which both sides of DPO compute once. A step of GRPO is everything but generation: both sides are
handed the same completions, score them, compute reference and gradient, and update. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

WARM_STEPS = 2
"""Steps that do not count."""


class Case(NamedTuple):
    """What is trained on, the same for both sides."""

    task: str
    completions: int
    """K: completions of a prompt, all of whose pairs are trained on."""
    prompts_per_step: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def pairs(self) -> int:
        """Pairs of one prompt."""
        return self.completions * (self.completions - 1) // 2

    @property
    def items_per_step(self) -> int:
        """Pairs of one optimiser step, equal on both sides; completions where there are no pairs."""
        return self.prompts_per_step * (self.completions if self.task == "policy_gradient" else self.pairs)


CASES = {
    "dpo": Case("preference", 2, 16, 54, 35),
    "reward": Case("reward_model", 2, 16, 54, 35),
    "ranking of 4": Case("reward_model", 4, 4, 54, 35),
    "ranking of 9": Case("reward_model", 9, 2, 54, 35),
    "dpo, long prompts": Case("preference", 2, 4, 400, 100),
    "GRPO update": Case("policy_gradient", 8, 2, 500, 200),
}
LEARNING_RATE = 1e-4
TRL_MICRO_BATCH = 24
"""Pairs that TRL computes at once; 16 and 48 were no faster."""
KL_COEFFICIENT = 0.04
LONGEST_COMPLETION = 4 / 3
"""Times the mean, as `bench.training` draws lengths."""


class StepClock:
    """Processor and wall time at the end of every step."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """A step has ended."""
        self._marks.append((time.process_time(), time.perf_counter()))

    def report(self, case: Case) -> dict[str, float]:
        """Pairs or completions per second over the steps that count, and the process's peak memory."""
        first, last = self._marks[WARM_STEPS - 1], self._marks[-1]
        items = (len(self._marks) - WARM_STEPS) * case.items_per_step
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "per_cpu_s": items / (last[0] - first[0]),
            "per_s": items / (last[1] - first[1]),
            "peak_mib": peak_kib / 1024,
            "steps": len(self._marks) - WARM_STEPS,
        }


def ours(case: Case, folder: Path) -> dict[str, float]:
    """The product's own task, whole; the clock hangs on the objective's last call of each step."""
    if case.task == "policy_gradient":
        return ours_grpo(case, folder)
    from ratify.sections import PreferenceSection, RewardModelSection
    from training.preference import PreferenceObjective, train_preference
    from training.reward_model import RewardObjective, train_reward_model
    from training.spec import PreferenceTask, RewardModelTask

    clock = StepClock()
    common: dict[str, Any] = {
        "learning_rate": LEARNING_RATE, "batch_prompts": case.prompts_per_step, "threads": 1, "save_every_steps": 0,
    }  # fmt: skip
    files = {"data": folder / "pairs.jsonl", "out": folder / f"ours-{os.getpid()}", "model": str(folder / "model")}
    if case.task == "preference":
        _clock_steps(PreferenceObjective, clock)
        train_preference(PreferenceTask(section=PreferenceSection(**common), **files), "bench")
    else:
        _clock_steps(RewardObjective, clock)
        likelihood = "kwise" if case.completions > 2 else "bradley_terry"
        section = RewardModelSection(**common, likelihood=likelihood, centering=0.0, validation_fraction=1e-6)
        train_reward_model(RewardModelTask(section=section, **files), "bench")
    return clock.report(case)


def _clock_steps(objective: type[Any], clock: StepClock) -> None:
    """The engine asks for a reason to stop once a step."""
    ask = objective.stop_reason

    def stop_reason(self: Any, means: Mapping[str, float]) -> str | None:
        clock.mark()
        reason: str | None = ask(self, means)
        return reason

    objective.stop_reason = stop_reason


def trl(case: Case, folder: Path) -> dict[str, float]:
    """TRL's trainer with its cheapest settings: no gradient checkpointing, the reference computed beforehand."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer  # noqa: TID251 - the peer, in its own process

    clock = StepClock()

    class Clock(TrainerCallback):
        def on_step_end(self, *_args: object, **_kwargs: object) -> None:
            clock.mark()

    if case.task == "policy_gradient":
        return trl_grpo(case, folder)
    micro = min(TRL_MICRO_BATCH, case.items_per_step)
    settings: dict[str, Any] = {
        "output_dir": str(folder / f"trl-{os.getpid()}"), "learning_rate": LEARNING_RATE, "num_train_epochs": 1,
        "per_device_train_batch_size": micro, "gradient_accumulation_steps": case.items_per_step // micro,
        "gradient_checkpointing": False, "bf16": False, "use_cpu": True, "report_to": "none", "save_strategy": "no",
        "logging_strategy": "no", "disable_tqdm": True, "max_length": 2048,
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    data = datasets.load_dataset("json", data_files=str(folder / "pairs.jsonl"), split="train")
    data = data.select_columns(["prompt", "chosen", "rejected"])
    common = {"train_dataset": data, "processing_class": tokenizer, "callbacks": [Clock()]}
    if case.task == "preference":
        model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32")
        arguments = DPOConfig(**settings, precompute_ref_log_probs=True)
        DPOTrainer(model=model, args=arguments, **common).train()
    else:
        head = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=1, dtype="float32")
        RewardTrainer(model=head, args=RewardConfig(**settings), **common).train()
    return clock.report(case)


class Given(NamedTuple):
    """A prompt with the completions that both sides learn from."""

    prompt: str
    prompt_ids: list[int]
    completion_ids: list[list[int]]


def read_given(folder: Path) -> list[Given]:
    """The prompts of a policy-gradient case."""
    lines = (folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    return [Given(**json.loads(line)) for line in lines]


def score_of(tokens: Sequence[int]) -> float:
    """A reward that costs nothing and differs within a group."""
    return float(sum(tokens) % 11)


def ours_grpo(case: Case, folder: Path) -> dict[str, float]:
    """The product's task with a sampler that hands out what is given."""
    from ratify.policy_gradient_section import PolicyGradientSection
    from training.policy_gradient import Extras, train_policy_gradient
    from training.rewards import FunctionReward
    from training.rollout_loop import RolloutLoop
    from training.rollouts import PromptItem, Sampled
    from training.spec import PolicyGradientTask

    clock, given = StepClock(), {tuple(each.prompt_ids): each for each in read_given(folder)}
    take = RolloutLoop.step

    def step(self: Any, *arguments: Any) -> Any:
        result = take(self, *arguments)
        clock.mark()
        return result

    class GivenSampler:
        def refresh(self) -> None:
            pass

        def sample(self, items: Sequence[PromptItem], completions: int, seed: int) -> list[tuple[Sampled, ...]]:
            del completions, seed
            return [
                tuple(Sampled(tuple(ids), (0.0,) * len(ids), "length") for ids in given[item.tokens].completion_ids)
                for item in items
            ]

    RolloutLoop.step = step  # type: ignore[method-assign, assignment]
    section = PolicyGradientSection(
        algorithm="grpo", learning_rate=LEARNING_RATE, batch_prompts=case.prompts_per_step, threads=1,
        completions_per_prompt=case.completions, max_tokens=round(case.completion_tokens * LONGEST_COMPLETION) + 1,
        kl_coefficient=KL_COEFFICIENT, importance_cap=None, save_every_steps=0,
    )  # fmt: skip
    task = PolicyGradientTask(
        section=section, data=folder / "prompts.jsonl", out=folder / f"ours-{os.getpid()}", model=str(folder / "model")
    )
    reward = FunctionReward("sum", lambda rollout: score_of(rollout.sampled.tokens))
    train_policy_gradient(task, "bench", Extras(source=reward, sampler=GivenSampler()))
    return clock.report(case)


def trl_grpo(case: Case, folder: Path) -> dict[str, float]:
    """TRL's GRPO trainer, one prompt's completions at once, with a rollout function that hands out what is given."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # noqa: TID251 - the peer, in its own process

    clock, given = StepClock(), {each.prompt: each for each in read_given(folder)}

    class Clock(TrainerCallback):
        def on_step_end(self, *_args: object, **_kwargs: object) -> None:
            clock.mark()

    def rollout(prompts: list[str], _trainer: Any) -> dict[str, Any]:
        places: dict[str, int] = {}
        found: dict[str, Any] = {"prompt_ids": [], "completion_ids": [], "logprobs": None}
        for prompt in prompts:
            number = places[prompt] = places.get(prompt, -1) + 1
            found["prompt_ids"].append(given[prompt].prompt_ids)
            found["completion_ids"].append(given[prompt].completion_ids[number])
        return found

    def reward(completion_ids: list[list[int]], **_others: Any) -> list[float]:
        return [score_of(ids) for ids in completion_ids]

    arguments = GRPOConfig(
        output_dir=str(folder / f"trl-{os.getpid()}"), learning_rate=LEARNING_RATE, num_train_epochs=1,
        per_device_train_batch_size=case.completions, gradient_accumulation_steps=case.prompts_per_step,
        num_generations=case.completions, beta=KL_COEFFICIENT, loss_type="grpo",
        max_completion_length=round(case.completion_tokens * LONGEST_COMPLETION) + 1,
        gradient_checkpointing=False, bf16=False, use_cpu=True, report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32"),
        args=arguments,
        reward_funcs=reward,
        rollout_func=rollout,
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in given]),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[Clock()],
    ).train()
    return clock.report(case)


def main(side: str, name: str, folder: str) -> None:
    """Run one side of one case."""
    import torch

    torch.set_num_threads(1)
    report = {"ours": ours, "trl": trl}[side](CASES[name], Path(folder))
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
