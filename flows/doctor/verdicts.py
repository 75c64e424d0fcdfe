"""A run's verdict store: is the database whole, and does it hold every verdict that the labels name?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from pydantic import ValidationError

from flows.context import CONFIG
from flows.doctor.finding import Finding, fault, note, well
from ratify.config import Config
from ratify.errors import StoreError
from ratify.run_store import RunStore
from ratify.verdict_store import VerdictStore

SQLITE = "verdicts.sqlite"
KEYS = "verdict_keys"
"""Column of the preference data."""


def read_config(run: Path) -> Config | None:
    """What a run was last run with; None where it has not been kept or is of another version."""
    try:
        return Config.model_validate_json((run / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def check_verdicts(run: Path) -> Iterator[Finding]:
    """The store that the run's configuration names."""
    config = read_config(run)
    url = config.store.url if config else None
    path = run / SQLITE
    if url is None and not path.exists():
        yield note("no verdict is stored yet")
        return
    if url is None and (damage := _damage(path)) is not None:
        yield fault(
            f"{path} is damaged: {damage}",
            "bring it back from a copy, or move it away: labelling asks again for what it held",
        )
        return
    try:
        store = VerdictStore(url) if url else VerdictStore.in_folder(run)
        try:
            yield well(
                f"the verdict store is whole: {store.count():,} verdicts, {len(store.failures()):,} failed calls"
            )
            yield from _check_keys(run, store)
        finally:
            store.close()
    except StoreError as error:
        yield fault("the verdict store cannot be read", str(error))


def _damage(path: Path) -> str | None:
    """SQLite's own check of its pages and indexes, read only."""
    engine = sa.create_engine(f"sqlite:///file:{path.absolute()}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            said = str(connection.execute(sa.text("PRAGMA integrity_check(1)")).scalar_one())
    except sa.exc.DatabaseError as error:
        return str(error.orig)
    finally:
        engine.dispose()
    return None if said == "ok" else said.splitlines()[0]


def _check_keys(run: Path, store: VerdictStore) -> Iterator[Finding]:
    """Labels trace to verdicts: every key that preference data names must be there."""
    import pyarrow.parquet as pq

    for number in RunStore(run).rounds():
        path = run / f"round-{number:03d}" / "label" / "pairs.parquet"
        if not path.exists() or KEYS not in pq.read_schema(path).names:
            continue
        column = pq.read_table(path, columns=[KEYS]).column(KEYS)
        keys = sorted({key for row in column.to_pylist() for key in row})
        # What checks decided has no verdict of a judge, and no key of one.
        missing = len(keys) - store.count_among(keys)
        if missing:
            yield fault(
                f"{missing:,} of {len(keys):,} verdicts that {path} names are not in the store",
                "bring the store back from a copy; the labels stand, but cannot be traced",
            )
        else:
            yield well(f"round {number}: all {len(keys):,} verdicts that the labels name are stored")
