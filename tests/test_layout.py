"""The house itself: rooms import only downwards, modules say what they are, files and functions stay readable."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "ratify": set(),
    "constitutions": {"ratify"},
    "generation": {"ratify"},
    "judges": {"constitutions", "ratify"},
    "training": {"ratify"},
    "evaluation": {"ratify"},
    "demo": {"ratify"},
    "flows": {"evaluation", "training", "judges", "generation", "demo", "constitutions", "ratify"},
}
ATTIC_NAMES = {"utils", "helpers", "common", "misc", "base", "manager", "core"}
MODULES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]


def imported_names(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_keeps_the_house_rules(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    room = path.relative_to(ROOT).parts[0]
    sideways = (imported_names(tree) & set(MAY_IMPORT)) - MAY_IMPORT[room] - {room}
    assert not sideways, f"{room} must not import {sideways}"
    assert ast.get_docstring(tree), "a module opens by saying what it is"
    assert text.count("\n") <= 500, "a file has at most 500 lines"
    assert path.stem not in ATTIC_NAMES
    long = [node.name for node in functions(tree) if node.end_lineno - node.lineno + 1 > 60]
    assert not long, f"functions over 60 lines: {long}"


def test_only_flows_import_prefect() -> None:
    guilty = [path for path in MODULES if "prefect" in imported_names(ast.parse(path.read_text()))]
    assert {path.relative_to(ROOT).parts[0] for path in guilty} <= {"flows"}
    assert not [path for path in guilty if "stages" in path.parts], "stage code runs without Prefect"


def test_the_floor_starts_without_heavy_libraries() -> None:
    heavy = ("torch", "transformers", "prefect", "vllm")
    script = f"import sys, flows.cli, flows.stages; print([m for m in {heavy} if m in sys.modules])"
    import sys

    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
