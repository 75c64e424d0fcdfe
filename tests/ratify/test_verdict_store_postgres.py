"""The verdict store on a real PostgreSQL, with several processes that write at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.postgres_writers import write_at_once
from ratify.errors import StoreError
from ratify.types import Failure
from ratify.verdict_store import VerdictStore
from tests.ratify.postgres import programs, serving
from tests.ratify.test_verdict_store import verdict


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    where = programs()
    if where is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    with serving(where) as address:
        yield address


def test_eight_writers_lose_nothing_and_store_no_key_twice(url: str) -> None:
    """Each key is written by two of them, in different orders; the bench does the same with 200,000."""
    outcome = write_at_once(url, writers=8, verdicts=4000, batch=50)
    assert outcome.clean, outcome
    store = VerdictStore(url)
    assert store.count_among(f"{number:064x}" for number in range(4000)) == 4000
    store.close()


def test_a_verdict_comes_back_as_it_was_stored(url: str) -> None:
    store = VerdictStore(url)
    exact = verdict("exact", logit=0.1 + 0.2, coverage=1 / 3, raw="Ja, ü\n")
    store.append([exact, verdict("failed", logit=None, failure=Failure.REFUSED, raw="no")])
    assert store.get(["exact", "failed"]) == {"exact": exact}
    assert ("failed", Failure.REFUSED, "no") in store.failures()
    store.append([verdict("exact", logit=9.0)])
    assert store.get(["exact"])["exact"].logit == 0.1 + 0.2
    store.close()


def test_a_database_that_does_not_exist_is_one_sentence(url: str) -> None:
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        VerdictStore(url.removesuffix("postgres") + "nowhere")
