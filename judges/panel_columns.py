"""A panel's columns: what several judges say by one principle, combined as their verdicts are (`panel.py`).

Relabelling works on columns, so it needs no verdict records: from the judges' columns of one principle comes the column
that the labels of the panel would be made of, with the keys of the judges' verdicts behind each view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from judges.aggregate import Bools, Floats, Outcomes
from judges.checked import certain
from judges.columns import Column, Keys
from judges.panel_views import Pooling, enough_weight, pool_views, settled_views, view_leads
from ratify.types import Protocol


def unsettled(
    columns: Sequence[Column],
    weights: Sequence[float],
    pooling: Pooling,
    protocol: Protocol,
    *,
    agree_above: float | None = None,
) -> list[Column]:
    """The judges' columns without the views that those before a judge had settled, so that it was not asked.

    Args:
        columns: One per judge, in the order in which they are asked.
        weights: Of all judges.
        pooling: How their verdicts become one.
        protocol: How they were asked.
        agree_above: As for `settled_views`; None asks everybody about everything.
    """
    kept: list[Column] = []
    for column in columns:
        asked = column.asked & (column.decided == 0)
        if kept and agree_above is not None:
            leads = view_leads(_log_odds(kept), protocol)
            asked = asked & ~settled_views(leads, weights, pooling, agree_above)
        kept.append(column._replace(asked=asked))
    return kept


def pool_columns(
    columns: Sequence[Column], weights: Sequence[float], pooling: Pooling, quorum: float, protocol: Protocol
) -> Column:
    """The panel's column; `columns` are those of `unsettled`. Its keys are (N, 2, J)."""
    z, asked = _log_odds(columns), np.stack([column.asked for column in columns], axis=1)
    decided: Outcomes = columns[0].decided
    for column in columns[1:]:
        decided = np.where(decided == 0, column.decided, decided)
    if pooling == "logit_mean":
        pooled, enough = _means(z, asked, weights, quorum)
        answered = ~np.isnan(z)
    else:
        pooled, whole = pool_views(z, asked, weights, pooling=pooling, quorum=quorum, protocol=protocol)
        enough = np.repeat(whole[:, None], 2, axis=1)
        answered = np.repeat((asked & ~np.isnan(z).any(axis=2))[..., None], 2, axis=2)
    rests = np.where(enough[:, None, :], answered, asked[..., None])
    keys: Keys = np.where(rests, np.stack([column.keys for column in columns], axis=1), b"").transpose(0, 2, 1)
    by_checks = (decided != 0)[:, None]
    return Column(
        asked.any(axis=1) | (decided != 0), np.where(by_checks, certain(decided, protocol), pooled), keys, decided
    )


def _log_odds(columns: Sequence[Column]) -> Floats:
    """(N, J, 2): NaN where a judge was not asked."""
    return np.stack([np.where(column.asked[:, None], column.z, np.nan) for column in columns], axis=1)


def _means(z: Floats, asked: Bools, weights: Sequence[float], quorum: float) -> tuple[Floats, Bools]:
    """(N, 2) each: the weighted mean of a view's verdicts, and whether enough of them are there."""
    shares = np.array(weights)
    answered = ~np.isnan(z)
    total = _fsum(np.where(answered, shares[:, None], 0.0))
    enough = enough_weight(total, _fsum(np.where(asked, shares, 0.0)[..., None]), quorum)
    summed = _fsum(np.where(answered, shares[:, None] * z, 0.0))
    return np.where(enough, summed / np.where(total > 0, total, 1.0), np.nan), enough


def _fsum(values: Floats) -> Floats:
    """Sums over the judges (N, J, S) → (N, S), as `panel.py` takes them."""
    rows = values.transpose(0, 2, 1).reshape(-1, values.shape[1]).tolist()
    return np.array([math.fsum(row) for row in rows], dtype=np.float64).reshape(len(values), values.shape[2])
