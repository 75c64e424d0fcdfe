"""One text in a form that the server enforces: a JSON object with the reasoning first and then the verdict.

For hosted models without log-probabilities that follow a schema. The portable form is `response_format`; vLLM also
takes `structured_outputs`. Whatever the server promises, the text is checked: it is the whole object or a failure. The
answer is hard, so it counts as one vote (`votes.py`): log-odds of ±ln 3.
"""

from __future__ import annotations

from typing import Any

from judges.readouts.reading import REASK_TEMPERATURE, Reading, seed_of
from judges.readouts.verdict_text import read_json, verdict_schema
from judges.readouts.votes import WORDS, count_votes
from judges.rendering import Shown
from ratify.canonical import JsonValue
from ratify.client import ChatClient
from ratify.sections import JudgeSection

VERSION = "json/1"


class JsonReadout:
    """Asks once, greedily."""

    calls = 1
    draws = True

    def __init__(self, section: JudgeSection) -> None:
        self._words = WORDS[section.verdict_protocol]
        self._form = section.schema_form
        self._max_tokens = section.text_tokens

    @property
    def identity(self) -> dict[str, JsonValue]:
        """The schema, and the form in which the server is told of it."""
        return {
            "readout": VERSION,
            "answers": list(self._words),
            "sampling": {"max_tokens": self._max_tokens, "temperature": 0},
            "schema": verdict_schema(self._words),
            "form": self._form,
        }

    def sample(self, base: str) -> JsonValue:  # noqa: ARG002
        """Nothing is drawn unless a first attempt failed."""
        return 0

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int) -> Reading:
        """One request."""
        answer = await client.chat(
            shown.messages,
            max_tokens=self._max_tokens,
            temperature=REASK_TEMPERATURE if retry else 0,
            seed=seed_of(base, retry) if retry else None,
            extra_body=schema_body(verdict_schema(self._words), self._form),
        )
        return count_votes([answer], [read_json(answer.text, self._words, answer.finish_reason)], 0.0)


def schema_body(schema: JsonValue, form: str) -> dict[str, Any]:
    """What a request carries so that the answer follows a schema."""
    if form == "structured_outputs":
        return {"structured_outputs": {"json": schema}}
    named = {"name": "verdict", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}
