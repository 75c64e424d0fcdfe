"""The licence of every package of the CPU lock, from its own metadata: `python requirements/licences.py` writes
docs/licences.md.

A test compares that page with the lock and refuses the GPL and the AGPL, which would bind whoever ships this project.
Run it in an environment that holds the lock. Where a package says nothing or something ambiguous, `DECIDED` says what
its licence file says, read by a person.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent / "docs" / "licences.md"
_LINE = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)
DECIDED = {
    "intel-cmplr-lib-ur": "Intel End User License Agreement for Developer Tools (proprietary, redistributable)",
    "intel-openmp": "Intel End User License Agreement for Developer Tools (proprietary, redistributable)",
    "oss-harmony": "Apache-2.0",
    "prometheus-fastapi-instrumentator": "ISC",
    "setuptools": "MIT",
    "text-unidecode": "Artistic License (chosen; also offered under the GPL)",
}
HEAD = """# Licences of what is installed

Made by `python requirements/licences.py` from the packages' own metadata, for `requirements/cpu.txt`; a test keeps it
in step with the lock and refuses the GPL and the AGPL. The LGPL's packages are used as they are, as libraries. Intel's
two come with the CPU build of vLLM and are under a proprietary licence that allows redistribution. This project itself
is under Apache-2.0; `data/` says where its data comes from.

| package | version | licence |
|---|---|---|
"""


class Licence(NamedTuple):
    """One line of the page."""

    package: str
    version: str
    licence: str

    @property
    def forbidden(self) -> bool:
        """GPL or AGPL, without a choice of another; the LGPL is none of these."""
        return (
            re.search(r"(?<!L)GPL|(?<!Lesser )General Public License", self.licence.partition("(chosen")[0]) is not None
        )


def licences(lock: str) -> list[Licence]:
    """The licence of every package that a lock names."""
    return [Licence(name, version, licence_of(name)) for name, version in _LINE.findall(lock)]


def licence_of(package: str) -> str:
    """What a package's metadata says: the SPDX expression, else its classifiers, else its licence field."""
    if package in DECIDED:
        return DECIDED[package]
    about = metadata.metadata(package)
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [line.split(" :: ")[-1] for line in about.get_all("Classifier", []) if line.startswith("License")]
    return "; ".join(classifiers) or (about.get("License") or "").split("\n")[0][:80]


def page(found: list[Licence]) -> str:
    """The page."""
    return HEAD + "".join(f"| {each.package} | {each.version} | {each.licence} |\n" for each in found)


if __name__ == "__main__":
    PAGE.write_text(page(licences((FOLDER / "cpu.txt").read_text(encoding="utf-8"))), encoding="utf-8")
