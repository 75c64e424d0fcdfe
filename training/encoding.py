"""Text to tokens as the sampler saw them: prompt by the chat template, completion verbatim, end of turn if it ended.

A policy is sampled from the template's generation prompt and writes text until its end-of-turn token. So a prompt's
tokens are the rendered generation prompt, and a completion's tokens are its own text plus the end of turn, tokenised
apart: the boundary never merges. What the template writes behind an assistant turn (a newline after `<|im_end|>`) is
not the policy's and is left out. Plain strings bypass the template and end with the eos token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import jinja2
from transformers import PreTrainedTokenizerBase

from ratify.errors import InputError
from ratify.types import Message
from training.rows import Prompt

_PROBE_USER = Message(role="user", content="ping")
_PROBE_ASSISTANT = Message(role="assistant", content="pong")


class Encoder:
    """A tokenizer together with what its chat template writes around a turn."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: str) -> None:
        self.tokenizer = tokenizer
        self.model = model

    @cached_property
    def end_of_turn(self) -> str:
        """The special token that closes an assistant turn, as text.

        Raises:
            InputError: no template, one that rewrites the prompt when the reply is added, or no closing token.
        """
        prompt = self.render((_PROBE_USER,), generate=True)
        whole = self.render((_PROBE_USER, _PROBE_ASSISTANT), generate=False)
        if not whole.startswith(prompt) or _PROBE_ASSISTANT.content not in whole[len(prompt) :]:
            raise InputError(
                f"{self.model}: the chat template is not prefix-preserving: prompt and reply rendered together do not "
                "begin with the prompt rendered alone; give the model a template whose generation prompt stays as it is"
            )
        tail = whole[len(prompt) :].split(_PROBE_ASSISTANT.content, 1)[1]
        return _first_special(tail, self._special_tokens) or self.eos

    @property
    def eos(self) -> str:
        """The tokenizer's end-of-sequence token as text."""
        if not isinstance(self.tokenizer.eos_token, str):
            raise InputError(f"{self.model}: the tokenizer has no eos token and its template closes turns with none")
        return self.tokenizer.eos_token

    @property
    def _special_tokens(self) -> set[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        return {str(token) for token in added if token.special} | set(self.tokenizer.all_special_tokens)

    def render(self, messages: Sequence[Message], *, generate: bool) -> str:
        """A conversation as the template writes it, with or without the generation prompt."""
        if not self.tokenizer.chat_template:
            raise InputError(
                f"{self.model} has no chat template, which conversations need; add a chat_template.jinja to the folder "
                "or give the data as plain strings"
            )
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generate)
        except jinja2.TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise InputError(f"{self.model}: the chat template refuses a conversation of {roles}: {error}") from None
        return str(text)

    def prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Tokens of each prompt; plain text gets the special tokens that the tokenizer puts in front (bos)."""
        chats = [p for p in prompts if not isinstance(p, str)]
        texts = [p for p in prompts if isinstance(p, str)]
        chat_tokens = iter(self._tokens([self.render(p, generate=True) for p in chats]))
        text_tokens = iter(self._plain_tokens(texts))
        return [next(text_tokens) if isinstance(p, str) else next(chat_tokens) for p in prompts]

    def completions(self, texts: Sequence[str], *, chat: Sequence[bool], truncated: Sequence[bool]) -> list[list[int]]:
        """Tokens of each completion, closed by the end of turn (chat) or eos (plain text) unless it was cut off."""
        ends = ("" if cut else self._end(in_chat) for in_chat, cut in zip(chat, truncated, strict=True))
        return self._tokens([text + end for text, end in zip(texts, ends, strict=True)])

    def _end(self, chat: bool) -> str:
        return self.end_of_turn if chat else self.eos

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return list(self.tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []

    def _plain_tokens(self, texts: list[str]) -> list[list[int]]:
        # A tokenizer may also put eos behind a text; before a completion that would be a lie.
        bos = self.tokenizer.bos_token_id
        wants_bos = bos is not None and list(self.tokenizer("a")["input_ids"][:1]) == [bos]
        return [[bos, *tokens] if wants_bos else tokens for tokens in self._tokens(texts)]


def _first_special(text: str, special_tokens: set[str]) -> str | None:
    """The special token that comes first in `text`; the longest of those that begin at the same place."""
    found = [(text.index(token), -len(token), token) for token in special_tokens if token and token in text]
    return min(found)[2] if found else None
