"""Arrays by their buffers are those that `pa.array` makes, also as bytes of a Parquet file, and load no pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from judges.arrow_arrays import floats, lists, offsets, row_numbers, texts
from judges.dataset import write_table
from ratify.lineage import ROOT

TEXTS = ["", "a", "æß", "日本語", "a\nb", "x" * 5_000]
NUMBERS = np.array([0.0, -1.5, np.inf, 1e-300, 2.0, 3.0, 4.0, 5.0, 6.0])
NONE = np.zeros(len(NUMBERS), dtype=np.bool_)
NESTED = [[], ["a", ""], [], ["日"], []]
FLAT = [text for several in NESTED for text in several]


@pytest.mark.parametrize(
    ("made", "oracle"),
    [
        (texts(TEXTS), pa.array(TEXTS, pa.string())),
        (texts([]), pa.array([], pa.string())),
        (floats(NUMBERS), pa.array(NUMBERS)),
        (floats(NUMBERS[::2]), pa.array(NUMBERS[::2])),
        (floats(NUMBERS, NUMBERS > 1.5), pa.array(NUMBERS, mask=NUMBERS > 1.5)),
        (floats(NUMBERS, NONE), pa.array(NUMBERS, mask=NONE)),
        (row_numbers([3, 0, 3]), pa.array([3, 0, 3])),
        (lists(offsets(map(len, NESTED)), texts(FLAT), pa.list_(pa.string())), pa.array(NESTED)),
    ],
)
def test_an_array_equals_that_of_arrow_itself(made: pa.Array, oracle: pa.Array, tmp_path: Path) -> None:
    made.validate(full=True)
    assert made.type == oracle.type and made.equals(oracle) and made.null_count == oracle.null_count
    for name, each in (("made", made), ("oracle", oracle)):
        write_table(tmp_path / name, pa.table({"column": each}))
    assert (tmp_path / "made").read_bytes() == (tmp_path / "oracle").read_bytes()


SCRIPT = """
import sys
from pathlib import Path
from judges.labels import label_pairs
from judges.label_table import label_rows, verdict_keys
from judges.preference_table import preference_rows
from judges.dataset import write_table
from judges.rules_judge import RulesJudge
from ratify.types import Failure
from tests.judges.worlds import asked, constitution, many
rules, (prompts, pairs) = constitution("id: p"), many(3)
sheet = asked(RulesJudge("pointwise"), rules, prompts, pairs)
sheet = sheet._replace(keys=[{"p": ("k", "l")} for _ in pairs])
found = label_pairs(sheet, {}, {"k": Failure.REFUSED}, rules, "pointwise")
write_table(Path(sys.argv[1], "labels"), label_rows(found, verdict_keys(found)))
write_table(Path(sys.argv[1], "pairs"), preference_rows(found, prompts, "h", verdict_keys(found))[0])
print("pandas" in sys.modules)
"""


def test_writing_labels_loads_no_pandas(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
