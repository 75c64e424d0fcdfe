"""The page of licences is that of the lock, and nothing in it binds whoever ships this project."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements" / "cpu.txt").read_text()


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "requirements" / "licences.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_packages_say(tool: ModuleType) -> None:
    assert tool.PAGE.read_text() == tool.page(tool.licences(LOCK)), "run `python requirements/licences.py`"


def test_every_package_has_a_licence_and_none_is_gpl(tool: ModuleType) -> None:
    found = tool.licences(LOCK)
    assert len(found) > 200
    assert [each.package for each in found if each.forbidden or not each.licence.strip()] == []


@pytest.mark.parametrize(
    ("licence", "forbidden"),
    [
        ("GPL-3.0-only", True), ("AGPL-3.0", True), ("GNU General Public License v2 or later (GPLv2+)", True),
        ("LGPL-2.1-only", False), ("GNU Lesser General Public License v3 (LGPLv3)", False), ("MIT", False),
        ("Artistic License (chosen; also offered under the GPL)", False),
    ],
)  # fmt: skip
def test_the_gpl_is_told_from_the_lgpl(tool: ModuleType, licence: str, forbidden: bool) -> None:
    assert tool.Licence("x", "1", licence).forbidden is forbidden
