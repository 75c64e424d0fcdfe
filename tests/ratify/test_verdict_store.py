from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ratify.errors import StoreError
from ratify.types import Failure, Verdict
from ratify.verdict_store import VerdictStore


def verdict(key: str, **changes: object) -> Verdict:
    given = {
        "key": key,
        "judge": "j",
        "principle": "polite",
        "protocol": "pointwise",
        "prompt_id": "p",
        "first_id": "c",
    }
    return Verdict(**(given | {"logit": 1.5, "coverage": 0.99, "raw": "Yes"} | changes))


def test_what_is_appended_comes_back_after_reopening(tmp_path: Path) -> None:
    VerdictStore.in_folder(tmp_path).append([verdict("a"), verdict("b", logit=-2.0)])
    found = VerdictStore.in_folder(tmp_path).get(["a", "b", "c"])
    assert found == {"a": verdict("a"), "b": verdict("b", logit=-2.0)}


def test_a_known_key_keeps_its_first_verdict(tmp_path: Path) -> None:
    store = VerdictStore.in_folder(tmp_path)
    store.append([verdict("a", logit=1.0)])
    store.append([verdict("a", logit=9.0), verdict("b")])
    assert store.get(["a"])["a"].logit == 1.0
    assert store.count() == 2


def test_a_failure_is_kept_but_never_answers(tmp_path: Path) -> None:
    store = VerdictStore.in_folder(tmp_path)
    store.append([verdict("a", logit=None, failure=Failure.PARSE_ERROR, raw="<html>")])
    assert store.get(["a"]) == {} and store.count() == 0
    assert store.failures() == [("a", Failure.PARSE_ERROR, "<html>")]


def test_what_cannot_be_stored_takes_its_transaction_with_it_and_nothing_else(tmp_path: Path) -> None:
    store = VerdictStore.in_folder(tmp_path)
    store.append([verdict("a")])
    with pytest.raises(UnicodeEncodeError):
        store.append([verdict("b"), verdict("c", raw="half a character: \ud800")])
    assert store.count() == 1
    store.append([verdict("b")])
    assert store.get(["a", "b", "c"]).keys() == {"a", "b"}


def test_thousands_of_keys_are_looked_up(tmp_path: Path) -> None:
    store = VerdictStore.in_folder(tmp_path)
    store.append([verdict(f"{n}") for n in range(2500)])
    assert len(store.get(f"{n}" for n in range(2500))) == 2500


def test_a_store_knows_whether_it_lacks_a_verdict(tmp_path: Path) -> None:
    store = VerdictStore.in_folder(tmp_path)
    store.append([verdict(f"{n}") for n in range(1200)] + [verdict("f", logit=None, failure=Failure.REFUSED)])
    assert not store.lacks(f"{n}" for n in range(1200)) and not store.lacks([]) and not store.lacks(["7", "7"])
    assert store.lacks(f"{n}" for n in range(1201)) and store.lacks(["f"])


def test_a_store_that_cannot_open_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open database file"):
        VerdictStore(f"sqlite:///{tmp_path}/no/such/folder/v.sqlite")
    (tmp_path / "verdicts.sqlite").write_text("this is not a database, but it is long enough to be looked at" * 20)
    with pytest.raises(StoreError, match="not a database"):
        VerdictStore.in_folder(tmp_path)


def test_a_password_never_enters_a_message() -> None:
    with pytest.raises(StoreError) as fault:
        VerdictStore("postgresql+psycopg://user:topsecret@127.0.0.1:1/none")
    assert "topsecret" not in str(fault.value)


def test_a_new_store_is_opened_by_many_at_once(tmp_path: Path) -> None:
    def opened(number: int) -> int:
        store = VerdictStore(f"sqlite:///{tmp_path / str(number // 8)}.sqlite")
        try:
            return store.count()
        finally:
            store.close()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(opened, range(160))) == [0] * 160
