"""What a judge is sent: the conversation and the replies first, the principle last, one user message, from template
files.

The files lie in `judges/prompts`, or in a folder of your own; a read-out names the file it needs. Principle-last lets a
server with a prefix cache compute a reply once for all principles; `judges/prompts/principle_first` holds the other
order, to measure the difference. A principle's examples follow its text, in the same slot, so that a template need not
know of them.

A template may hold a `{marker}`: six digits that follow from everything else it shows, so that nobody who wrote a reply
could know them. A verdict line that bears them is the judge's own and no quotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

from constitutions.schema import Example, Principle
from ratify.canonical import digest
from ratify.errors import ConfigError
from ratify.templates import conversation_text, fill, load_template
from ratify.types import Completion, Message, Prompt, Protocol

PROMPT_FOLDER = Path(__file__).parent / "prompts"
MARKER = "marker"
_SLOTS: dict[Protocol, tuple[str, ...]] = {
    "pointwise": ("conversation", "completion", "principle"),
    "pairwise": ("conversation", "completion_a", "completion_b", "principle"),
}


_LIST_SLOTS = ("conversation", "replies", "principle")


class Shown(NamedTuple):
    """What a model is sent for one question."""

    messages: tuple[Message, ...]
    marker: str
    """Six digits; empty where the template has no slot for them."""


class JudgePrompt:
    """The template of one protocol and read-out."""

    def __init__(self, protocol: Protocol, folder: Path | None = None, *, suffix: str = "") -> None:
        """`suffix` ends the file's name: "" for one-token answers, `_text` for text with a marker, and so on.

        Raises:
            ConfigError: the file is missing, lacks a slot or has one that nothing fills.
        """
        path = (folder or PROMPT_FOLDER) / f"{protocol}{suffix}.txt"
        self.text = _read(path)
        self.hash = digest(self.text)
        _require_slots(path, self.text, (*_SLOTS[protocol], MARKER) if suffix == "_text" else _SLOTS[protocol])
        self._marked = f"{{{MARKER}}}" in self.text
        _check_slots(path, self.text, (*_SLOTS[protocol], MARKER))

    def messages(
        self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None
    ) -> tuple[Message, ...]:
        """The request of one question."""
        return self.show(principle, prompt, first, second).messages

    def show(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None) -> Shown:
        """The request of one question, and its marker."""
        fields = {"conversation": conversation_text(prompt.messages), "principle": principle_text(principle)}
        if second is None:
            fields["completion"] = first.text
        else:
            fields |= {"completion_a": first.text, "completion_b": second.text}
        marker = _marker(self.hash, fields) if self._marked else ""
        return Shown((Message(role="user", content=fill(self.text, {**fields, MARKER: marker})),), marker)


class ListPrompt:
    """The template of a list of completions, each under a letter."""

    def __init__(self, folder: Path | None = None, *, suffix: str = "") -> None:
        """`suffix` and errors as of `JudgePrompt`."""
        path = (folder or PROMPT_FOLDER) / f"ranking{suffix}.txt"
        self.text = _read(path)
        self.hash = digest(self.text)
        _require_slots(path, self.text, _LIST_SLOTS)
        _check_slots(path, self.text, _LIST_SLOTS)

    def show(self, principle: Principle, prompt: Prompt, listed: Sequence[Completion]) -> Shown:
        """The request about a list, in the order given; no marker, since nothing is searched for in prose."""
        replies = (f"Reply {letter}:\n{each.text}" for letter, each in zip(ascii_uppercase, listed, strict=False))
        fields = {
            "conversation": conversation_text(prompt.messages),
            "replies": "\n\n".join(replies),
            "principle": principle_text(principle),
        }
        return Shown((Message(role="user", content=fill(self.text, fields)),), "")


class TurnPrompt:
    """The second turn of a judge that has reasoned: a plain text without slots."""

    def __init__(self, protocol: Protocol, folder: Path | None = None) -> None:
        """Raises ConfigError when the file is missing or has a slot."""
        path = (folder or PROMPT_FOLDER) / f"{protocol}_turn.txt"
        self.text = _read(path)
        self.hash = digest(self.text)
        _check_slots(path, self.text, ())


def _marker(template: str, fields: dict[str, str]) -> str:
    return str(int(digest({"template": template, **fields})[:12], 16) % 900_000 + 100_000)


def _read(path: Path) -> str:
    if not path.is_file() and path.parent != PROMPT_FOLDER:
        raise ConfigError(
            f"prompt template {path} cannot be read, because there is no such file; "
            f"copy it from {PROMPT_FOLDER} and edit it, or leave judge.prompts_dir out"
        )
    return load_template(path)


def _require_slots(path: Path, text: str, needed: Sequence[str]) -> None:
    for slot in needed:
        if f"{{{slot}}}" not in text:
            why = "a verdict could be forged" if slot == MARKER else "the judge would not see it"
            raise ConfigError(f"prompt template {path} has no slot {{{slot}}}; {why}")


def _check_slots(path: Path, text: str, known: tuple[str, ...]) -> None:
    try:
        fill(text, dict.fromkeys(known, ""))
    except ConfigError as error:
        raise ConfigError(f"prompt template {path}: {error}") from None


def principle_text(principle: Principle) -> str:
    """A principle as a judge reads it: its text, then its examples."""
    return "\n".join([principle.text, *map(_example_text, principle.examples)])


def _example_text(example: Example) -> str:
    why = f" Why: {example.why}" if example.why else ""
    return f"Example. Asked: {example.prompt} Follows it: {example.better} Does not: {example.worse}{why}"
