"""Stage `policy_gradient`: a further policy, trained on its own samples with the reward model of this round.

It starts from the same policy as stage `policy` does and sees the same training prompts, so that both can be compared.
Left out: judges as rewards, sampling with vLLM; evaluation takes the policy of stage `policy`.
"""

from __future__ import annotations

import json
from typing import Any

from flows.context import RunContext
from flows.stages.stage import Metrics, Stage
from flows.stages.train import REWARD_MODEL, run_task, trained_reward_model
from generation.model_folder import check_model
from ratify.canonical import digest, model_digest
from ratify.files import write_text
from ratify.prompts import load_prompts
from ratify.run_store import StageStore
from training.spec import KNOBS, PolicyGradientTask

NAME = "policy_gradient"
PROMPTS = "prompts.jsonl"


def _prompt_rows(context: RunContext) -> list[dict[str, Any]]:
    """The training prompts as conversations."""
    config = context.config
    prompts = load_prompts(config.prompts.train, config.prompts.train_limit, config.run.seed)
    return [
        {"prompt_id": prompt.id, "prompt": [message.model_dump() for message in prompt.messages]} for prompt in prompts
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
    }


def _reward_model_files(context: RunContext) -> dict[str, str]:
    """Hashes of the trained reward model's files, of all members and adapters."""
    files = context.manifest(REWARD_MODEL).files
    return {name: sha256 for name, sha256 in files.items() if name.startswith(("model/", "model-"))}


def _check(context: RunContext) -> None:
    check_model(context.config.policy.trainable, section="policy")
    _prompt_rows(context)


def _train(context: RunContext, stage: StageStore) -> Metrics:
    config = context.config
    data = stage.path / PROMPTS
    write_text(data, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _prompt_rows(context)))
    spec = PolicyGradientTask(
        section=config.policy_gradient,
        model=config.policy.trainable,
        reward_model=str(trained_reward_model(context)) if config.policy_gradient.needs_reward_model else None,
        data=data,
        out=stage.path,
        seed=config.run.seed,
        temperature=config.sampling.temperature or 1.0,
    )
    result = run_task(context, spec, f"training a policy with {config.policy_gradient.algorithm}")
    return {f"{NAME}/{key}": value for key, value in result.metrics.items()}


def _summary(metrics: Metrics) -> str:
    return (
        f"{metrics[f'{NAME}/steps']:.0f} of {metrics[f'{NAME}/planned_steps']:.0f} rollout batches, last reward "
        f"{metrics.get(f'{NAME}/train/reward', float('nan')):.3f}, "
        f"KL {metrics.get(f'{NAME}/train/kl', float('nan')):.2f} nats per reply"
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
