"""What a round trains on beside its own pairs."""

import pyarrow as pa
import pytest

from judges.data_policies import accumulated, mixed_with, named, sources, subsampled
from judges.dataset import PAIR_COLUMNS
from ratify.errors import InputError


def pairs(count: int) -> pa.Table:
    turn = [{"role": "assistant", "content": "x"}]
    rows = [
        {"prompt": turn, "chosen": turn, "rejected": turn, "probability": 0.9, "margin": None, "prompt_id": f"p{n}",
         "chosen_id": f"p{n}/0", "rejected_id": f"p{n}/1", "chosen_finish_reason": "stop",
         "rejected_finish_reason": "stop", "verdict_keys": [], "constitution_hash": "c"}
        for n in range(count)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=PAIR_COLUMNS)


def test_accumulated_pairs_keep_their_order_and_say_where_they_come_from() -> None:
    table = accumulated({"round-000": pairs(3), "round-001": pairs(2)})
    assert table.schema == PAIR_COLUMNS
    assert table["chosen_id"].to_pylist() == [
        "round-000/p0/0", "round-000/p1/0", "round-000/p2/0", "round-001/p0/0", "round-001/p1/0",
    ]  # fmt: skip
    assert sources(table) == {"round-000": 3, "round-001": 2}


def test_a_subsample_is_drawn_by_seed_without_repeats() -> None:
    whole = accumulated({"round-000": pairs(40), "round-001": pairs(40)})
    one, same, other = (subsampled(whole, 40, seed)["chosen_id"].to_pylist() for seed in (1, 1, 2))
    assert one == same != other and len(set(one)) == 40
    assert set(sources(subsampled(whole, 40, 1))) == {"round-000", "round-001"}
    assert subsampled(whole, 80, 1) is whole


@pytest.mark.parametrize(("share", "drawn"), [(0.1, 1), (0.25, 3), (0.5, 10)])
def test_the_reference_is_its_share_of_the_whole(share: float, drawn: int) -> None:
    mixed = mixed_with(named(pairs(10), "round-002"), named(pairs(50), "reference"), share, seed=4)
    assert sources(mixed) == {"round-002": 10, "reference": drawn}
    assert drawn / mixed.num_rows == pytest.approx(share, abs=0.03)


def test_too_small_a_reference_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"has 5 usable pairs, and a share of 0.5 beside 10 pairs takes 10"):
        mixed_with(pairs(10), pairs(5), 0.5, seed=4)
