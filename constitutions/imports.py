"""One door for importers: find out what a file is, and make a draft of it.

The formats are those of `FORMATS`; a file that is none of them is refused with their names. The result is a draft
with its notes: nothing is written here.
"""

from __future__ import annotations

from pathlib import Path

from constitutions.drafts import Draft
from constitutions.import_json import (
    import_comparisons,
    import_instructions,
    import_llm_swarm,
    is_comparisons,
    is_instructions,
    is_llm_swarm,
    read_json,
)
from constitutions.import_model_spec import import_model_spec, is_model_spec
from constitutions.import_promptfoo import import_promptfoo
from constitutions.load import read_text
from ratify.errors import ConstitutionError

FORMATS = ("anthropic", "llm-swarm", "model-spec", "promptfoo")


def import_draft(path: Path, file_format: str = "") -> Draft:
    """Read a file of a known format; without a name the format is found by the file's shape.

    Raises:
        ConstitutionError: the file is none of the formats, or not the one that was named.
    """
    draft = Draft(path, read_text(path))
    chosen = file_format or _guess(draft)
    if chosen not in FORMATS:
        raise ConstitutionError(f"unknown format {chosen!r}; known formats: {', '.join(FORMATS)}")
    if chosen == "model-spec":
        import_model_spec(draft)
    elif chosen == "promptfoo":
        import_promptfoo(draft)
    else:
        _import_json(draft, chosen)
    if not draft.principles:
        raise ConstitutionError.at(path, 1, "nothing in this file can be imported as a principle")
    return draft


def _import_json(draft: Draft, chosen: str) -> None:
    value = read_json(draft.path, draft.text)
    if chosen == "llm-swarm" and is_llm_swarm(value):
        import_llm_swarm(draft, value)
    elif chosen == "anthropic" and is_instructions(value):
        import_instructions(draft, value)
    elif chosen == "anthropic" and is_comparisons(value):
        import_comparisons(draft, value)
    else:
        raise ConstitutionError.at(
            draft.path, 1, f"not the shape of the format {chosen}; see docs/constitutions.md for the shapes"
        )


def _guess(draft: Draft) -> str:
    """The format that the file's shape shows."""
    if draft.path.suffix.lower() in (".yaml", ".yml"):
        return "promptfoo"
    if is_model_spec(draft.text):
        return "model-spec"
    if draft.text.lstrip()[:1] in ("{", "["):
        return "llm-swarm" if is_llm_swarm(read_json(draft.path, draft.text)) else "anthropic"
    raise ConstitutionError.at(
        draft.path,
        1,
        f"this is none of the formats that can be imported ({', '.join(FORMATS)}); name one with --format",
    )
