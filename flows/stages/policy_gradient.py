"""Stage `policy_gradient`: a further policy, trained on its own samples with the reward model of this round, with the
judge itself, or with what functions can verify.

It starts from the same policy as stage `policy` does and sees the same training prompts, so that both can be compared;
`evaluation.policy` says which of them is evaluated. With `sampler = "vllm"` this process serves the weights of every
batch to the training process.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from constitutions.hashes import constitution_hash
from flows import console
from flows.context import RunContext
from flows.stages.judging import answering_judge, check_judge, constitution_of, judge_shape, make_judge, money_spent
from flows.stages.reward_judging import RewardJudge, calls_per_step, named_principles
from flows.stages.reward_service import Serving, Working, serving_rewards
from flows.stages.selection import training_prompts
from flows.stages.spending import judging_budget
from flows.stages.stage import Metrics, Stage
from flows.stages.train import REWARD_MODEL, run_task, trained_reward_model
from generation.model_folder import check_model
from ratify.canonical import digest, model_digest
from ratify.files import write_text
from ratify.run_store import StageStore
from training.devices import check_devices
from training.spec import KNOBS, AskedJudge, PolicyGradientTask

NAME = "policy_gradient"
PROMPTS = "prompts.jsonl"
JUDGED = f"{NAME}.judging"
"""First part of the metric keys about the judge."""


def _prompt_rows(context: RunContext) -> list[dict[str, Any]]:
    """The training prompts as conversations."""
    return [
        {"prompt_id": prompt.id, "prompt": [message.model_dump() for message in prompt.messages]}
        for prompt in training_prompts(context)
    ]


def _lineage(context: RunContext) -> dict[str, Any]:
    config = context.config
    section = config.policy_gradient
    settings = section.model_dump(mode="json")
    named = [path for reward_spec in section.rewards if reward_spec.kind == "model" for path in reward_spec.models]
    return {
        "prompts": digest(_prompt_rows(context)),
        "policy": model_digest(config.policy.trainable),
        "reward_model": _reward_model_files(context) if section.needs_reward_model else None,
        "named_models": [model_digest(path) for path in named],
        "section": {key: value for key, value in settings.items() if key not in KNOBS},
        "temperature": config.sampling.temperature,
        "seed": config.run.seed,
    } | ({"judge": _judge_identity(context)} if section.asked_rewards else {})


def _judge_identity(context: RunContext) -> dict[str, Any]:
    """What decides the answers of rewards that are asked for."""
    asks = bool(context.config.policy_gradient.judge_rewards)
    return {
        "constitution": constitution_hash(constitution_of(context)),
        "judge": make_judge(context).fingerprint if asks else None,
        "min_coverage": context.config.judge.min_coverage if asks else None,
    }


def _reward_model_files(context: RunContext) -> dict[str, str]:
    """Hashes of the trained reward model's files, of all members and adapters."""
    files = context.manifest(REWARD_MODEL).files
    return {name: sha256 for name, sha256 in files.items() if name.startswith(("model/", "model-"))}


def _check(context: RunContext) -> None:
    check_model(context.config.policy.trainable, section="policy")
    check_devices(NAME, context.config.policy_gradient)
    _prompt_rows(context)
    section = context.config.policy_gradient
    for reward in section.asked_rewards:
        named_principles(context, reward)
    if section.judge_rewards:
        check_judge(context)


def _train(context: RunContext, stage: StageStore) -> Metrics:
    data = stage.path / PROMPTS
    write_text(data, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _prompt_rows(context)))
    metrics = _trained(context, stage)
    if context.config.policy_gradient.keep_rollouts:
        questions = {prompt.id: prompt.messages[-1].content for prompt in training_prompts(context)}
        # Torch comes with it, which nothing else needs in this process.
        from flows.stages.frontier import PAGE, write_frontier

        found = write_frontier(context, stage, questions)
        console.announce("reward and KL", [f"{found.advice}; see {stage.path / PAGE}"])
    return metrics


def _trained(context: RunContext, stage: StageStore) -> Metrics:
    if not context.config.policy_gradient.asked_rewards:
        return _run(context, stage, None)
    figures: dict[str, float] = {}
    with serving_rewards(_serving(context, stage.path / "judge.log", figures)) as service:
        judge = AskedJudge(socket=service.path, identity=digest(_judge_identity(context)))
        metrics = _run(context, stage, judge)
    return metrics | figures


def _run(context: RunContext, stage: StageStore, judge: AskedJudge | None) -> Metrics:
    config = context.config
    section = config.policy_gradient
    spec = PolicyGradientTask(
        section=section,
        model=config.policy.trainable,
        reward_model=str(trained_reward_model(context)) if section.needs_reward_model else None,
        judge=judge,
        data=stage.path / PROMPTS,
        out=stage.path,
        seed=config.run.seed,
        temperature=config.sampling.temperature or 1.0,
    )
    most = calls_per_step(context)
    judged = f", which asks the judge at most {most:,} questions a step" if most else ""
    served = section.sampler == "vllm"
    # Torch comes with it, which nothing else needs in this process.
    from flows.stages.rollout_desk import serving_rollouts

    desk = serving_rollouts(config.policy, spec.rollouts, stage.path / "rollouts.log") if served else nullcontext()
    with desk:
        result = run_task(context, spec, f"training a policy with {section.algorithm}{judged}")
    return {f"{NAME}/{key}": value for key, value in result.metrics.items()}


def _serving(context: RunContext, log_path: Path, figures: dict[str, float]) -> Serving:
    """Whoever answers the rewards, as long as it is needed; what it took goes into `figures`."""
    asks = bool(context.config.policy_gradient.judge_rewards)

    async def serve(work: Working) -> None:
        store = context.verdict_store()
        try:
            if not asks:
                await work(RewardJudge(context, training_prompts(context), None, store).answer)
                return
            async with answering_judge(context, log_path) as judge:
                with judging_budget(context, judge_shape(context)) as budget:
                    answering = RewardJudge(context, training_prompts(context), judge, store, budget)
                    await work(answering.answer)
            found = answering.statistics
            metrics = found.metrics() | money_spent(context, found)
            figures.update({key.replace("label/", f"{JUDGED}/", 1): value for key, value in metrics.items()})
        finally:
            store.close()

    return serve


def _summary(metrics: Metrics) -> str:
    calls = metrics.get(f"{JUDGED}/calls/count")
    judged = "" if calls is None else (
        f"; the judge gave {calls:,} new verdicts, {metrics[f'{JUDGED}/verdicts/reused']:,} were known"
    )  # fmt: skip
    return (
        f"{metrics[f'{NAME}/steps']:.0f} of {metrics[f'{NAME}/planned_steps']:.0f} rollout batches, last reward "
        f"{metrics.get(f'{NAME}/train/reward', float('nan')):.3f}, "
        f"KL {metrics.get(f'{NAME}/train/kl', float('nan')):.2f} nats per reply{judged}"
    )


TRAIN_POLICY_GRADIENT = Stage(
    NAME,
    "training a policy on its own samples",
    _lineage,
    _train,
    _summary,
    _check,
    wanted=lambda context: context.config.policy_gradient.enabled,
)
