"""Preference rows grouped by prompt: one element is a prompt, its K distinct completions and the pairs between them.

The element is the unit of everything behind it: shuffled, split into training and validation, batched and computed
whole. Left out: reading and checking (`rows`), text to tokens (`encoding`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ratify.canonical import digest
from ratify.errors import InputError
from training.encoding import Encoder
from training.rows import PreferenceRow, Prompt, Reply, ScoreRow, read_preferences

logger = logging.getLogger(__name__)

Tokens = tuple[int, ...]


class Pair(NamedTuple):
    """A preference between two completions of one element."""

    chosen: int
    """Index into the element's completions."""
    rejected: int
    probability: float
    """P(chosen is better)."""
    margin: float | None
    """By how much the label prefers chosen; None where the data does not say."""
    weight: float = 1.0
    """How much the pair counts in the mean loss."""


class Element(NamedTuple):
    """A prompt, its K distinct completions, and preferences between them."""

    prompt_id: str
    prompt: Tokens
    completions: tuple[Tokens, ...]
    pairs: tuple[Pair, ...] = ()


class Dataset(NamedTuple):
    """Elements ready for training, and what did not fit."""

    elements: list[Element]
    dropped_pairs: int
    """Pairs with a completion that, with its prompt, exceeds the length limit."""
    refused: tuple[str, ...] = ()
    """The faults of rows that were left out for being bad."""

    @property
    def pairs(self) -> int:
        """Preference pairs over all elements."""
        return sum(len(element.pairs) for element in self.elements)


class Split(NamedTuple):
    """Elements by use; a prompt is in one of them only."""

    train: list[Element]
    validation: list[Element]


def load_preferences(path: Path, encoder: Encoder, max_length: int, *, drop_bad_rows: bool = False) -> Dataset:
    """Read preference data and group it by prompt.

    Args:
        path: Parquet or JSON lines, or a folder of them.
        encoder: the model's tokenizer and template.
        max_length: longest prompt plus completion in tokens; longer pairs are dropped and counted.
        drop_bad_rows: leave bad rows out, with their faults in the log, instead of refusing the data.

    Raises:
        InputError: a bad row, no row, or no pair that fits.
    """
    refused: list[str] = []
    elements = group_preferences(read_preferences(path, refused if drop_bad_rows else None), encoder)
    for fault in refused:
        logger.warning("left out: %s", fault)
    kept = [fitted for element in elements if (fitted := drop_long(element, max_length)).pairs]
    dropped = sum(len(e.pairs) for e in elements) - sum(len(e.pairs) for e in kept)
    if not kept:
        raise InputError(
            f"{path}: all {dropped} pairs are longer than max_length = {max_length} tokens; raise max_length"
        )
    return Dataset(kept, dropped, tuple(refused))


def group_preferences(rows: Sequence[PreferenceRow], encoder: Encoder) -> list[Element]:
    """One element per distinct prompt, in order of first appearance. Equal texts become one completion."""
    groups: dict[str, list[PreferenceRow]] = {}
    for row in rows:
        groups.setdefault(prompt_key(row.prompt), []).append(row)
    prompts = encoder.prompts([group[0].prompt for group in groups.values()])
    replies = {key: _distinct(group) for key, group in groups.items()}
    tokens = iter(_encode(encoder, [(groups[key][0].prompt, reply) for key in groups for reply in replies[key]]))
    elements = []
    for (key, group), prompt in zip(groups.items(), prompts, strict=True):
        completions = tuple(next(tokens) for _ in replies[key])
        pairs = tuple(_pair(row, replies[key]) for row in group)
        elements.append(Element(group[0].prompt_id or key[:16], tuple(prompt), completions, pairs))
    return elements


def drop_long(element: Element, max_length: int) -> Element:
    """The element without the pairs, and the completions, that exceed the length limit."""
    fits = [len(element.prompt) + len(completion) <= max_length for completion in element.completions]
    pairs = [pair for pair in element.pairs if fits[pair.chosen] and fits[pair.rejected]]
    used = sorted({index for pair in pairs for index in (pair.chosen, pair.rejected)})
    place = {old: new for new, old in enumerate(used)}
    return element._replace(
        completions=tuple(element.completions[index] for index in used),
        pairs=tuple(p._replace(chosen=place[p.chosen], rejected=place[p.rejected]) for p in pairs),
    )


def encode_completions(rows: Sequence[ScoreRow], encoder: Encoder) -> list[Element]:
    """Completions to score as elements without pairs, one per row, in the rows' order.

    The tokens that were sampled go before the text's own: a policy may sample a word in other pieces than the tokenizer
    cuts it into, and only the sampled ones have the probability that the KL is about.
    """
    prompts = encoder.prompts([row.prompt for row in rows])
    completions = _encode(encoder, [(row.prompt, row.completion) for row in rows])
    return [
        Element(row.prompt_id or row.completion.id or f"row {row.place.line}", tuple(prompt), (row.token_ids or text,))
        for row, prompt, text in zip(rows, prompts, completions, strict=True)
    ]


def split_by_prompt(elements: Sequence[Element], validation_fraction: float, seed: int) -> Split:
    """Keep a share of the prompts aside, drawn by seed; both sides get at least one.

    Raises:
        InputError: there is only one prompt.
    """
    if len(elements) < 2:
        raise InputError("the data has one prompt only; validation by prompt needs at least two")
    order = list(range(len(elements)))
    random.Random(f"validation/{seed}").shuffle(order)
    count = min(len(elements) - 1, max(1, round(validation_fraction * len(elements))))
    aside = set(order[:count])
    return Split(
        train=[element for index, element in enumerate(elements) if index not in aside],
        validation=[element for index, element in enumerate(elements) if index in aside],
    )


def prompt_key(prompt: Prompt) -> str:
    """SHA-256 of a prompt's content."""
    if isinstance(prompt, str):
        return digest(prompt)
    return digest([[message.role, message.content] for message in prompt])


def _distinct(rows: Sequence[PreferenceRow]) -> dict[tuple[str, bool], int]:
    """Each distinct completion of a prompt and its index, in order of appearance."""
    found: dict[tuple[str, bool], int] = {}
    for row in rows:
        for reply in (row.chosen, row.rejected):
            found.setdefault((reply.text, reply.truncated), len(found))
    return found


def _pair(row: PreferenceRow, places: dict[tuple[str, bool], int]) -> Pair:
    chosen, rejected = (places[reply.text, reply.truncated] for reply in (row.chosen, row.rejected))
    return Pair(chosen, rejected, row.probability, row.margin, row.weight)


def _encode(encoder: Encoder, replies: Sequence[tuple[Prompt, Reply | tuple[str, bool]]]) -> list[Tokens]:
    texts = [(reply.text, reply.truncated) if isinstance(reply, Reply) else reply for _, reply in replies]
    encoded = encoder.completions(
        [text for text, _ in texts],
        chat=[not isinstance(prompt, str) for prompt, _ in replies],
        truncated=[truncated for _, truncated in texts],
    )
    return [tuple(tokens) for tokens in encoded]
