"""What a judge is sent: the conversation and the replies first, the principle last, one user message, from template
files.

The files are `judges/prompts/pointwise.txt` and `pairwise.txt`, or a folder of your own. Principle-last lets a server
with a prefix cache compute a reply once for all principles. A principle's examples follow its text, in the same slot,
so that a template need not know of them.
"""

from __future__ import annotations

from pathlib import Path

from constitutions.schema import Example, Principle
from ratify.canonical import digest
from ratify.errors import ConfigError
from ratify.templates import conversation_text, fill, load_template
from ratify.types import Completion, Message, Prompt, Protocol

PROMPT_FOLDER = Path(__file__).parent / "prompts"
_SLOTS: dict[Protocol, tuple[str, ...]] = {
    "pointwise": ("conversation", "completion", "principle"),
    "pairwise": ("conversation", "completion_a", "completion_b", "principle"),
}


class JudgePrompt:
    """The template of one protocol."""

    def __init__(self, protocol: Protocol, folder: Path | None = None) -> None:
        path = (folder or PROMPT_FOLDER) / f"{protocol}.txt"
        self.text = load_template(path)
        self.hash = digest(self.text)
        missing = [slot for slot in _SLOTS[protocol] if f"{{{slot}}}" not in self.text]
        if missing:
            raise ConfigError(f"prompt template {path} has no slot {{{missing[0]}}}; the judge would not see it")
        fill(self.text, dict.fromkeys(_SLOTS[protocol], ""))

    def messages(
        self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None
    ) -> tuple[Message, ...]:
        """The request of one question."""
        fields = {"conversation": conversation_text(prompt.messages), "principle": principle_text(principle)}
        if second is None:
            fields["completion"] = first.text
        else:
            fields |= {"completion_a": first.text, "completion_b": second.text}
        return (Message(role="user", content=fill(self.text, fields)),)


def principle_text(principle: Principle) -> str:
    """A principle as a judge reads it: its text, then its examples."""
    return "\n".join([principle.text, *map(_example_text, principle.examples)])


def _example_text(example: Example) -> str:
    why = f" Why: {example.why}" if example.why else ""
    return f"Example. Asked: {example.prompt} Follows it: {example.better} Does not: {example.worse}{why}"
