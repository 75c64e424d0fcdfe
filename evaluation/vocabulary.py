"""Words as numbers: texts of any length interned fast, because each distinct piece between blanks is cut only once.

Cutting into words is `diversity.words`, whose words never cross a blank; so a text is split at its blanks, which is
quick, and what one piece comes to (`"well,"` is a word and a mark) is looked up. Left out: anything but numbers.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, count, islice

import numpy as np
from numpy.typing import NDArray

from evaluation.diversity import words

TEXTS_AT_ONCE = 2_000


class Vocabulary:
    """Word numbers in order of first appearance; equal words have equal numbers in everything interned with it."""

    def __init__(self) -> None:
        self.numbers: defaultdict[str, int] = defaultdict(count().__next__)
        self._pieces: defaultdict[str, int] = defaultdict(count().__next__)
        self._cut = array("i")
        """The word numbers of all pieces, one piece after the other."""
        self._ends = array("q", [0])
        """Where each piece's word numbers begin in `_cut`, and where the last one's end."""

    def __len__(self) -> int:
        return len(self.numbers)

    def intern(self, texts: Iterable[str], lengths: list[int]) -> NDArray[np.int32]:
        """Word numbers of all texts in a row; the number of words of each text is appended to `lengths`."""
        rest, found = iter(texts), [np.zeros(0, dtype=np.int32)]
        while block := list(islice(rest, TEXTS_AT_ONCE)):
            found.append(self._intern(block, lengths))
        return np.concatenate(found)

    def spelled(self, numbers: Iterable[int]) -> list[str]:
        """The words of some numbers."""
        names = list(self.numbers)
        return [names[number] for number in numbers]

    def _intern(self, texts: list[str], lengths: list[int]) -> NDArray[np.int32]:
        pieces_of = np.zeros(len(texts), dtype=np.int64)

        def split() -> Iterator[list[str]]:
            for place, text in enumerate(texts):
                pieces = text.lower().split()
                pieces_of[place] = len(pieces)
                yield pieces

        pieces = np.fromiter(map(self._pieces.__getitem__, chain.from_iterable(split())), dtype=np.int32)
        self._cut_new()
        ends = np.array(self._ends, dtype=np.int64)
        begins, sizes = ends[pieces], np.diff(ends)[pieces]
        before = np.concatenate([[0], np.cumsum(sizes)])
        shifts = np.repeat(begins - before[:-1], sizes)
        borders = np.concatenate([[0], np.cumsum(pieces_of)])
        lengths.extend(np.diff(before[borders]).tolist())
        found: NDArray[np.int32] = np.array(self._cut, dtype=np.int32)[np.arange(len(shifts)) + shifts]
        return found

    def _cut_new(self) -> None:
        """Cut the pieces that were never met before."""
        for piece in islice(self._pieces, len(self._ends) - 1, None):
            self._cut.extend(self.numbers[word] for word in words(piece))
            self._ends.append(len(self._cut))
