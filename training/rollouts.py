"""Rollouts: completions sampled from the policy while it trains, with the sampler's log-probabilities.

A sampler is a protocol: the built-in one generates with transformers from the very weights that are trained; another
one, such as a vLLM server, is handed in by the caller and gets the new weights by `refresh`. Samples depend on weights,
prompts and seed alone: every prompt batch draws from a generator of its own, so a resumed run samples what an
uninterrupted one does. Left out: sharing a prompt's prefill among its completions, tools and several turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

from ratify.canonical import digest
from training.data import Element, Tokens
from training.rows import Prompt

FinishReason = Literal["stop", "length"]


class PromptItem(NamedTuple):
    """A prompt to sample from."""

    prompt_id: str
    prompt: Prompt
    tokens: Tokens
    answer: str | None = None
    """The right answer, where the data has one."""


class Sampled(NamedTuple):
    """One completion as the sampler gave it."""

    tokens: Tokens
    """Including the token that ended it; never empty."""
    logprobs: tuple[float, ...]
    """Of each token at the sampling temperature, by the sampler's own arithmetic; nats."""
    finish_reason: FinishReason
    """`stop` if the policy ended it, `length` if it was cut off."""


class Group(NamedTuple):
    """A prompt with its completions."""

    item: PromptItem
    completions: tuple[Sampled, ...]

    @property
    def element(self) -> Element:
        """What is laid out as one prefix tree."""
        return Element(self.item.prompt_id, self.item.tokens, tuple(sampled.tokens for sampled in self.completions))


class Sampler(Protocol):
    """Where completions come from."""

    def refresh(self) -> None:
        """Take up the weights as they are now; called before each batch. Raises where they cannot be taken up."""

    def sample(self, items: Sequence[PromptItem], completions: int, seed: int) -> list[tuple[Sampled, ...]]:
        """`completions` samples for each prompt; the same for the same weights, prompts and seed."""


class TransformersSampler:
    """`generate` with a key-value cache on the model that is being trained."""

    def __init__(
        self,
        model: PreTrainedModel,
        stops: Sequence[int],
        *,
        max_tokens: int,
        temperature: float = 1.0,
        batch: int = 256,
    ) -> None:
        self.model = model
        self.stops = tuple(stops)
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.batch = batch

    def refresh(self) -> None:
        """The weights are the trainer's own."""

    def sample(self, items: Sequence[PromptItem], completions: int, seed: int) -> list[tuple[Sampled, ...]]:
        """Prompts of like length together, `batch` completions at once."""
        order = sorted(range(len(items)), key=lambda index: len(items[index].tokens))
        size = max(1, self.batch // completions)
        found: dict[int, tuple[Sampled, ...]] = {}
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            drawn = self._generate([items[index].tokens for index in indices], completions, f"{seed}/{start}")
            found |= zip(indices, drawn, strict=True)
        return [found[index] for index in range(len(items))]

    def _generate(self, prompts: Sequence[Tokens], completions: int, seed: str) -> Iterator[tuple[Sampled, ...]]:
        device = self.model.device
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        recorder = LogprobRecorder(self.temperature, width)
        with torch.no_grad(), _seeded(seed, device), _plain_generation(self.model, self._config(completions)):
            generate = cast(Any, self.model).generate
            sequences = generate(input_ids=ids, attention_mask=mask, logits_processor=LogitsProcessorList([recorder]))
        recorder.close(sequences)
        rows = sequences[:, width:].tolist()
        sampled = [self._cut(row, probs) for row, probs in zip(rows, recorder.rows(), strict=True)]
        for start in range(0, len(sampled), completions):
            yield tuple(sampled[start : start + completions])

    def _cut(self, row: list[int], logprobs: list[float]) -> Sampled:
        """The completion without what `generate` fills up behind its end."""
        for place, token in enumerate(row):
            if token in self.stops:
                return Sampled(tuple(row[: place + 1]), tuple(logprobs[: place + 1]), "stop")
        return Sampled(tuple(row), tuple(logprobs), "length")

    def _config(self, completions: int) -> GenerationConfig:
        # Whatever else a model's own generation settings would do (top-k, penalties) changes the probabilities.
        return GenerationConfig(
            do_sample=True,
            num_return_sequences=completions,
            max_new_tokens=self.max_tokens,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=list(self.stops) or None,
            pad_token_id=self.stops[0] if self.stops else 0,
        )


class LogprobRecorder:
    """Divides logits by the temperature and keeps the log-probability of each sampled token, without keeping logits."""

    def __init__(self, temperature: float, prompt_width: int) -> None:
        self.temperature = temperature
        self.prompt_width = prompt_width
        self._columns: list[Tensor] = []
        self._last: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`generate` calls it before each token, (B, T so far) and (B, V)."""
        self._take(input_ids)
        tempered = scores.float() / self.temperature
        self._last = tempered.log_softmax(-1)
        return tempered

    def close(self, sequences: Tensor) -> None:
        """The last token, for which there is no further call."""
        self._take(sequences)

    def rows(self) -> list[list[float]]:
        """Log-probabilities of each row's tokens."""
        return cast(list[list[float]], torch.stack(self._columns, dim=1).tolist())

    def _take(self, input_ids: Tensor) -> None:
        if self._last is not None:
            token_B1 = input_ids[:, self.prompt_width + len(self._columns)][:, None]
            self._columns.append(self._last.gather(1, token_B1)[:, 0])
            self._last = None


def stop_tokens(encoder: Any, model: PreTrainedModel) -> list[int]:
    """Tokens that end a completion: the template's end of turn, the tokenizer's eos, and the model's own."""
    tokenizer = encoder.tokenizer
    stops = {tokenizer.eos_token_id}
    if tokenizer.chat_template:
        stops.add(tokenizer.convert_tokens_to_ids(encoder.end_of_turn))
    own = cast(Any, model.generation_config).eos_token_id
    stops |= set(own) if isinstance(own, list) else {own}
    return sorted(token for token in stops if token is not None)


@contextmanager
def _seeded(seed: str, device: torch.device) -> Iterator[None]:
    """torch's global generator, which `generate` draws from, set for a while and put back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(digest(seed)[:15], 16))
        yield


@contextmanager
def _plain_generation(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """The model with other generation settings; `generate` would fill gaps of a passed one from the model's own."""
    kept, model.generation_config = model.generation_config, config
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.generation_config = kept
        model.train(training)
