"""What a server echoes is cleaned of keys, credentials and the request's own text before anyone keeps it."""

from __future__ import annotations

import json

import pytest

from ratify.redaction import redact

PROMPT = 'My password is "hunter2-ü", what now?'


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer SECRET99xyz",
        '{"authorization": "Bearer SECRET99xyz"}',
        "'Authorization': 'Basic SECRET99xyz=='",
        "proxy-authorization=SECRET99xyz",
        "got bearer SECRET99xyz in the header",
        "x-api-key: SECRET99xyz",
        '"api_key": "SECRET99xyz"',
        "Incorrect API key provided: sk-proj-SECRET99xyzabcdefgh",
        "token hf_SECRET99xyzabcdefgh",
        "Set-Cookie: SECRET99xyz; Path=/",
    ],
)
def test_whatever_looks_like_a_credential_is_taken_out(text: str) -> None:
    assert "SECRET99" not in redact(text) and "[redacted]" in redact(text)


@pytest.mark.parametrize(
    "text", ["The bearer of this letter", "the basic idea is fine", "task-driven", "HTTP 500: oops"]
)
def test_plain_words_stay(text: str) -> None:
    assert redact(text) == text


def test_the_process_own_key_is_taken_out_wherever_it_stands() -> None:
    assert redact("echo: abc!long-key-9!def", ["!long-key-9!"]) == "echo: abc[redacted]def"


def test_a_stand_in_for_a_key_is_no_secret() -> None:
    assert redact("the list is EMPTY, a none", ["EMPTY", "none", "a", ""]) == "the list is EMPTY, a none"


def test_a_prompt_is_taken_out_as_it_is_and_as_json_writes_it() -> None:
    for echo in (PROMPT, json.dumps(PROMPT), json.dumps({"messages": [{"content": PROMPT}]}, ensure_ascii=False)):
        assert "hunter2" not in redact(f"bad request: {echo}", (), [PROMPT])
    assert redact("yes, a word", (), ["yes"]) == "yes, a word"


def test_an_echo_that_is_cut_off_is_taken_out_as_far_as_it_goes() -> None:
    prompt = "".join(f"Sentence {number} holds private matter number {number}.\n" for number in range(50))
    cleaned = redact(f"error near: {json.dumps(prompt)[1:1000]}", (), [prompt])
    assert cleaned.startswith("error near: [prompt]") and len(cleaned) < 100
