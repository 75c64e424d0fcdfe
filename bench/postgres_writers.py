"""Many processes that store verdicts in one PostgreSQL at once: are any lost or doubled, and how fast is it?

    python -m bench.postgres_writers [--writers 8] [--verdicts 200000] [--batch 200] [--url URL] [--json PATH]

Every key is written by two writers, who disagree about its log-odds: the first one stands, and must go on standing.
Without a URL a fresh server is started from the programs that Debian or the PATH has (apt-get install postgresql).
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from ratify.files import write_json
from ratify.types import Verdict
from ratify.verdict_store import VERDICTS, VerdictStore


class Outcome(NamedTuple):
    """What the writers left behind."""

    writers: int
    verdicts: int
    stored: int
    doubled: int
    """Rows beyond one per key."""
    lost: int
    """Keys without a row."""
    foreign: int
    """Rows that no writer wrote like that."""
    seconds: float
    cpu_s: float
    """Processor time of the writers, without the server's."""

    @property
    def clean(self) -> bool:
        """No duplicate, no loss."""
        return self.stored == self.verdicts and not (self.doubled or self.lost or self.foreign)


def verdict(number: int, writer: int) -> Verdict:
    """A verdict whose log-odds say who wrote it."""
    return Verdict(
        key=f"{number:064x}", judge="bench", principle="polite", protocol="pointwise", prompt_id=f"p{number % 997}",
        first_id=f"c{number}", second_id=None, logit=float(writer), coverage=0.99, raw="Yes", prompt_tokens=200,
        completion_tokens=1, failure=None,
    )  # fmt: skip


def write(url: str, writer: int, writers: int, verdicts: int, batch: int) -> float:
    """One writer: the keys that are its own and those of the next one, in an order of its own; its processor time."""
    mine = [number for number in range(verdicts) if number % writers in (writer, (writer + 1) % writers)]
    random.Random(writer).shuffle(mine)
    store = VerdictStore(url)
    for start in range(0, len(mine), batch):
        store.append([verdict(number, writer) for number in mine[start : start + batch]])
    store.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def write_at_once(url: str, writers: int, verdicts: int, batch: int) -> Outcome:
    """Let all writers loose, then read everything."""
    started = time.monotonic()
    with ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(write, url, writer, writers, verdicts, batch) for writer in range(writers)]
        cpu_s = sum(each.result() for each in waiting)
    seconds = time.monotonic() - started
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(VERDICTS.c.key, VERDICTS.c.logit).where(VERDICTS.c.judge == "bench")).all()
    engine.dispose()
    found = {int(key, 16): int(logit) for key, logit in rows}
    foreign = sum(logit not in (number % writers, (number - 1) % writers) for number, logit in found.items())
    lost = len(set(range(verdicts)) - found.keys())
    return Outcome(writers, verdicts, len(rows), len(rows) - len(found), lost, foreign, seconds, cpu_s)


@contextmanager
def _database(url: str | None) -> Iterator[str]:
    if url:
        yield url
        return
    from tests.ratify.postgres import programs, serving

    where = programs()
    if where is None:
        raise SystemExit("no PostgreSQL on this machine: apt-get install postgresql, or give --url")
    with serving(where) as address:
        yield address


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--verdicts", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=200, help="verdicts per commit")
    parser.add_argument("--url", help="a database of yours, without verdicts of a judge called bench")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    with _database(given.url) as url:
        outcome = write_at_once(url, given.writers, given.verdicts, given.batch)
    each_ms = 1000 * outcome.cpu_s / (2 * outcome.verdicts)
    print(
        f"{outcome.writers} writers, {outcome.verdicts:,} verdicts, each written twice: {outcome.stored:,} stored, "
        f"{outcome.doubled} doubled, {outcome.lost} lost, {outcome.foreign} that nobody wrote; "
        f"{outcome.seconds:.0f} s, {each_ms:.3f} ms of a writer's processor per verdict sent: "
        f"{'clean' if outcome.clean else 'NOT clean'}"
    )
    if given.json:
        write_json(given.json, outcome._asdict())


if __name__ == "__main__":
    main()
