"""Rollouts from the real vLLM: each batch from the weights as they are then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.stages.rollout_desk import TEMPERED, endpoint_of, serving_rollouts
from generation.host import close_hosts
from ratify.errors import EngineError
from ratify.lineage import ROOT
from ratify.policy_gradient_section import LengthSpec, PolicyGradientSection
from ratify.sections import EndpointSection, EngineSection
from training.served_sampler import DESK, Served, answer, answer_file, version_folder

POLICY = ROOT / "data" / "demo" / "policy"
ENGINE = EngineSection(max_model_len=256, max_num_seqs=16, block_size=32, kv_cache_gib=0.05, enforce_eager=True,
                       threads=1, start_timeout_s=240)  # fmt: skip
ENDPOINT = EndpointSection(model=str(POLICY), concurrency=16, engine=ENGINE)


@pytest.fixture
def no_hosts_left() -> Iterator[None]:
    """The warm host of a test does not outlive it, and accelerate's state is the next test's own."""
    from accelerate.state import AcceleratorState

    yield
    close_hosts()
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_server_computes_as_the_trainer_unless_told_otherwise() -> None:
    """Float32 for `auto`; log-probabilities behind the temperature whatever the engine's own arguments say."""
    given = ENGINE.model_copy(update={"extra_args": ("--logprobs-mode=raw_logprobs", "--seed=1")})
    remote = ENDPOINT.model_copy(update={"engine": given, "base_url": "http://127.0.0.1:1/v1", "replicas": ()})
    found = endpoint_of(remote, Path("weights"))
    assert found.base_url is None and found.model == "weights" and found.engine.dtype == "float32"
    assert found.engine.extra_args == ("--seed=1", TEMPERED)
    bfloat = ENGINE.model_copy(update={"dtype": "bfloat16"})
    assert endpoint_of(ENDPOINT.model_copy(update={"engine": bfloat}), Path("w")).engine.dtype == "bfloat16"


def test_a_policy_that_cannot_be_served_is_answered_with_the_fault(tmp_path: Path) -> None:
    """No configuration in the folder: the trainer hears so instead of waiting for ever. The mailbox goes in the end."""
    mailbox = tmp_path / "rollouts"
    engine = ENGINE.model_copy(update={"python": tmp_path / "no-python"})
    with (
        pytest.raises(EngineError, match="cannot be run"),
        serving_rollouts(ENDPOINT.model_copy(update={"engine": engine}), mailbox, tmp_path / "log.txt"),
    ):
        pass
    mailbox.mkdir(parents=True, exist_ok=True)
    answer(mailbox, 3, Served(fault="because"))
    assert Served.model_validate_json(answer_file(mailbox, 3).read_bytes()).fault == "because"
    assert version_folder(mailbox, 3).parent == mailbox and not (mailbox / DESK).exists()


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("no_hosts_left")
def test_every_batch_is_sampled_from_the_weights_of_its_time(tmp_path: Path) -> None:
    """Two steps of RLOO, the first with a learning rate that moves the policy far.

    The trainer gives the second batch's tokens the very probabilities that the server sampled them with, and others
    than the policy before training: so they are from the second weights, and not from a mixture.
    """
    from training.policy_gradient import train_policy_gradient
    from training.spec import PolicyGradientTask

    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt_id": f"p{n}", "prompt": [{"role": "user", "content": f"what is {n} + 3?"}]} for n in range(6)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = PolicyGradientSection(
        algorithm="rloo", sampler="vllm", batch_prompts=3, completions_per_prompt=4, max_tokens=16, max_length=128,
        epochs=1, learning_rate=3e-3, schedule="constant", warmup_fraction=0.0, save_every_steps=0,
        rewards=(LengthSpec(max_tokens=4, slack=8),),
    )  # fmt: skip
    task = PolicyGradientTask(section=section, data=prompts, out=tmp_path / "out", model=str(POLICY), temperature=0.8)
    with serving_rollouts(ENDPOINT, task.rollouts, tmp_path / "vllm.log"):
        _, result = train_policy_gradient(task, "test")
    assert result.metrics["steps"] == 2 and not task.rollouts.exists()
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    first, second = (line for line in lines if "sampler_ratio" in line)
    for step in (first, second):
        assert step["sampler_ratio"] == pytest.approx(1.0, abs=2e-3) and step["sampler_ratio_max"] < 1.05
        assert step["sampler_ratio/to_1.05"] == pytest.approx(1.0)
    assert first["kl"] == pytest.approx(0.0, abs=1e-3) and second["kl"] > 0.1
