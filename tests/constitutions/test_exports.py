"""What is written for others says the same; the schema for editors is the one that loads files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from constitutions.drafts import as_yaml
from constitutions.exports import to_icai, to_json, to_llm_swarm, to_markdown
from constitutions.import_json import is_llm_swarm
from constitutions.imports import import_draft
from constitutions.json_schema import constitution_schema
from constitutions.load import load_constitution, parse_constitution
from constitutions.schema import Constitution
from constitutions.template import new_constitution
from ratify.lineage import ROOT

SHIPPED = sorted((ROOT / "constitutions").glob("*.yaml"))
GENERAL = ROOT / "constitutions" / "helpful-honest-harmless.yaml"


def test_json_loads_again_as_the_same_constitution() -> None:
    constitution = load_constitution(GENERAL)
    assert parse_constitution(as_yaml(json.loads(to_json(constitution))), Path("x.yaml")) == constitution


def test_markdown_names_every_active_principle_below_its_tier() -> None:
    constitution = load_constitution(GENERAL)
    page = to_markdown(constitution)
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == [f"## {tier}" for tier in constitution.tiers]
    assert all(f"### {each.id}\n\n{each.text}" in page for each in constitution.active)


def test_the_llm_swarm_shape_is_imported_again(tmp_path: Path) -> None:
    constitution = load_constitution(GENERAL)
    path = tmp_path / "swarm.json"
    path.write_text(to_llm_swarm(constitution))
    assert is_llm_swarm(json.loads(path.read_text()))
    asked = [each for each in constitution.active if each.critique_request and each.revision_request]
    again = import_draft(path).constitution("x").principles
    assert [each.critique_request for each in again] == [each.critique_request for each in asked]


def test_the_icai_shape_is_yaml_with_every_text_word_for_word() -> None:
    constitution = load_constitution(GENERAL)
    fields = YAML(typ="safe", pure=True).load(to_icai(constitution))
    assert fields == {
        "s0_skip_principle_generation": True,
        "s0_added_principles_to_test": [each.text for each in constitution.active],
    }


def test_the_shipped_schema_is_the_one_that_loads_files() -> None:
    shipped = json.loads((ROOT / "constitutions" / "constitution.schema.json").read_text())
    assert shipped == constitution_schema(), (
        "run: ratify constitution schema --out constitutions/constitution.schema.json"
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_ships_meets_the_schema(path: Path) -> None:
    tree = YAML(typ="safe", pure=True).load(path.read_text())
    assert [error.message for error in Draft202012Validator(constitution_schema()).iter_errors(tree)] == []


def test_the_schema_documents_every_field_and_refuses_a_misspelt_one() -> None:
    schema = constitution_schema()
    assert "judged again" in schema["$defs"]["Principle"]["properties"]["text"]["description"]
    tree = YAML(typ="safe", pure=True).load(new_constitution("x", "s").replace("weight: 2.0", "wieght: 2.0"))
    assert any("wieght" in error.message for error in Draft202012Validator(schema).iter_errors(tree))


def test_the_template_is_a_constitution() -> None:
    assert isinstance(parse_constitution(new_constitution("x", "s"), Path("x.yaml")), Constitution)
