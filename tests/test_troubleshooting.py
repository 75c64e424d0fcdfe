"""Every message that docs/troubleshooting.md explains is one that the code can print."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("ratify", "constitutions", "generation", "judges", "training", "evaluation", "flows")
GAP = "…"


def spoken(node: ast.AST) -> str:
    """A string as a reader meets it: what is filled in becomes `…`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(spoken(part) if isinstance(part, ast.Constant) else GAP for part in node.values)
    return ""


def all_strings() -> str:
    trees = (ast.parse(path.read_text()) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return "\n".join(filter(None, (spoken(node) for tree in trees for node in ast.walk(tree))))


def explained() -> list[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| ", page, flags=re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row) if " " in message]


SAID = all_strings()


@pytest.mark.parametrize("message", explained())
def test_the_message_exists(message: str) -> None:
    pieces = [re.escape(piece.strip()) for piece in message.split(GAP) if piece.strip()]
    assert re.search(f"\\{GAP}?.{{0,80}}".join(pieces), SAID), message


def test_the_table_explains_something() -> None:
    assert len(explained()) > 15
