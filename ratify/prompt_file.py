"""A prompt file that stays on disk: prompts are looked up by id where they lie, for a stage that goes through more of
them than it wants to hold. In memory are 16 bytes a prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ratify.errors import InputError
from ratify.prompts import load_prompts, parse_prompt, prompts_with_places
from ratify.types import Prompt


class PromptFile(Mapping[str, Prompt]):
    """All prompts of a file by id.

    Raises:
        InputError: as `load_prompts`; and at a look-up, when the file has changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        places = ((_mark(prompt.id), offset) for offset, prompt in prompts_with_places(path))
        found = np.fromiter(places, dtype=np.dtype([("mark", np.uint64), ("offset", np.int64)]))
        found.sort(order=["mark", "offset"])
        if (found["mark"][1:] == found["mark"][:-1]).any():
            load_prompts(path)  # says which id occurs twice, unless two ids only share a hash
        self._marks = np.ascontiguousarray(found["mark"])
        self._offsets = np.ascontiguousarray(found["offset"])
        """In bytes."""

    def __getitem__(self, name: str) -> Prompt:
        mark = np.uint64(_mark(name))
        first, end = np.searchsorted(self._marks, mark, "left"), np.searchsorted(self._marks, mark, "right")
        if first == end:
            raise KeyError(name)
        found = (self._at(int(offset)) for offset in self._offsets[first:end])
        prompt = next((each for each in found if each is not None and each.id == name), None)
        if prompt is None:
            raise InputError(f"prompt file {self._path} changed while it was used; run the same command again")
        return prompt

    def _at(self, offset: int) -> Prompt | None:
        with self._path.open("rb") as file:
            file.seek(offset)
            line = file.readline()
        try:
            return parse_prompt(self._path, 1, line.decode())
        except (InputError, UnicodeDecodeError):
            return None

    def __iter__(self) -> Iterator[str]:
        return (prompt.id for _, prompt in prompts_with_places(self._path))

    def __len__(self) -> int:
        return len(self._marks)


def _mark(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
