"""What can be said against a principle's wording without asking a judge: lists of words and shapes, not grammar.

Each rule looks at one text and yields why and how to mend it. English only. A rule that is wrong about a text is
silenced at that line; none of them changes anything.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

LONGEST_WORDS = 120
"""A text with more words than this asks a small judge for more than one thing."""


class Remark(NamedTuple):
    """What is wrong with a text, and what to do."""

    why: str
    remedy: str


_VERBS = (
    "is|are|was|does|do|has|have|says?|gives?|avoids?|admits?|must|should|shall|may|can|will|never|not|no|contains?|"
    "includes?|offers?|explains?|keeps?|makes?|uses?|points?|tells?|asks?|refuses?|shows?|provides?|discusses?|discuss|"
    "give|point|identify|explain|move|politely|consider"
)
_COMPOUND = re.compile(
    rf"\band/or\b|\bas well as\b|;\s*\w|\b(?:and|but)\s+(?:also\s+|then\s+|to\s+)?(?:{_VERBS})\b|"
    r"[.?!]\s+(?:also|furthermore|in addition|additionally|if possible|give|examples? of|for example|other)\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|never|no|none|nothing|nobody|without|cannot|\w+n['’]t|avoid\w*|refrain\w*|refus\w+|fail\w*|lack\w*|"
    r"unless|neither)\b",
    re.IGNORECASE,
)
_VAGUE = re.compile(
    r"\b(?:in)?appropriate(?:ly)?\b|\bgood\b|\bbad\b|\bnice\b|\bproper(?:ly)?\b|\breasonabl[ey]\b|\bsuitabl[ey]\b|"
    r"\bproblematic\b|\bobjectionable\b|\bquestionable\b|\bsensible\b|\brelevant\b|\bhigh[- ]quality\b|\bquality\b|"
    r"\bin (?:some|any) way\b|\bif possible\b|\bas needed\b|\bwhere possible\b|\betc\b|\bharmful\b|\bunethical\b|"
    r"\bsocially\b|\bbetter\b|\bbest\b|\bpotentially\b|\bcommonsense\b|\bpositive\b",
    re.IGNORECASE,
)
_ABSOLUTE = re.compile(
    r"\b(?:always|never|all|every|any and all|completely|totally|absolutely|entirely|perfect(?:ly)?|utterly|"
    r"under no circumstances|at all times|any trace)\b",
    re.IGNORECASE,
)
_LETTER = re.compile(
    r"(?<!\w)\([ABab]\)|\b(?i:reply|response|answer|option|completion|output|assistant|choice|text)\s+[AB12]\b|"
    r"(?<!\w)(['\"“])[AB]['\"”]|\b[AB]\s+(?:or|and|over|vs\.?|than)\s+[AB]\b"
)
_LENGTH = re.compile(
    r"\b(?:detail(?:s|ed)?|thorough(?:ly)?|comprehensive(?:ly)?|elaborate(?:s|d|ly)?|in[- ]depth|extensive(?:ly)?|"
    r"exhaustive(?:ly)?|lengthy|longer|step[- ]by[- ]step|more information|as much \w+ as possible|fully)\b",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"^\W*(?:please\b|(?:re)?write\b|revise\b|amend\b|identify\b|discuss\b|critique\b|explain\b|read\b|take a look\b|"
    r"think\b|point out\b|consider\b|note\b|comment\b|remove\b|edit\b|list\b|find\b)",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"\?\s*(?:$|[A-Z])")
_DOUBLED = re.compile(r"\b(?!(?:that|had)\b)([a-z]+)\s+\1\b", re.IGNORECASE)


def compound(text: str) -> Iterator[Remark]:
    """Two rules in one text: the judge's answer is about neither."""
    match = _COMPOUND.search(text)
    if match:
        yield Remark(
            f"the text asks for more than one thing ({_near(text, match)})", "give each of them a principle of its own"
        )


def double_negation(text: str) -> Iterator[Remark]:
    """Two negations within a few words: judges answer the wrong way round."""
    for sentence in re.split(r"[.;:?!]\s", text):
        found = list(_NEGATION.finditer(sentence))
        for first, second in itertools.pairwise(found):
            between = sentence[first.end() : second.start()]
            if len(between.split()) <= 4 and not re.search(r"[,]|\b(?:or|and|nor)\b", between):
                yield Remark(
                    f"two negations stand together ({first[0]} … {second[0]})", "say what the reply does instead"
                )
                return


def vague_word(text: str) -> Iterator[Remark]:
    """Words whose meaning every judge fills in for itself."""
    words = _words(_VAGUE, text)
    if words:
        yield Remark(f"judges disagree about what {words} means", "name what can be seen in the reply")


def absolute_word(text: str) -> Iterator[Remark]:
    """Words that no reply can quite live up to."""
    words = _words(_ABSOLUTE, text)
    if words:
        yield Remark(
            f"{words} leaves no room, so borderline replies all fail alike", "say what counts, or drop the word"
        )


def label_letter(text: str) -> Iterator[Remark]:
    """A name of one of the two replies: each is shown in both places."""
    match = _LETTER.search(text)
    if match:
        yield Remark(
            f"{match[0]!r} looks like the name of an answer, and each reply is shown in both places",
            "say `the reply`, without a letter or number",
        )


def length_wording(text: str) -> Iterator[Remark]:
    """Wording that judges take as praise of the longer reply."""
    words = _words(_LENGTH, text)
    if words:
        yield Remark(f"{words} invites the longer reply to win", "name what must be there, or balance it with brevity")


def request(text: str) -> Iterator[Remark]:
    """A text that tells an author what to write: a judge reads a statement about a reply."""
    match = _REQUEST.search(text)
    if match:
        yield Remark(
            f"the text is an order to an author ({match[0].strip()} …), not a statement that a reply can meet",
            "begin with `The reply …`; keep the order as `critique_request` or `revision_request`",
        )


def question(text: str) -> Iterator[Remark]:
    """A text that is a question: whether `yes` is good is left open."""
    if _QUESTION.search(text):
        yield Remark(
            "the text is a question, so it is open whether yes or no is the better answer",
            "turn it into a statement that begins with `The reply …`",
        )


def doubled_word(text: str) -> Iterator[Remark]:
    """The same word twice in a row."""
    match = _DOUBLED.search(text)
    if match:
        yield Remark(f"a word stands twice ({match[0]})", "remove one of them")


def long_text(text: str) -> Iterator[Remark]:
    """More words than one rule needs."""
    count = len(text.split())
    if count > LONGEST_WORDS:
        yield Remark(f"the text has {count} words", f"keep a principle below {LONGEST_WORDS}, or split it")


TEXT_RULES: dict[str, Callable[[str], Iterator[Remark]]] = {
    "compound": compound,
    "double-negation": double_negation,
    "vague-word": vague_word,
    "absolute-word": absolute_word,
    "label-letter": label_letter,
    "length-wording": length_wording,
    "request": request,
    "question": question,
    "doubled-word": doubled_word,
    "long-text": long_text,
}
"""By code: what is asked of every principle's `text`."""


def _words(pattern: re.Pattern[str], text: str) -> str:
    found = dict.fromkeys(match[0].lower() for match in pattern.finditer(text))
    return ", ".join(f"{word!r}" for word in list(found)[:4])


def _near(text: str, match: re.Match[str]) -> str:
    """A few words around a match."""
    start, end = max(0, match.start() - 20), min(len(text), match.end() + 20)
    return "… " + " ".join(text[start:end].split()) + " …"
