"""Every read-out on the real vLLM with the shipped judge: what the probe finds, and what each one gets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from generation.engine import serve
from generation.host import close_hosts
from judges.capabilities import FEATURES, probe, require_readout
from judges.label_tokens import check_label_tokens
from judges.model_judge import ModelJudge
from judges.questions import Question
from judges.readouts.reasoning import LEAD_IN
from judges.readouts.turns import CONTINUE, continued
from ratify.client import ChatClient
from ratify.lineage import ROOT
from ratify.sections import EngineSection, JudgeSection
from ratify.types import Failure, Verdict
from tests.judges.worlds import completion, constitution, prompt

ENGINE = EngineSection(
    dtype="float32", max_model_len=1024, max_num_seqs=16, block_size=32, kv_cache_gib=0.1, enforce_eager=True, threads=1
)
POLITE = constitution("id: polite, text: The reply is polite and respectful.").principles[0]
ASKED = prompt("p", "Do you know the capital of France?")
KIND = completion("Certainly, with pleasure. The capital of France is Paris.", "kind")
SETTINGS = (
    {}, {"protocol": "pairwise"}, {"readout": "score"}, {"readout": "reasoning", "max_text_tokens": 200},
    {"readout": "reasoning", "max_text_tokens": 200, "answer_turn": "turn"}, {"readout": "json", "max_text_tokens": 60},
    {"readout": "json", "schema_by": "structured_outputs", "max_text_tokens": 60},
    {"readout": "samples", "samples": 3, "max_text_tokens": 8},
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(300)
def test_the_real_server_can_do_every_readout(tmp_path: Path) -> None:
    judge = JudgeSection(model=str(ROOT / "data" / "demo" / "judge"), engine=ENGINE, min_coverage=0.0, timeout_s=60.0)

    async def run() -> list[Verdict]:
        async with (
            serve(judge, log_path=tmp_path / "vllm.log") as served,
            ChatClient(judge, served.base_url, served.model) as client,
        ):
            found = await probe(client, judge, FEATURES)
            assert (found.top_logprobs or 0) > 10 and found.prefill and found.seed
            assert found.response_format and found.structured_outputs
            begun = continued(ASKED.messages, "The capital is Paris." + LEAD_IN)
            led_on = await client.chat(begun, max_tokens=1, temperature=0, top_logprobs=20, extra_body=CONTINUE)
            assert led_on.first_token and len(led_on.first_token) > 10
            return [await _answer(client, JudgeSection(**{**judge.model_dump(), **each})) for each in SETTINGS]

    try:
        verdicts = asyncio.run(run())
    finally:
        close_hosts()
    assert verdicts[0].logit is not None and verdicts[0].logit > 0
    # The shipped judge was trained to say one word; what else it writes is a typed failure, never a number.
    assert all((verdict.logit is None) == (verdict.failure is not None) for verdict in verdicts)
    assert not any(verdict.failure in (Failure.TRANSPORT_ERROR, Failure.NO_LOGPROBS) for verdict in verdicts)


async def _answer(client: ChatClient, section: JudgeSection) -> Verdict:
    check_label_tokens(section)
    await require_readout(client, section)
    judge = ModelJudge(section, client, model_hash="m")
    second = completion("Paris, fool.", "rude") if section.protocol == "pairwise" else None
    return await judge.answer(Question(judge.key(POLITE, ASKED, KIND, second), POLITE, ASKED, KIND, second))
