"""The verdict store on a real PostgreSQL, with several processes that write at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from ratify.errors import StoreError
from ratify.types import Failure
from ratify.verdict_store import VerdictStore
from tests.ratify.postgres import programs, serving
from tests.ratify.test_verdict_store import verdict

WRITERS = 4
KEYS = 2000
BATCH = 50


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    where = programs()
    if where is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    with serving(where) as address:
        yield address


def write_all(url: str, seed: int) -> None:
    """Every writer stores every key, in an order of its own."""
    keys = [f"shared {number}" for number in range(KEYS)]
    random.Random(seed).shuffle(keys)
    store = VerdictStore(url)
    for start in range(0, KEYS, BATCH):
        store.append([verdict(key, logit=float(seed)) for key in keys[start : start + BATCH]])
    store.close()


def test_many_writers_lose_nothing_and_store_no_key_twice(url: str) -> None:
    with ProcessPoolExecutor(WRITERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(write_all, [url] * WRITERS, range(WRITERS)))
    store = VerdictStore(url)
    assert store.count() == KEYS
    assert len(store.get(f"shared {number}" for number in range(KEYS))) == KEYS
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
