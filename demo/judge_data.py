"""Examples for the demo judge: replies of the grammar and of the policy itself, labelled by the oracle.

One example is a tree (`trees.py`): the conversation with its reply, or its two replies, once, followed by several
principles, each ending where the judge must answer. Besides the answers it carries what the oracle made of each
sentence, a dense signal that shows the judge where a reply goes wrong.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from transformers import Qwen2Tokenizer

from demo import grammar, prompting
from demo.oracle import PARTS, Reading, read
from demo.trees import Example
from demo.wordings import OTHER_WORDINGS, PROPERTY_WORDINGS, Wording

Protocol = Literal["pointwise", "pairwise"]
ANSWERS: dict[Protocol, tuple[str, str]] = {"pointwise": ("Yes", "No"), "pairwise": ("A", "B")}
FIRST_REPLY: dict[Protocol, str] = {"pointwise": "\n\nReply:\n", "pairwise": "\n\nReply A:\n"}
LOOK_UP = ("helpful", "honest")  # the properties that need knowledge of the world: asked about every reply
EXACT_SHARE = 0.6  # how often a drawn wording is the constitution's own
OWN_SHARE = 0.6  # how many replies are the policy's own where there are any
MARK = "\n\nPrinciple: "


class Labelled(NamedTuple):
    """A reply with what the oracle's parser found in it."""

    prompt: str
    reply: str
    reading: Reading


def label(prompt: str, reply: str) -> Labelled:
    """Read a reply with the oracle."""
    return Labelled(prompt, reply, read(prompt, reply))


def draw(rng: random.Random, own: dict[str, list[str]]) -> Iterator[tuple[Labelled, Labelled]]:
    """Two replies to the same training prompt, for ever; `own` holds replies of the policy by prompt."""
    prompts = grammar.of_split("train")
    while True:
        request = rng.choice(prompts)
        mine = own.get(request.prompt, [])
        yield _reply(request, mine, rng), _reply(request, mine, rng)


def _reply(request: grammar.Request, own: Sequence[str], rng: random.Random) -> Labelled:
    if own and rng.random() < OWN_SHARE:
        return label(request.prompt, rng.choice(own))
    return label(request.prompt, grammar.compose(request, grammar.draw_recipe(request, rng), rng))


class Encoder:
    """Turns labelled replies into examples; remembers the tokens of each principle."""

    def __init__(self, tokenizer: Qwen2Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._branches: dict[tuple[Protocol, str], list[int]] = {}
        self._ends = {tokenizer.convert_tokens_to_ids(mark) for mark in ".?"}

    def pointwise(self, one: Labelled, rng: random.Random) -> Example:
        """An example with one reply."""
        wordings = _draw_wordings(rng)
        empty = self.question(one.prompt, (one.reply,), [wording.text for wording in wordings])
        return empty._replace(
            targets=[float(wording.holds(one.reading)) for wording in wordings],
            good=one.reading.assessment.helpful,
            parts=self._parts(empty.trunk, (one,)),
        )

    def reading(self, one: Labelled) -> Example:
        """An example with one reply and no question about it: only its sentences and words teach."""
        empty = self.question(one.prompt, (one.reply,), ())
        return empty._replace(good=one.reading.assessment.helpful, parts=self._parts(empty.trunk, (one,)))

    def pairwise(self, a: Labelled, b: Labelled, rng: random.Random) -> Example:
        """An example with two replies in this order."""
        wordings = _draw_wordings(rng)
        empty = self.question(a.prompt, (a.reply, b.reply), [wording.text for wording in wordings])
        return empty._replace(
            targets=[(1 + wording.holds(a.reading) - wording.holds(b.reading)) / 2 for wording in wordings],
            parts=self._parts(empty.trunk, (a, b)),
        )

    def question(self, prompt: str, replies: Sequence[str], principles: Sequence[str]) -> Example:
        """An example without labels, for asking instead of learning."""
        protocol: Protocol = "pointwise" if len(replies) == 1 else "pairwise"
        text = (
            prompting.pointwise(prompt, replies[0], "")
            if protocol == "pointwise"
            else prompting.pairwise(prompt, replies[0], replies[1], "")
        )
        first, second = (self.tokenizer.convert_tokens_to_ids(answer) for answer in ANSWERS[protocol])
        return Example(
            trunk=list(self.tokenizer(f"<|user|>\n{text[: text.rindex(MARK)]}")["input_ids"]),
            branches=[self._branch(protocol, principle) for principle in principles],
            targets=[0.5] * len(principles),
            answers=(first, second),
            good=False,
            parts=[],
        )

    def _branch(self, protocol: Protocol, principle: str) -> list[int]:
        known = self._branches.get((protocol, principle))
        if known is None:
            text = prompting.template(protocol)
            tail = text[text.rindex(MARK) :].replace("{principle}", principle)
            known = list(self.tokenizer(f"{tail}<|end|>\n<|assistant|>\n")["input_ids"])
            self._branches[protocol, principle] = known
        return known

    def _parts(self, trunk: list[int], replies: Sequence[Labelled]) -> list[tuple[int, int]]:
        """Sentence ends in the trunk with the parts the oracle found; none where a reply is too garbled to align."""
        protocol: Protocol = "pointwise" if len(replies) == 1 else "pairwise"
        start = trunk.index(self.tokenizer.convert_tokens_to_ids(FIRST_REPLY[protocol]))
        ends = [at for at in range(start, len(trunk)) if trunk[at] in self._ends]
        found: list[int] = []
        for each in replies:
            whole = each.reading.parts if each.reply.rstrip().endswith((".", "?")) else each.reading.parts[:-1]
            found += [PARTS.index(part) for part in whole]
        return list(zip(ends, found, strict=True)) if len(ends) == len(found) else []


def _draw_wordings(rng: random.Random) -> list[Wording]:
    """Four wordings: the two properties that are hardest to judge, and two drawn from all the rest."""
    hard = [_wording_of(topic, rng) for topic in LOOK_UP]
    return [*hard, _wording_of(rng.choice(("polite", "safe", "concise")), rng), rng.choice(OTHER_WORDINGS)]


def _wording_of(topic: str, rng: random.Random) -> Wording:
    if rng.random() < EXACT_SHARE:
        return next(each for each in PROPERTY_WORDINGS if each.topic == topic)
    return rng.choice([each for each in OTHER_WORDINGS if each.topic == topic])
