"""The verdict store: an append-only table of verdicts keyed by the hash of what the judge saw (SQLAlchemy Core).

SQLite in WAL mode by default, PostgreSQL by URL. A verdict that was answered is kept for good; a failure is kept in a
table of its own, with its raw text, and never answers for a later call. Labels are computed elsewhere, from what is
read here.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ratify.errors import StoreError
from ratify.types import Failure, Verdict

_METADATA = sa.MetaData()

VERDICTS = sa.Table(
    "verdicts",
    _METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("judge", sa.String(64), nullable=False),
    sa.Column("principle", sa.String(200), nullable=False),
    sa.Column("protocol", sa.String(16), nullable=False),
    sa.Column("prompt_id", sa.Text, nullable=False),
    sa.Column("first_id", sa.Text, nullable=False),
    sa.Column("second_id", sa.Text),
    sa.Column("logit", sa.Float(53), nullable=False),
    sa.Column("coverage", sa.Float(53)),
    sa.Column("raw", sa.Text, nullable=False),
    sa.Column("prompt_tokens", sa.Integer, nullable=False),
    sa.Column("completion_tokens", sa.Integer, nullable=False),
)

FAILURES = sa.Table(
    "failures",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("judge", sa.String(64), nullable=False),
    sa.Column("principle", sa.String(200), nullable=False),
    sa.Column("prompt_id", sa.Text, nullable=False),
    sa.Column("first_id", sa.Text, nullable=False),
    sa.Column("second_id", sa.Text),
    sa.Column("failure", sa.String(32), nullable=False),
    sa.Column("raw", sa.Text, nullable=False),
)

_ONE_AT_A_TIME = {
    "postgresql": sa.text("SELECT pg_advisory_xact_lock(hashtext('ratify verdict store'))"),
    "sqlite": sa.text("BEGIN IMMEDIATE"),
}
"""Of two processes that create the same table at once one fails; the lock ends with the transaction."""
_NAMES = tuple(VERDICTS.c.keys())
_values = attrgetter(*_NAMES)
"""A verdict as a row."""
_FAILURE_NAMES = tuple(column.name for column in FAILURES.c if column.name != "id")
_ROWS_PER_INSERT = (64, 16, 4, 1)
"""64 rows of 12 columns are within SQLite's oldest limit, too."""
_KEYS_PER_QUERY = 500
"""SQLite's oldest limit on bound variables is 999."""
_BUSY_S = 30
"""How long SQLite waits for another writer."""


class VerdictStore:
    """Append verdicts, look them up by key. Safe for one writing thread per instance, and for many processes."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self._engine = sa.create_engine(self.url)
        if self.url.get_backend_name() == "sqlite":
            sa.event.listen(self._engine, "connect", _tune_sqlite)
        self._writer: sa.PoolProxiedConnection | None = None
        """The driver's own, kept open: a commit of few verdicts costs less than SQLAlchemy's part in it."""
        with _OneSentence(self), self._engine.begin() as connection:
            if not set(_METADATA.tables) <= set(sa.inspect(connection).get_table_names()):
                connection.execute(_ONE_AT_A_TIME[self.url.get_backend_name()])
                _METADATA.create_all(connection)

    @property
    def is_file(self) -> bool:
        """Whether it lies on this machine, so that a commit takes as long as the disk does."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def driver_fault(self) -> type[Exception]:
        """What the database's driver raises where it is used without SQLAlchemy."""
        return self._engine.dialect.loaded_dbapi.Error

    @classmethod
    def in_folder(cls, folder: Path) -> VerdictStore:
        """The default store of a run: `verdicts.sqlite` in its folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{folder / 'verdicts.sqlite'}")

    def append(self, verdicts: Sequence[Verdict]) -> None:
        """Store verdicts in one transaction, on disk on return; a key that is known already is left as it was."""
        # In the order of the keys: two writers that lock the same keys in different orders would wait for each other.
        answered = [each for each in sorted(verdicts, key=_key) if each.failure is None]
        failed = [each for each in verdicts if each.failure is not None]
        paramstyle = self._engine.dialect.paramstyle
        with _OneSentence(self):
            writer = self._writer = self._writer or self._engine.raw_connection()
            try:
                cursor = writer.cursor()
                for statement, values in _inserts(answered, paramstyle):
                    cursor.execute(statement, values)
                for verdict in failed:
                    cursor.execute(_insert("failures", _FAILURE_NAMES, 1, paramstyle), _failure_values(verdict))
                writer.commit()
            except BaseException:
                writer.invalidate()
                self._writer = None
                raise

    def get(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """The stored verdicts among `keys`."""
        found: dict[str, Verdict] = {}
        with _OneSentence(self), self._engine.connect() as connection:
            for batch in _batches(keys, _KEYS_PER_QUERY):
                rows = connection.exec_driver_sql(_select(len(batch), self._engine.dialect.paramstyle), tuple(batch))
                found.update({row.key: Verdict(**row._mapping) for row in rows})
        return found

    def lacks(self, keys: Iterable[str]) -> bool:
        """Whether one of `keys` has no verdict; most often the first few say so."""
        among = sa.select(sa.func.count()).select_from(VERDICTS)
        with _OneSentence(self), self._engine.connect() as connection:
            return any(
                connection.execute(among.where(VERDICTS.c.key.in_(batch))).scalar_one() < len(set(batch))
                for batch in _batches(keys, _KEYS_PER_QUERY)
            )

    def count_among(self, keys: Iterable[str]) -> int:
        """How many of some distinct keys have a verdict."""
        among = sa.select(sa.func.count()).select_from(VERDICTS)
        with _OneSentence(self), self._engine.connect() as connection:
            return sum(
                int(connection.execute(among.where(VERDICTS.c.key.in_(batch))).scalar_one())
                for batch in _batches(keys, _KEYS_PER_QUERY)
            )

    def count(self) -> int:
        """How many verdicts are stored."""
        with _OneSentence(self), self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(VERDICTS)).scalar_one())

    def failures(self) -> list[tuple[str, Failure, str]]:
        """Every failed call as (key, failure, raw text), oldest first."""
        query = sa.select(FAILURES.c.key, FAILURES.c.failure, FAILURES.c.raw).order_by(FAILURES.c.id)
        with _OneSentence(self), self._engine.connect() as connection:
            return [(row.key, Failure(row.failure), row.raw) for row in connection.execute(query)]

    def close(self) -> None:
        """Give the connections back."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._engine.dispose()


class _OneSentence:
    """Turn a database fault into one sentence without the URL's password."""

    def __init__(self, store: VerdictStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (sa.exc.SQLAlchemyError, ModuleNotFoundError, self._store.driver_fault)):
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            if "full" in reason:
                reason = "the disk is full; free some space and run the same command again"
            where = self._store.url.render_as_string(hide_password=True)
            raise StoreError(f"verdict store {where}: {reason}") from error


def _inserts(verdicts: Sequence[Verdict], paramstyle: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements that store verdicts, several at once, and leave a key which is known already as it was.

    Every answer passes here while the event loop waits, so nothing is compiled or looked up anew.
    """
    start = 0
    for size in _ROWS_PER_INSERT:
        while len(verdicts) - start >= size:
            rows = verdicts[start : start + size]
            statement = _insert("verdicts", _NAMES, size, paramstyle)
            yield statement, tuple(chain.from_iterable(map(_values, rows)))
            start += size


@cache
def _insert(table: str, names: tuple[str, ...], rows: int, paramstyle: str) -> str:
    values = ", ".join([f"({_marks(len(names), paramstyle)})"] * rows)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {values} ON CONFLICT DO NOTHING"


@cache
def _select(keys: int, paramstyle: str) -> str:
    """Look-ups of a few keys come often, and compiling one would take longer than SQLite takes to answer it."""
    return f"SELECT {', '.join(_NAMES)} FROM verdicts WHERE key IN ({_marks(keys, paramstyle)})"


def _marks(count: int, paramstyle: str) -> str:
    """Places for so many values."""
    return ", ".join(["?" if paramstyle == "qmark" else "%s"] * count)


def _tune_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    """Write-ahead log, and a commit that is on disk before it returns."""
    connection.execute(f"PRAGMA busy_timeout={_BUSY_S * 1000}")
    # Where two give a new file its log at once, SQLite refuses one without waiting.
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=FULL")


def _key(verdict: Verdict) -> str:
    return verdict.key


def _failure_values(verdict: Verdict) -> tuple[Any, ...]:
    return tuple(getattr(verdict, name) if name != "failure" else str(verdict.failure) for name in _FAILURE_NAMES)


def _batches(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for key in keys:
        batch.append(key)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
