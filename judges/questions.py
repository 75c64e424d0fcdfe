"""What has to be asked: one question per principle and completion (pointwise) or per principle and shown order
(pairwise).

A question knows its verdict's key, so that what is stored already need not be asked. Two completions with the same
text lead to the same key and share one verdict. Questions about one reply follow each other, so that a server with a
prefix cache computes the conversation once for all principles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from constitutions.schema import Principle
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

    def verdict(self, judge: str, *, logit: float, coverage: float | None = None) -> Verdict:
        """The answered verdict of this question."""
        return self._record(judge).model_copy(update={"logit": logit, "coverage": coverage})

    def failed(self, judge: str, failure: Failure, raw: str) -> Verdict:
        """The failure of this question, with the raw text."""
        return self._record(judge).model_copy(update={"failure": failure, "raw": raw})

    def _record(self, judge: str) -> Verdict:
        return Verdict(
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
    """For each pair, by principle id; principles that do not apply or abstain are not there."""


def write_questions(
    prompts: Mapping[str, Prompt], pairs: Sequence[Pair], principles: Sequence[Principle], judge: Judge
) -> Questionnaire:
    """Work out which verdicts the pairs need; `prompts` is by id."""
    scopes: dict[str, list[Principle]] = {}
    questions: dict[str, Question] = {}
    keys: list[dict[str, PairKeys]] = []
    writer = _Writer(judge)
    spoken = [principle for principle in principles if not judge.abstains(principle)]
    for a, b in pairs:
        prompt = prompts[a.prompt_id]
        if prompt.id not in scopes:
            scopes[prompt.id] = [principle for principle in spoken if principle.applies_to.covers(prompt)]
        asked = list(writer.ask(prompt, a, b, scopes[prompt.id]))
        questions |= {question.key: question for question in asked if question.key not in questions}
        keys.append(_by_principle(asked))
    return Questionnaire(questions, list(pairs), keys)


def _by_principle(asked: Sequence[Question]) -> dict[str, PairKeys]:
    """Questions come as all about a (or a first), then all about b, principles in the same order."""
    half = len(asked) // 2
    return {
        about_a.principle.id: PairKeys(about_a.key, about_b.key)
        for about_a, about_b in zip(asked[:half], asked[half:], strict=True)
    }


class _Writer:
    """Makes questions, and remembers those about single completions, which occur in several pairs."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._about: dict[str, list[Question]] = {}

    def ask(self, prompt: Prompt, a: Completion, b: Completion, principles: Sequence[Principle]) -> Iterator[Question]:
        if self._judge.protocol == "pointwise":
            for completion in (a, b):
                if completion.id not in self._about:
                    self._about[completion.id] = self._questions(prompt, completion, None, principles)
                yield from self._about[completion.id]
        else:
            shown = Comparison(prompt=prompt, first=a, second=b)
            for order in (shown, shown.swap()):
                yield from self._questions(prompt, order.first, order.second, principles)

    def _questions(
        self, prompt: Prompt, first: Completion, second: Completion | None, principles: Sequence[Principle]
    ) -> list[Question]:
        return [
            Question(self._judge.key(principle, prompt, first, second), principle, prompt, first, second)
            for principle in principles
        ]
