"""What a server can do: asked by tiny requests, and refused in one sentence that names what it can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from judges import capabilities
from judges.capabilities import FEATURES, Capabilities, needed, probe, require_readout
from ratify.errors import EndpointError
from ratify.sections import JudgeSection
from tests.judges.readouts.scripted_server import Says, Script, ScriptedServer, section, with_server

TWENTY = {"Yes": 0.5, "No": 0.2} | {f"t{number}": 0.01 for number in range(18)}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    capabilities._known.clear()
    yield
    capabilities._known.clear()


def server_that(*, logprobs: int = 20, schema: bool = True, structured: bool = True, prefill: str = "continues",
                seed: bool = True) -> Script:  # fmt: skip
    """A server with some abilities; what it lacks it refuses with HTTP 400, or ignores where it says so."""

    def script(body: dict[str, Any]) -> Says:
        if body.get("top_logprobs", 0) > logprobs > 0:
            return Says(status=400, message=f"top_logprobs must be at most {logprobs}")
        lacking = ("seed" in body and not seed) or ("structured_outputs" in body and not structured)
        if lacking or ("continue_final_message" in body and prefill == "refuses"):
            return Says(status=400, message="unknown parameter")
        if ("response_format" in body and schema) or "structured_outputs" in body:
            return Says(json.dumps({"answer": "Yes"}))
        tokens = 20 if "continue_final_message" in body and prefill == "continues" else 24
        return Says("Yes", first=TWENTY if logprobs else None, prompt_tokens=tokens)

    return script


def found_of(settings: JudgeSection, script: Script, features: Any = FEATURES) -> Capabilities:
    async def work(client: Any, _server: ScriptedServer) -> Capabilities:
        return await probe(client, settings, features)

    found: Capabilities = with_server(settings, script, work)
    return found


def require(settings: JudgeSection, script: Script) -> tuple[Capabilities, list[dict[str, Any]]]:
    async def work(client: Any, server: ScriptedServer) -> tuple[Capabilities, list[dict[str, Any]]]:
        await require_readout(client, settings)
        return await require_readout(client, settings), server.requests

    answer: tuple[Capabilities, list[dict[str, Any]]] = with_server(settings, script, work)
    return answer


def refusal(settings: JudgeSection, script: Script) -> str:
    with pytest.raises(EndpointError) as caught:
        require(settings, script)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_can_do_everything() -> None:
    found = found_of(section(), server_that())
    assert found == Capabilities(
        top_logprobs=20, response_format=True, structured_outputs=True, prefill=True, seed=True
    )
    assert found.sentence() == "top_logprobs 20, response_format yes, structured_outputs yes, prefill yes, seed yes"


def test_a_server_that_can_do_nothing_but_text() -> None:
    script = server_that(logprobs=0, schema=False, structured=False, prefill="refuses", seed=False)
    found = found_of(section(), script)
    assert found.top_logprobs == 0 == found.fewer_logprobs
    assert not any((found.response_format, found.structured_outputs, found.prefill, found.seed))


def test_a_server_that_ignores_the_request_to_continue_is_found_out_by_its_token_count() -> None:
    assert found_of(section(), server_that(prefill="ignores"), ("prefill",)).prefill is False


def test_a_server_that_ignores_a_schema_is_found_out_by_its_answer() -> None:
    assert found_of(section(), server_that(schema=False), ("response_format",)).response_format is False


def test_one_request_per_server_and_only_for_what_the_readout_needs() -> None:
    found, requests = require(section(), server_that())
    assert found == Capabilities(top_logprobs=20) and len(requests) == 1
    found, requests = require(section(readout="json"), server_that())
    assert found == Capabilities(response_format=True) and len(requests) == 1
    found, requests = require(section(readout="reasoning"), server_that())
    assert found == Capabilities(top_logprobs=20, prefill=True) and len(requests) == 3
    assert all(request["max_tokens"] <= 64 for request in requests)


def test_needs_by_readout() -> None:
    assert needed(section(readout="reasoning", answer_turn="turn")) == ("logprobs",)
    assert needed(section(readout="json", schema_by="structured_outputs")) == ("structured_outputs",)
    assert needed(section(readout="samples")) == ("seed",)


def test_a_server_without_log_probabilities_is_told_what_it_can_do() -> None:
    said = refusal(section(), server_that(logprobs=0))
    assert "cannot do judge.readout = 'logprobs' for 'fake': it gives no 20 log-probabilities" in said
    assert said.endswith("set judge.readout to one that it can do: 'json', 'samples'")


def test_a_server_that_stops_at_five_is_told_the_number_to_set() -> None:
    said = refusal(section(), server_that(logprobs=5, prefill="refuses", schema=False, structured=False, seed=False))
    five, turn = "judge.top_logprobs = 5", "judge.answer_turn = 'turn'"
    assert said.endswith(
        f": 'logprobs' with {five}, 'reasoning' with {five} and {turn}, 'score' with {five} and {turn}"
    )
    assert require(section(top_logprobs=5), server_that(logprobs=5))[0].top_logprobs == 5


def test_a_server_that_cannot_continue_a_message_is_offered_a_second_turn() -> None:
    said = refusal(section(readout="reasoning"), server_that(prefill="ignores"))
    assert "it does not continue a message" in said and "'reasoning' with judge.answer_turn = 'turn'" in said


def test_a_server_that_knows_only_vllm_s_form_is_offered_it() -> None:
    said = refusal(section(readout="json"), server_that(schema=False, logprobs=0))
    assert "follows no schema by response_format" in said
    assert "'json' with judge.schema_by = 'structured_outputs'" in said


def test_a_server_that_answers_nothing_is_not_called_incapable() -> None:
    assert "does not answer a request of one token" in refusal(section(), lambda _body: Says(status=500))
    assert "refuses the request (HTTP 401)" in refusal(section(), lambda _body: Says(status=401))
