"""What has to be asked: one question per principle and completion (pointwise), per principle and shown order
(pairwise), or per principle and shown order of a prompt's whole list of completions (ranking).

A question knows its verdict's key, so that what is stored already need not be asked. Two completions with the same
text lead to the same key and share one verdict. Questions about one reply follow each other, so that a server with a
prefix cache computes the conversation once for all principles. A list's question is one about its first two, whose
answer holds the verdicts on all its other pairs too (`listing.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from constitutions.schema import Principle
from judges.listing import keys_of, list_of, pair_keys, places_of
from ratify import types
from ratify.types import Comparison, Completion, Failure, Prompt, Verdict


class Question(NamedTuple):
    """One thing that a judge is asked about one principle."""

    key: str
    """SHA-256 of everything the judge will see: the verdict's key."""
    principle: Principle
    prompt: Prompt
    first: Completion
    second: Completion | None
    """None for a pointwise question."""
    listed: tuple[Completion, ...] = ()
    """All that a ranking judge is shown, in the shown order; `first` and `second` begin it."""
    also: tuple[str, ...] = ()
    """Keys of the verdicts on the list's other pairs, in the order of `listing.places`."""

    @property
    def verdict_keys(self) -> tuple[str, ...]:
        """Keys of all verdicts that its answer holds."""
        return (self.key, *self.also)

    def verdict(self, judge: str, *, logit: float, coverage: float | None = None) -> Verdict:
        """The answered verdict of this question."""
        return self.record(judge, logit=logit, coverage=coverage)

    def failed(self, judge: str, failure: Failure, raw: str) -> Verdict:
        """The failure of this question, with the raw text."""
        return self.record(judge, failure=failure, raw=raw)

    def record(self, judge: str, **said: Any) -> Verdict:
        """A verdict on this question; `said` are the fields of what the judge said."""
        return Verdict(
            **said,
            key=self.key,
            judge=judge,
            principle=self.principle.id,
            protocol="pairwise" if self.second else "pointwise",
            prompt_id=self.prompt.id,
            first_id=self.first.id,
            second_id=self.second.id if self.second else None,
        )


class Judge(Protocol):
    """Whoever answers questions: a model behind an endpoint, or a set of checks."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what makes this judge answer as it does."""

    @property
    def protocol(self) -> types.Protocol:
        """How it is asked."""

    @property
    def concurrency(self) -> int:
        """How many questions it takes at once."""

    @property
    def min_coverage(self) -> float:
        """A verdict with less probability mass on the offered answers does not count."""

    def abstains(self, principle: Principle) -> bool:
        """True when it has nothing to say about a principle, whatever the reply."""

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None, /) -> str:
        """SHA-256 of everything the judge would see."""

    async def answer(self, question: Question) -> Verdict:
        """Its verdict; a call without a usable answer is a verdict with a failure."""


@runtime_checkable
class Ranker(Protocol):
    """A judge that is shown all completions of a prompt at once; its verdicts are those of a pairwise one."""

    def list_key(self, principle: Principle, prompt: Prompt, listed: Sequence[Completion], /) -> str:
        """SHA-256 of everything the judge would see."""


Pair = tuple[Completion, Completion]
"""Two completions of one prompt, `a` and `b`."""


class PairKeys(NamedTuple):
    """The two verdicts that a principle's view of a pair rests on."""

    a: str
    """Pointwise: about a. Pairwise: with a shown first."""
    b: str
    """Pointwise: about b. Pairwise: with b shown first."""


class Questionnaire(NamedTuple):
    """Everything to ask about some pairs."""

    questions: dict[str, Question]
    """By key: what is asked twice is here once."""
    pairs: list[Pair]
    keys: list[dict[str, PairKeys]]
    """For each pair, by principle id; principles that the judge is not asked about are not there."""


def in_scope(
    prompts: Mapping[str, Prompt], pairs: Sequence[Pair], principles: Sequence[Principle], judge: Judge
) -> NDArray[np.bool_]:
    """(N, P): the principle is for the pair's prompt, and the judge does not abstain; `prompts` is by id."""
    spoken = [not judge.abstains(principle) for principle in principles]
    scopes: dict[str, list[bool]] = {}
    for a, _ in pairs:
        if a.prompt_id not in scopes:
            covers = (principle.applies_to.covers(prompts[a.prompt_id]) for principle in principles)
            scopes[a.prompt_id] = [speaks and covered for speaks, covered in zip(spoken, covers, strict=True)]
    rows = [scopes[a.prompt_id] for a, _ in pairs]
    return np.array(rows, dtype=np.bool_).reshape(len(pairs), len(principles))


def write_questions(
    prompts: Mapping[str, Prompt],
    pairs: Sequence[Pair],
    principles: Sequence[Principle],
    judge: Judge,
    wanted: NDArray[np.bool_] | None = None,
) -> Questionnaire:
    """Work out which verdicts the pairs need; `prompts` is by id, `wanted` (N, P) leaves questions out.

    Without `wanted`, every principle in scope is asked about.
    """
    questions: dict[str, Question] = {}
    keys: list[dict[str, PairKeys]] = []
    writer = _Lists(judge, pairs) if isinstance(judge, Ranker) else _Writer(judge)
    rows = in_scope(prompts, pairs, principles, judge) if wanted is None else wanted
    for (a, b), row in zip(pairs, rows, strict=True):
        spoken = [principles[index] for index in np.flatnonzero(row).tolist()]
        asked, of_pair = writer.ask(prompts[a.prompt_id], a, b, spoken)
        questions |= {question.key: question for question in asked if question.key not in questions}
        keys.append(of_pair)
    return Questionnaire(questions, list(pairs), keys)


def verdict_keys(questions: Iterable[Question], without: Mapping[str, object]) -> Iterator[str]:
    """The keys of all verdicts that some questions ask for, less those of questions `without` one."""
    for question in questions:
        if question.key not in without:
            yield from question.verdict_keys


Asked = tuple[list[Question], dict[str, PairKeys]]
"""Questions, and the keys of a pair's verdicts by principle id."""


class _Writer:
    """Makes questions, and remembers those about single completions, which occur in several pairs."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._about: dict[tuple[str, str], Question] = {}

    def ask(self, prompt: Prompt, a: Completion, b: Completion, principles: Sequence[Principle]) -> Asked:
        """What is asked about a pair, and the keys of what it rests on."""
        asked = list(self._ask(prompt, a, b, principles))
        about_a, about_b = asked[: len(principles)], asked[len(principles) :]
        views = zip(about_a, about_b, strict=True)
        return asked, {one.principle.id: PairKeys(one.key, other.key) for one, other in views}

    def _ask(self, prompt: Prompt, a: Completion, b: Completion, principles: Sequence[Principle]) -> Iterator[Question]:
        """All about a (or a first), then all about b, principles in the same order."""
        if self._judge.protocol == "pointwise":
            for completion in (a, b):
                for principle in principles:
                    yield self._once(prompt, completion, principle)
        else:
            shown = Comparison(prompt, a, b)
            for order in (shown, shown.swap()):
                for principle in principles:
                    yield self._question(prompt, order.first, order.second, principle)

    def _once(self, prompt: Prompt, completion: Completion, principle: Principle) -> Question:
        name = completion.id, principle.id
        if name not in self._about:
            self._about[name] = self._question(prompt, completion, None, principle)
        return self._about[name]

    def _question(self, prompt: Prompt, first: Completion, second: Completion | None, principle: Principle) -> Question:
        return Question(self._judge.key(principle, prompt, first, second), principle, prompt, first, second)


class _Lists:
    """Makes questions about lists: all completions of a prompt that occur in the pairs, forwards and backwards."""

    def __init__(self, judge: Ranker, pairs: Sequence[Pair]) -> None:
        self._judge = judge
        several: dict[str, list[Pair]] = {}
        for pair in pairs:
            several.setdefault(pair[0].prompt_id, []).append(pair)
        self._lists = {name: list_of(name, of_prompt) for name, of_prompt in several.items()}
        self._made: dict[tuple[str, str], tuple[Question, Question]] = {}

    def ask(self, prompt: Prompt, a: Completion, b: Completion, principles: Sequence[Principle]) -> Asked:
        """What is asked about a pair, and the keys of what it rests on."""
        asked: list[Question] = []
        keys: dict[str, PairKeys] = {}
        listed = self._lists[prompt.id]
        shown = places_of(listed, a, b)
        for principle in principles:
            forwards, backwards = self._both(prompt, principle)
            asked += forwards, backwards
            ahead, behind = pair_keys(forwards.verdict_keys, backwards.verdict_keys, len(listed), *sorted(shown))
            if a.text == b.text:  # one verdict for both orders, as a pairwise judge has: a tie to the last bit
                behind = ahead
            keys[principle.id] = PairKeys(ahead, behind) if shown[0] < shown[1] else PairKeys(behind, ahead)
        return asked, keys

    def _both(self, prompt: Prompt, principle: Principle) -> tuple[Question, Question]:
        name = prompt.id, principle.id
        if name not in self._made:
            forwards = self._lists[prompt.id]
            self._made[name] = (
                self._question(prompt, principle, forwards),
                self._question(prompt, principle, forwards[::-1]),
            )
        return self._made[name]

    def _question(self, prompt: Prompt, principle: Principle, listed: tuple[Completion, ...]) -> Question:
        key, *also = keys_of(self._judge.list_key(principle, prompt, listed), len(listed))
        return Question(key, principle, prompt, listed[0], listed[1], listed, tuple(also))
