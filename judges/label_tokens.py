"""Can this tokenizer say the offered answers in one token each? Looked at before a server is started.

A read-out of one token sees the first token alone. If a tokenizer cuts `Yes` into `Y` and `es`, or begins both answers
alike, there is nothing to read, and every call would fail with low coverage after it was paid for.

Reads `tokenizer.json` of a model folder; a folder without one, or a name that is no folder, is not looked at.
"""

from __future__ import annotations

from pathlib import Path

from judges.readouts.first_token import variants
from judges.readouts.logprobs import answers_of
from judges.readouts.ranking import LETTERS
from judges.readouts.score import SCORES
from judges.readouts.turns import continues
from ratify.errors import InputError
from ratify.sections import JudgeSection


def check_label_tokens(section: JudgeSection) -> None:
    """Refuse a one-token read-out of a model whose tokenizer has no token for an answer.

    Raises:
        InputError: with the answer, how it is cut, and what to set instead.
    """
    path = Path(section.model) / "tokenizer.json"
    if section.kind != "model" or section.readout in ("json", "samples") or not path.is_file():
        return
    vocabulary = _Vocabulary(path)
    for name, spellings in _offered(section).items():
        if not vocabulary.has_token(spellings):
            cut = " ".join(repr(piece) for piece in vocabulary.cut(name))
            raise InputError(
                f"judge.model: the tokenizer of {section.model} cuts the answer {name!r} into {cut}, so that one token "
                f"cannot tell it; set judge.readout = 'json' or 'samples', or judge.protocol to the other one"
            )


def _offered(section: JudgeSection) -> dict[str, frozenset[str]]:
    """Each answer with the tokens that mean it; a 10 of two tokens can be told where a message can be continued."""
    if section.readout == "score":
        highest = max(SCORES)
        return {str(score): tokens for score, tokens in SCORES.items() if score < highest or not continues(section)}
    if section.protocol == "ranking":
        return {letter: variants(letter) for letter in LETTERS}
    first, second = answers_of(section.verdict_protocol)
    names = ("Yes", "No") if section.protocol == "pointwise" else ("A", "B")
    return dict(zip(names, (first, second), strict=True))


class _Vocabulary:
    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exceptions
            raise InputError(f"judge.model: {path} is no tokenizer ({str(error)[:200]}); restore the file") from None

    def has_token(self, spellings: frozenset[str]) -> bool:
        """Whether one of the spellings comes out as a single token whose text is that spelling."""
        return any(self.cut(text) == [text] for text in spellings)

    def cut(self, text: str) -> list[str]:
        """The tokens of a text, as texts."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return [self._tokenizer.decode([token], skip_special_tokens=False) for token in encoded.ids]
