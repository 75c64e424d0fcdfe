"""What one principle says about every pair, as a column: the log-odds of its two verdicts, and their keys.

Columns are what relabelling works on: a principle whose text did not change keeps its column, whatever else was edited.
A column in which nothing is missing is kept as a file under the hash of all that it depends on, since reading it takes
milliseconds where looking up every verdict takes minutes at a hundred thousand pairs. The verdict store stays the
truth: the files can be deleted at any time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from constitutions.field_classes import FieldClass
from constitutions.hashes import fields_of
from constitutions.schema import Principle
from judges.aggregate import Bools, Floats, Outcomes
from judges.checked import certain, precede
from judges.questions import Judge, Pair, Questionnaire
from judges.rules_judge import CERTAINTY
from ratify.canonical import JsonValue, digest
from ratify.files import replacing
from ratify.types import Prompt, Protocol, Verdict

Keys = NDArray[np.bytes_]
KEY = "S64"
_SEEN = {FieldClass.JUDGE_VISIBLE, FieldClass.SCOPE, FieldClass.DETERMINISTIC}


class Column(NamedTuple):
    """One principle about N pairs."""

    asked: Bools
    """(N,): it is for this pair."""
    z: Floats
    """(N, 2): NaN where the verdict is missing."""
    keys: Keys
    """(N, 2): empty where nobody is asked."""
    decided: Outcomes
    """(N,): 1 or −1 where its checks decide, else 0."""

    @property
    def lacks(self) -> Bools:
        """(N,): a verdict is missing."""
        return self.asked & np.isnan(self.z).any(axis=1)


def pairs_identity(prompts: Mapping[str, Prompt], pairs: Sequence[Pair]) -> str:
    """Hash of everything about the pairs that a column depends on."""
    used = sorted({pair[0].prompt_id for pair in pairs})
    shown: list[JsonValue] = [[a.prompt_id, a.id, a.text, b.id, b.text] for a, b in pairs]
    return digest([[prompts[name].model_dump(mode="json") for name in used], shown])


def column_identity(principle: Principle, judge: Judge, pairs: str) -> str:
    """Hash of everything that a column depends on; `pairs` is their identity."""
    seen = fields_of(principle, _SEEN) | {"certainty": CERTAINTY if precede(principle, judge) else None}
    return digest({"judge": judge.fingerprint, "coverage": judge.min_coverage, "principle": seen, "pairs": pairs})


def build_columns(
    sheet: Questionnaire,
    principles: Sequence[Principle],
    verdicts: Mapping[str, Verdict],
    protocol: Protocol,
    decided: Outcomes | None = None,
) -> list[Column]:
    """One column per principle from the verdicts by key; a failed one is a missing one.

    `decided` (N, P) says what checks decided, so that the questionnaire does not ask about it; None is nothing.
    """
    logits = {key: verdict.logit for key, verdict in verdicts.items() if verdict.logit is not None}
    if decided is None:
        decided = np.zeros((len(sheet.pairs), len(principles)), dtype=np.int8)
    return [
        _build(sheet, principle.id, logits, decided[:, index], protocol) for index, principle in enumerate(principles)
    ]


def _build(
    sheet: Questionnaire, principle: str, logits: Mapping[str, float], decided: Outcomes, protocol: Protocol
) -> Column:
    asked: Bools = decided != 0
    z = certain(decided, protocol)
    keys = np.zeros((len(sheet.pairs), 2), dtype=KEY)
    for row, of_pair in enumerate(sheet.keys):
        both = of_pair.get(principle)
        if both is not None:
            asked[row] = True
            keys[row] = both
            z[row] = [logits.get(key, np.nan) for key in both]
    return Column(asked, z, keys, decided)


def write_column(path: Path, column: Column) -> None:
    """Keep a column whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, asked=column.asked, z=column.z, keys=_packed(column.keys), decided=column.decided)


def read_column(path: Path) -> Column | None:
    """A kept column; None when there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return Column(held["asked"], held["z"], _unpacked(held["keys"]), held["decided"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _packed(keys: Keys) -> NDArray[np.uint8]:
    """Hexadecimal to half as many bytes; a missing key is all zeros."""
    filled = np.where(keys == b"", b"0" * 64, keys).astype(KEY)
    return np.frombuffer(bytes.fromhex(filled.tobytes().decode()), dtype=np.uint8).reshape(*keys.shape, 32)


def _unpacked(packed: NDArray[np.uint8]) -> Keys:
    keys = np.frombuffer(packed.tobytes().hex().encode(), dtype=KEY).reshape(packed.shape[:-1]).copy()
    keys[~packed.any(axis=-1)] = b""
    return keys
