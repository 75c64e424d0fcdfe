"""Import the JSON files of Constitutional AI and of its descendants.

Four shapes: Anthropic's critique-and-revision instructions (an object of `{prompt, edit_request}`), their comparison
principles (an array of texts), the llm-swarm file of Hugging Face (`{constitutions: [{critic, revision}]}`), and the
critique/revision pairs of other recipes are not guessed at. The role marks (`CritiqueRequest:`, `Options:`) are
format, not text, and are cut off; a text without its marks is reported. A principle needs a `text`: for a
critique/revision pair that is the revision request, whose direction is clear, word for word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitutions.drafts import Draft
from ratify.errors import ConstitutionError

_CRITIQUE = re.compile(r"^\s*CritiqueRequest:\s*(.*?)\s*Critique:\s*$", re.DOTALL)
_REVISION = re.compile(r"^\s*RevisionRequest:\s*(.*?)\s*Revision:\s*$", re.DOTALL)
_COMPARISON = re.compile(r"^\s*(.*?)\s*Options:\s*$", re.DOTALL)


def read_json(path: Path, text: str) -> Any:
    """Parse JSON.

    Raises:
        ConstitutionError: it is not JSON; with file and line.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConstitutionError.at(path, error.lineno, f"not valid JSON: {error.msg}") from None
    except RecursionError:
        raise ConstitutionError.at(path, 1, "not usable JSON: nested too deeply") from None


def is_llm_swarm(value: Any) -> bool:
    """Whether this is `{constitutions: [...]}`."""
    return isinstance(value, dict) and isinstance(value.get("constitutions"), list)


def is_instructions(value: Any) -> bool:
    """Whether this is an object of `{prompt, edit_request}`."""
    return isinstance(value, dict) and any(isinstance(each, dict) and "edit_request" in each for each in value.values())


def is_comparisons(value: Any) -> bool:
    """Whether this is an array of texts."""
    return isinstance(value, list) and any(isinstance(each, str) for each in value)


def import_llm_swarm(draft: Draft, value: Mapping[str, Any]) -> None:
    """`{constitutions: [{critic, revision}], system_chat: […]}` of huggingface/llm-swarm."""
    for index, item in enumerate(value["constitutions"]):
        place = f"constitutions[{index}]"
        fields = item if isinstance(item, dict) else {}
        _add_pair(draft, f"principle-{index + 1:02d}", place, fields.get("critic"), fields.get("revision"))
        for name in sorted(set(fields) - {"critic", "revision"}):
            draft.note(_line(draft, f'"{name}"'), f"{place}.{name} is not imported: no field of a principle is like it")
    for name in sorted(set(value) - {"constitutions"}):
        what = f"{len(value[name])} entries" if isinstance(value[name], list) else "it"
        draft.note(_line(draft, f'"{name}"'), f"{name} is not imported ({what}): it holds no principles")


def import_instructions(draft: Draft, value: Mapping[str, Any]) -> None:
    """`{harmful0: {prompt: ["…CritiqueRequest: … Critique:"], edit_request: "…"}}` of Bai et al. (2022)."""
    for name, item in value.items():
        line = _line(draft, f'"{name}"')
        fields = item if isinstance(item, dict) else {}
        asked = fields.get("prompt")
        if isinstance(asked, list):
            if len(asked) > 1:
                draft.note(line, f"{name}.prompt has {len(asked)} texts; only the first is imported")
            asked = asked[0] if asked else None
        critique = _unmarked(draft, asked, _CRITIQUE, f"{name}.prompt", "CritiqueRequest: … Critique:")
        revision = _unmarked(draft, fields.get("edit_request"), _REVISION, f"{name}.edit_request", "RevisionRequest: …")
        _add_pair(draft, name, name, critique, revision)


def import_comparisons(draft: Draft, value: list[Any]) -> None:
    """`["<question> Options:", …]`: the comparison principles of Bai et al. (2022)."""
    for index, item in enumerate(value):
        place = f"[{index}]"
        text = _unmarked(draft, item, _COMPARISON, place, "… Options:")
        if not isinstance(text, str) or not text.strip():
            draft.note(1, f"{place} is not imported: it is no text")
            continue
        line = _line(draft, text)
        draft.add(f"comparison-{index + 1:02d}", line, text=text.strip(), meta={"source": f"{draft.path.name}#{place}"})


def _add_pair(draft: Draft, name: str, place: str, critique: Any, revision: Any) -> None:
    """A principle of a critique request and a revision request."""
    texts = [each.strip() if isinstance(each, str) else "" for each in (critique, revision)]
    line = _line(draft, texts[0] or texts[1] or f'"{name}"')
    if not any(texts):
        draft.note(line, f"{place} is not imported: it has neither a critique nor a revision request")
        return
    for what, text in zip(("critique", "revision"), texts, strict=True):
        if not text:
            draft.note(line, f"{place} has no {what} request; the other one stands alone")
    draft.add(
        name, line, text=texts[1] or texts[0], critique_request=texts[0], revision_request=texts[1],
        meta={"source": f"{draft.path.name}#{place}"},
    )  # fmt: skip


def _unmarked(draft: Draft, text: Any, marks: re.Pattern[str], place: str, form: str) -> Any:
    """A text without its role marks; reported and left alone if they are not there."""
    if not isinstance(text, str):
        return text
    match = marks.match(text)
    if match is None:
        draft.note(_line(draft, text), f"{place} is not of the form `{form}`; it is imported as it stands")
        return text
    return match[1]


def _line(draft: Draft, value: str) -> int:
    """The line of a text in the JSON file, where it may be spelled with escapes."""
    plain = draft.line_of(value)
    return plain if plain > 1 else draft.line_of(json.dumps(value.strip())[1:-1])
