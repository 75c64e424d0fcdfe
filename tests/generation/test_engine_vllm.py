"""The real vLLM on a model with random weights: it starts, samples, gives log-probabilities, leaves nothing behind."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from generation.engine import serve
from generation.host import close_hosts, host_for
from generation.sampling import sample_completions
from ratify.client import ChatClient
from ratify.sections import EndpointSection, EngineSection, SamplingSection
from ratify.types import Message, Prompt
from tests.generation.fake_vllm import PARENT

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENGINE = EngineSection(
    dtype="float32", max_model_len=256, max_num_seqs=16, block_size=32, kv_cache_gib=0.05, enforce_eager=True,
    threads=1, extra_args=("--max-num-batched-tokens", "300"),
)  # fmt: skip


def write_random_model(folder: Path) -> None:
    """A Qwen2 of one layer with head size 32, and a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    special = ["<|im_start|>", "<|im_end|>"]
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=special[1], pad_token=special[1])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=256, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)


async def seeded_burst(client: ChatClient, folder: Path) -> None:
    """More prompt tokens at once than a batch takes: a seeded request split over two kills vLLM 0.32 on a CPU."""
    long = [Prompt(id=f"long{i}", messages=(Message(role="user", content=f"{i} " + "word " * 40),)) for i in range(30)]
    section = SamplingSection(completions_per_prompt=2, max_tokens=4)
    burst = await sample_completions(long, client, section, folder=folder, policy_name="policy", seed=1)
    assert len(burst.completions) == 60


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_real_server_samples_gives_logprobs_compiles_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    write_random_model(tmp_path / "model")
    endpoint = EndpointSection(model=str(tmp_path / "model"), engine=ENGINE)
    prompts = [Prompt(id=f"p{i}", messages=(Message(role="user", content=f"say {i}"),)) for i in range(3)]
    section = SamplingSection(completions_per_prompt=2, max_tokens=8, shard_size=2)

    async def run(folder: Path) -> list[psutil.Process]:
        async with serve(endpoint, log_path=tmp_path / "vllm.log") as served:
            processes = psutil.Process(host_for(ENGINE).pid).children(recursive=True)
            async with ChatClient(endpoint, served.base_url, served.model) as client:
                await client.check()
                first = await sample_completions(prompts, client, section, folder=folder, policy_name="policy", seed=1)
                answer = await client.chat(prompts[0].messages, max_tokens=1, temperature=0, top_logprobs=20)
                await seeded_burst(client, tmp_path / "burst")
            assert [item.prompt_id for item in first.completions] == ["p0", "p0", "p1", "p1", "p2", "p2"]
            assert len({item.text for item in first.completions}) > 1
            assert all(0 < item.completion_tokens <= 8 for item in first.completions)
            assert answer.first_token is not None
            assert len(answer.first_token) >= 5
            assert 0 < sum(map(math.exp, answer.first_token.values())) <= 1.001
            return processes

    try:
        processes = asyncio.run(run(tmp_path / "shards"))
        assert len(processes) >= 2
        assert not psutil.wait_procs(processes, timeout=8)[1]
        assert not list((tmp_path / "compiled").rglob("*.cpp"))
    finally:
        close_hosts()


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_no_vllm_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model")
    endpoint = EndpointSection(model=str(tmp_path / "model"), engine=ENGINE)
    command = [sys.executable, "-c", PARENT, endpoint.model_dump_json(), str(tmp_path / "vllm.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path.cwd())}) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"ready\n"
            family = psutil.Process(parent.pid).children(recursive=True)
            assert len(family) >= 3
            os.kill(parent.pid, signal.SIGKILL)
            until = time.monotonic() + 8
            while time.monotonic() < until and any(process.is_running() for process in family):
                time.sleep(0.1)
            assert [process for process in family if process.is_running() and process.status() != "zombie"] == []
        finally:
            parent.kill()
