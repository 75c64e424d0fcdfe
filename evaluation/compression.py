"""How far replies can be compressed: bytes over compressed bytes, by zlib at level 6.

zlib finds repeats within 32 KiB, so a policy that says the same to every prompt compresses well; the ratio grows with
the amount of text until that window is full, so policies are compared on the same number of bytes of the same prompts.
The cross ratio compresses each piece of the new policy's text after 32 KiB of the old policy's: where it is well below
the new policy's own, the policies do not say the same things. Case and spaces count.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import Estimate, student
from evaluation.ngram_figures import Compared, compared
from evaluation.prompt_groups import GROUPS, budget_of
from evaluation.word_stream import mixed

LEVEL = 6
WINDOW_BYTES = 32 * 1024
LEAST_BYTES = 400
MOST_BYTES = 1 << 20
"""Bytes of a group that are compressed at most: past 32 windows more text hardly moves the ratio."""


def compression_ratio(text: bytes) -> float:
    """Bytes over bytes after compression."""
    return len(text) / len(zlib.compress(text, LEVEL))


def cross_ratio(text: bytes, reference: bytes, piece_bytes: int = WINDOW_BYTES // 2) -> float:
    """The same for text in pieces, each compressed after 32 KiB of the reference (a zlib dictionary), in turn."""
    compressed = 0
    for start in range(0, len(text), piece_bytes):
        at = min(start, max(0, len(reference) - WINDOW_BYTES))
        packer = zlib.compressobj(LEVEL, zdict=reference[at : at + WINDOW_BYTES])
        compressed += len(packer.compress(text[start : start + piece_bytes])) + len(packer.flush())
    return len(text) / compressed


def compared_compression(
    old: Sequence[str],
    new: Sequence[str],
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
    confidence: float = 0.95,
) -> Compared:
    """The ratio of both policies on equally many bytes of each group of prompts; `groups` hold each reply's group.

    Raises:
        EvidenceError: when a group holds too few bytes in either policy.
    """
    parts = _equal_parts(old, new, groups)
    ratios = [[compression_ratio(part) for part in side] for side in parts]
    return compared(ratios[0], ratios[1], confidence, (len(old), len(new)))


def cross_compression(
    old: Sequence[str],
    new: Sequence[str],
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
    confidence: float = 0.95,
) -> Estimate:
    """The new policy's text after the old policy's replies to other prompts (those of the next group).

    Raises:
        EvidenceError: when a group holds too few bytes in either policy.
    """
    before, after = _equal_parts(old, new, groups)
    ratios = [cross_ratio(part, before[(number + 1) % GROUPS]) for number, part in enumerate(after)]
    return student(ratios, confidence, n=len(old) + len(new))


def _equal_parts(
    old: Sequence[str], new: Sequence[str], groups: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[list[bytes], list[bytes]]:
    before, after = _parts(old, groups[0]), _parts(new, groups[1])
    sizes = [np.array([len(part) for part in side]) for side in (before, after)]
    budget = min(MOST_BYTES, budget_of(sizes, "compression", "bytes", LEAST_BYTES))
    return [part[:budget] for part in before], [part[:budget] for part in after]


def _parts(texts: Sequence[str], group: NDArray[np.int64]) -> list[bytes]:
    """The text of each group, replies shuffled, so that those of one prompt seldom follow each other."""
    order = np.argsort(mixed(np.arange(len(texts))), kind="stable")
    parts: list[list[bytes]] = [[] for _ in range(GROUPS)]
    sizes = [0] * GROUPS
    for at in order.tolist():
        number = int(group[at])
        if sizes[number] < MOST_BYTES:
            parts[number].append(texts[at].encode("utf-8", "replace"))
            sizes[number] += len(parts[number][-1]) + 1
    return [b" ".join(part) for part in parts]
