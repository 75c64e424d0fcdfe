"""Arrow arrays straight from Python texts and NumPy numbers, by their buffers.

`pa.array` makes the same arrays, but the first call loads pandas (47 MB that stay) to see whether it was handed one of
its objects. Left out: every type that the tables of labels and pairs do not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from judges.aggregate import Bools, Floats


def texts(values: Sequence[str]) -> pa.Array:
    """A column of texts."""
    encoded = [value.encode() for value in values]
    return texts_of(b"".join(encoded), offsets(map(len, encoded)))


def texts_of(characters: bytes | NDArray[np.uint8], places: NDArray[np.int32]) -> pa.Array:
    """Texts that lie one after the other as UTF-8; `places` (n + 1,) says where each begins and the last one ends."""
    return pa.StringArray.from_buffers(len(places) - 1, pa.py_buffer(places), pa.py_buffer(characters))


def offsets(lengths: Iterable[int]) -> NDArray[np.int32]:
    """(n + 1,): where each of some lists begins, and where the last one ends."""
    ends = np.cumsum(np.fromiter(lengths, dtype=np.int64))
    return np.concatenate([[0], ends]).astype(np.int32)


def floats(values: Floats, lost: Bools | None = None) -> pa.Array:
    """A column of numbers, null where one is `lost`."""
    kept = None if lost is None or not lost.any() else pa.py_buffer(np.packbits(~lost, bitorder="little"))
    numbers = pa.py_buffer(np.ascontiguousarray(values, dtype=np.float64))
    return pa.Array.from_buffers(pa.float64(), len(values), [kept, numbers])


def row_numbers(places: Sequence[int] | NDArray[np.integer]) -> pa.Array:
    """Which rows to take."""
    whole = np.ascontiguousarray(places, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(whole), [None, pa.py_buffer(whole)])


def lists(places: NDArray[np.int32], items: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column of lists from all their items one after the other; `places` as in `texts_of`."""
    return pa.Array.from_buffers(kind, len(places) - 1, [None, pa.py_buffer(places)], children=[items])
