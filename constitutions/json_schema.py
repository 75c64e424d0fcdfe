"""The JSON Schema of a constitution file, from which editors complete and check the YAML.

It is made from the same classes that load the file, with each field's documentation and what an edit of it costs. It
cannot know what lies between fields: unknown tiers, double ids, renames. `# yaml-language-server: $schema=…` in a
file's first line points VS Code at it.
"""

from __future__ import annotations

from typing import Any

from constitutions.diff import COSTS
from constitutions.field_classes import Part, class_of
from constitutions.schema import Aggregate, Constitution, JudgeDefaults, Principle


def constitution_schema() -> dict[str, Any]:
    """The schema as plain JSON."""
    schema = Constitution.model_json_schema(by_alias=True, mode="validation")
    parts: tuple[type[Part], ...] = (Constitution, Principle, JudgeDefaults, Aggregate)
    for part in parts:
        properties = (schema if part is Constitution else schema["$defs"][part.__name__])["properties"]
        for name, info in part.model_fields.items():
            kind = class_of(info)
            if kind is not None:
                here = properties[info.alias or name]
                here["description"] = f"{here.get('description', '')} An edit costs: {COSTS[kind]}.".strip()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Ratify constitution"}
