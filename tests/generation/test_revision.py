"""Critique-and-revision against a fake server: what is sent, what is kept, how it resumes, how it fails."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from generation.revision import Draft, Revised, draw_request, read_revised, revise_replies
from generation.revision_prompts import RevisionScript, messages_hash
from generation.revision_records import RevisionExample, RevisionRequest
from ratify.client import ChatClient
from ratify.errors import EndpointError, StoreError
from ratify.sections import EndpointSection, RevisionSection
from ratify.types import Completion, Failure, Message, Prompt
from tests.generation.fake_chat_server import MODEL, Answer, FakeChatServer, serving

SECTION = RevisionSection(revisions=2, temperature=0.7, top_p=0.9, max_tokens=16, shard_size=2, failure_budget=0.5)
REQUESTS = [RevisionRequest(name, f"where is it not {name}?", f"make it {name}") for name in ("kind", "true", "short")]
EXAMPLE = RevisionExample("ask", "bad", "where?", "there", "mend", "good")
CRITIQUE, REVISION = "Write only the critique.", "Write only the new reply, as the person should have received it."


def draft(number: int, requests: Sequence[RevisionRequest] = REQUESTS) -> Draft:
    prompt = Prompt(id=f"p{number}", messages=(Message(role="user", content=f"question {number}"),))
    first = Completion(
        id=f"p{number}/first/0", prompt_id=prompt.id, text=f"reply {number}", finish_reason="stop", prompt_tokens=2,
        completion_tokens=2, seed=0,
    )  # fmt: skip
    return Draft(prompt, first, requests)


DRAFTS = [draft(number) for number in range(5)]


def is_critique(body: dict[str, Any]) -> bool:
    return bool(body["messages"][-1]["content"].endswith(CRITIQUE))


def scripted(body: dict[str, Any]) -> str:
    """A critique names its request; a revision appends one word to the reply it was made of."""
    last = body["messages"][-1]["content"].splitlines()[0]
    return f"critique: {last}" if is_critique(body) else f"{body['messages'][-4]['content']} {last.split()[-1]}"


def revise(
    folder: Path,
    answer: Callable[[dict[str, Any]], Answer] = scripted,
    drafts: Sequence[Draft] = DRAFTS,
    section: RevisionSection = SECTION,
    script: RevisionScript | None = None,
    concurrency: int = 4,
) -> tuple[Revised, FakeChatServer]:
    async def run() -> tuple[Revised, FakeChatServer]:
        endpoint = EndpointSection(model=MODEL, max_retries=0)
        async with serving(answer) as fake, ChatClient(endpoint, fake.base_url, MODEL) as client:
            made = await revise_replies(
                drafts, client, section, script or RevisionScript(), folder=folder, seed=11, concurrency=concurrency
            )
            return made, fake

    return asyncio.run(run())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_each_step_is_a_critique_and_a_revision_of_the_reply_before(tmp_path: Path) -> None:
    made, fake = revise(tmp_path, drafts=DRAFTS[:1])
    (one,) = made.replies
    drawn = [draw_request(REQUESTS, 11, "p0/first/0", number) for number in (1, 2)]
    assert [step.principle for step in one.steps] == [request.principle for request in drawn]
    first, second = (request.principle for request in drawn)
    assert [each.text for each in one.completions()] == [f"reply 0 {first}", f"reply 0 {first} {second}"]
    assert [each.id for each in one.completions()] == ["p0/revision-1/0", "p0/revision-2/0"]
    sent = [[(turn["role"], turn["content"]) for turn in body["messages"]] for body in fake.requests]
    asked = [("user", "question 0"), ("assistant", "reply 0"), ("user", f"{drawn[0].critique}\n\n{CRITIQUE}")]
    assert sent[0] == asked
    assert sent[1] == [
        *asked, ("assistant", f"critique: {drawn[0].critique}"), ("user", f"{drawn[0].revision}\n\n{REVISION}"),
    ]  # fmt: skip
    assert sent[2][:2] == [("user", "question 0"), ("assistant", f"reply 0 {first}")] and len(sent[2]) == 3
    body = fake.requests[0]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 16)
    assert len({body["seed"] for body in fake.requests}) == 4


def test_a_system_message_stays_first_and_examples_go_before_the_conversation() -> None:
    turns = (Message(role="system", content="be brief"), Message(role="user", content="hello"))
    script = RevisionScript([EXAMPLE])
    sent = script.critique(Prompt(id="s", messages=turns), "hi", REQUESTS[0])
    assert [turn.content.split("\n")[0] for turn in sent] == [
        "be brief", "ask", "bad", "where?", "there", "mend", "good", "hello", "hi", "where is it not kind?",
    ]  # fmt: skip
    roles = [turn.role for turn in sent]
    assert roles[0] == "system" and roles[1:] == ["user", "assistant"] * 4 + ["user"]
    assert script.hash != RevisionScript().hash


def test_what_was_sent_can_be_made_again_from_the_record(tmp_path: Path) -> None:
    script = RevisionScript([EXAMPLE])
    made, fake = revise(tmp_path, script=script)
    sent = {messages_hash([Message(**turn) for turn in body["messages"]]) for body in fake.requests}
    by_name = {request.principle: request for request in REQUESTS}
    for given, reply in zip(DRAFTS, made.replies, strict=True):
        text = given.first.text
        for step in reply.steps:
            request = by_name[step.principle]
            asked = script.critique(given.prompt, text, request)
            assert messages_hash(asked) == step.critique.messages_hash and request.hash == step.requests_hash
            assert messages_hash(script.revision(asked, step.critique.text, request)) == step.revision.messages_hash
            sent -= {step.critique.messages_hash, step.revision.messages_hash}
            text = step.revision.text
    assert not sent


def test_draws_are_uniform_and_know_no_order() -> None:
    names = [f"p{number}/first/0" for number in range(3000)]
    drawn = [draw_request(REQUESTS, 0, name, 1).principle for name in names]
    # Three standard deviations of a binomial count with n = 3000 and p = 1/3 are 77.
    assert all(abs(count - 1000) < 78 for count in Counter(drawn).values())
    assert drawn == [draw_request(REQUESTS[::-1], 0, name, 1).principle for name in names]
    assert drawn != [draw_request(REQUESTS, 0, name, 2).principle for name in names]
    assert drawn != [draw_request(REQUESTS, 1, name, 1).principle for name in names]


def test_one_more_principle_takes_its_share_and_moves_no_other_draw() -> None:
    names = [f"p{number}/first/0" for number in range(3000)]
    more = [*REQUESTS, RevisionRequest("plain", "c", "r")]
    before = [draw_request(REQUESTS, 0, name, 1).principle for name in names]
    after = [draw_request(more, 0, name, 1).principle for name in names]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"plain"} and abs(len(moved) - 750) < 72


def test_the_order_of_the_work_moves_no_byte(tmp_path: Path) -> None:
    revise(tmp_path / "one", concurrency=1)
    revise(tmp_path / "many", concurrency=5)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_existing_shards_are_read_and_only_missing_ones_asked(tmp_path: Path) -> None:
    first, _ = revise(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "revised-00001.jsonl").unlink()
    again, fake = revise(tmp_path)
    assert again.replies == first.replies == read_revised(tmp_path)
    assert {body["messages"][0]["content"] for body in fake.requests} == {"question 2", "question 3"}
    assert contents(tmp_path) == before


def test_a_stop_in_the_middle_keeps_whole_shards_and_the_next_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def refuse_late(body: dict[str, Any]) -> Answer:
        return 401 if body["messages"][0]["content"] == "question 3" else scripted(body)

    with pytest.raises(EndpointError, match="key"):
        revise(tmp_path / "broken", refuse_late, concurrency=1)
    assert [path.name for path in sorted((tmp_path / "broken").iterdir())] == ["revised-00000.jsonl"]
    revise(tmp_path / "broken")
    revise(tmp_path / "whole")
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_shards_of_other_replies_are_refused(tmp_path: Path) -> None:
    revise(tmp_path)
    with pytest.raises(StoreError, match=r"revised-00000\.jsonl holds revisions of other replies"):
        revise(tmp_path, drafts=DRAFTS[::-1])


REFUSED = {"message": {"role": "assistant", "content": None, "refusal": "I will not."}}
FAULTS: dict[str, tuple[Answer, Failure, str]] = {
    "an empty text": ("  ", Failure.PARSE_ERROR, "is empty"),
    "a refusal": (REFUSED, Failure.REFUSED, "I will not."),
    "a server fault": (500, Failure.TRANSPORT_ERROR, "the fake fails here"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("part", ["critique", "revision"])
def test_a_failure_ends_that_reply_and_is_kept_with_the_steps_before(name: str, part: str, tmp_path: Path) -> None:
    fault, kind, raw = FAULTS[name]

    def fail_once(body: dict[str, Any]) -> Answer:
        """The second step of the third reply."""
        late = body["messages"][0]["content"] == "question 2" and body["messages"][1]["content"] != "reply 2"
        return fault if late and is_critique(body) == (part == "critique") else scripted(body)

    made, _ = revise(tmp_path, fail_once)
    reply = made.replies[2]
    assert reply.failed is not None and len(reply.steps) == 1
    assert (reply.failed.number, reply.failed.part, reply.failed.failure) == (2, part, kind)
    assert raw in reply.failed.raw and (reply.failed.critique is not None) == (part == "revision")
    assert made.metrics["revision/replies/failed"] == 1
    assert made.metrics[f"revision/failures/{part}_{kind}"] == 1
    again, fake = revise(tmp_path, fail_once)
    assert again.replies == made.replies and fake.requests == []


def test_too_many_failures_stop_and_are_asked_again(tmp_path: Path) -> None:
    section = SECTION.model_copy(update={"failure_budget": 0.1})
    with pytest.raises(EndpointError, match=r"1 of 5 replies could not be revised .*failure_budget = 10%.*HTTP 500"):
        revise(tmp_path, lambda body: 500 if "question 1" in str(body) else scripted(body), section=section)
    made, _ = revise(tmp_path, section=section)
    assert not [reply for reply in made.replies if reply.failed] and len(made.replies) == 5


def test_a_cut_off_text_is_kept_and_counted(tmp_path: Path) -> None:
    def cut(body: dict[str, Any]) -> Answer:
        message = {"role": "assistant", "content": scripted(body)}
        return {"message": message, "finish_reason": "stop" if is_critique(body) else "length"}

    made, _ = revise(tmp_path, cut)
    assert made.metrics["revision/steps/cut_revisions"] == 1 and made.metrics["revision/steps/cut_critiques"] == 0
    assert {each.finish_reason for reply in made.replies for each in reply.completions()} == {"length"}


def test_figures_count_steps_tokens_and_texts_that_stayed(tmp_path: Path) -> None:
    stubborn = [draft(0), draft(1, [RevisionRequest("kind", "c", "r", composed=True)]), draft(2, [])]
    made, fake = revise(
        tmp_path, lambda body: scripted(body) if is_critique(body) else body["messages"][-4]["content"], stubborn
    )
    assert made.replies[2].steps == () and made.replies[2].failed is None
    assert len(fake.requests) == 8
    figures = made.metrics
    assert figures["revision/replies/without_principle"] == 1 and figures["revision/steps/count"] == 4
    assert figures["revision/steps/unchanged"] == 1 and figures["revision/steps/composed_requests"] == 0.5
    assert figures["revision/length/revision_mean"] == 2 and figures["revision/tokens/prompt_count"] == 8 * 7


def test_records_are_json_lines_that_name_what_was_asked(tmp_path: Path) -> None:
    revise(tmp_path)
    row = json.loads((tmp_path / "revised-00000.jsonl").read_text().splitlines()[0])
    assert set(row["steps"][0]) == {"number", "principle", "requests_hash", "composed", "critique", "revision"}
    assert set(row["steps"][0]["critique"]) == {
        "text", "messages_hash", "seed", "finish_reason", "prompt_tokens", "completion_tokens",
    }  # fmt: skip
