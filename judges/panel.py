"""A panel: several judges answer the same questions, and their verdicts are combined into one.

Over the judges that were asked and answered (weight v_j):

    logit_mean    z = Σ v_j z_j / Σ v_j                    a logarithmic pool, for each verdict: certainty counts
    vote          l = ln((for + ½) / (against + ½))        for each principle on a pair: each judge one vote (times its
                                                           weight, scaled to mean 1) for the side it leans to, half a
                                                           vote added on both sides; a lean of 0 is split
    dawid_skene   l = ln P(a) − ln P(b)                    for each principle on a pair: votes, each judge believed as
                                                           its table of errors deserves (`dawid_skene.py`)

and the labels are those of `aggregate.py`, as if one judge had said z, or two verdicts with the lead l. Panels of
several model families agree better with people than one large judge (Verga et al. 2024, arXiv 2404.18796). A verdict
that too few of the judges asked gave, by weight, is a failure with the reason of the first that failed; an absent judge
never counts as a tie.

Left out: asking the judges (each has its own questionnaire and its own verdicts), and learning the weights; gold or
`dawid_skene.py` say how good each judge is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from constitutions.schema import Constitution
from judges.aggregate import Floats, Outcomes
from judges.columns import KEY, Keys
from judges.labels import Labelled, label_pairs, labels_of
from judges.panel_views import Pooling, enough_weight, pool_views
from judges.questions import PairKeys, Questionnaire
from ratify.canonical import digest
from ratify.errors import InputError
from ratify.types import Failure, Label, Protocol, Verdict


class Member(NamedTuple):
    """One judge of a panel with all it said."""

    judge: str
    """Its fingerprint."""
    weight: float
    sheet: Questionnaire
    """Its own questions about the panel's pairs."""
    verdicts: Mapping[str, Verdict]
    """By key."""
    failures: Mapping[str, Failure]
    """Why a verdict is missing, by key."""


class PanelVerdicts(NamedTuple):
    """What a panel said, in the form that one judge's verdicts have."""

    sheet: Questionnaire
    """Pairs and keys; a panel asks nothing, so it has no questions."""
    verdicts: dict[str, Verdict]
    failures: dict[str, Failure]
    sources: dict[str, tuple[str, ...]]
    """The keys of the judges' verdicts behind each of the panel's."""


class _Answer(NamedTuple):
    weight: float
    key: str
    verdict: Verdict | None
    failure: Failure | None


def combine_verdicts(
    members: Sequence[Member], protocol: Protocol, *, pooling: Pooling = "logit_mean", quorum: float = 1.0
) -> PanelVerdicts:
    """Combine the judges' verdicts; `quorum` is the least share of the weight of those asked that must have answered.

    A judge that abstains on a principle, or was not asked about it on a pair, has no weight there.

    Raises:
        InputError: no judge, a weight that is not positive, or judges that were asked about different pairs.
    """
    _check(members, quorum)
    found = PanelVerdicts(Questionnaire({}, members[0].sheet.pairs, []), {}, {}, {})
    panel = _Panel(members, protocol, pooling, quorum, digest(["panel", *sorted(each.judge for each in members)]))
    if pooling == "logit_mean":
        for number in range(len(found.sheet.pairs)):
            names = dict.fromkeys(name for member in members for name in member.sheet.keys[number])
            found.sheet.keys.append({name: PairKeys(*_pooled(found, panel, number, name)) for name in names})
        return found
    found.sheet.keys.extend({} for _ in found.sheet.pairs)
    for name in dict.fromkeys(name for member in members for of_pair in member.sheet.keys for name in of_pair):
        _add_views(found, panel, name)
    return found


def panel_pairs(
    members: Sequence[Member],
    constitution: Constitution,
    protocol: Protocol,
    *,
    pooling: Pooling = "logit_mean",
    quorum: float = 1.0,
    decided: Outcomes | None = None,
) -> Labelled:
    """The panel's labels; their keys are those of the judges' own verdicts. `decided` is as for `label_pairs`."""
    panel = combine_verdicts(members, protocol, pooling=pooling, quorum=quorum)
    found = label_pairs(panel.sheet, panel.verdicts, panel.failures, constitution, protocol, decided=decided)
    why = {key: failure for member in members for key, failure in member.failures.items()}
    return found._replace(keys=_traced(found.keys, panel, len(members)), failures=why)


def panel_labels(
    members: Sequence[Member],
    constitution: Constitution,
    protocol: Protocol,
    *,
    pooling: Pooling = "logit_mean",
    quorum: float = 1.0,
) -> list[Label]:
    """`panel_pairs` as records."""
    return labels_of(panel_pairs(members, constitution, protocol, pooling=pooling, quorum=quorum))


def member_verdicts(members: Sequence[Member], principle: str) -> Floats:
    """(N, J, 2): log-odds of the judges' verdicts by a principle; NaN where one is missing or was not asked for."""
    z = np.full((len(members[0].sheet.pairs), len(members), 2), np.nan)
    for place, member in enumerate(members):
        for number, of_pair in enumerate(member.sheet.keys):
            for side, key in enumerate(of_pair.get(principle, ())):
                verdict = member.verdicts.get(key)
                if verdict is not None and verdict.logit is not None:
                    z[number, place, side] = verdict.logit
    return z


class _Panel(NamedTuple):
    members: Sequence[Member]
    protocol: Protocol
    pooling: Pooling
    quorum: float
    fingerprint: str

    @property
    def weights(self) -> list[float]:
        return [member.weight for member in self.members]

    def enough(self, answered: float, asked: float) -> bool:
        """Does the weight that answered make a verdict?"""
        return bool(enough_weight(np.asarray(answered), np.asarray(asked), self.quorum))


def _pooled(found: PanelVerdicts, panel: _Panel, number: int, principle: str) -> list[str]:
    """Add the two verdicts of a view, each the mean of the judges'; their keys."""
    asked = [(member, member.sheet.keys[number].get(principle)) for member in panel.members]
    keys = []
    for side in (0, 1):
        sources = [(member, both[side]) for member, both in asked if both is not None]
        answered = [(m, key, m.verdicts[key].logit or 0.0) for m, key in sources if key in m.verdicts]
        key = digest({"panel": [[key, m.weight] for m, key in sources], "quorum": panel.quorum})
        total = math.fsum(member.weight for member, _, _ in answered)
        logit = math.fsum(m.weight * z for m, _, z in answered) / total if answered else 0.0
        enough = panel.enough(total, math.fsum(member.weight for member, _ in sources))
        _add(found, panel, (number, principle, side), key, logit if enough else None)
        found.sources[key] = tuple(key for _, key, _ in answered) if enough else tuple(key for _, key in sources)
        keys.append(key)
    return keys


def _add_views(found: PanelVerdicts, panel: _Panel, principle: str) -> None:
    """Add a principle's views of all pairs, for poolings that look at whole views."""
    z = member_verdicts(panel.members, principle)
    asked = np.array([[principle in of_pair for of_pair in member.sheet.keys] for member in panel.members]).T
    answered = asked & ~np.isnan(z).any(axis=2)
    placed, enough = pool_views(
        z, asked, panel.weights, pooling=panel.pooling, quorum=panel.quorum, protocol=panel.protocol
    )
    for number in np.flatnonzero(asked.any(axis=1)).tolist():
        rested = answered[number] if enough[number] else asked[number]
        _add_view(found, panel, (number, principle), placed[number], np.flatnonzero(rested).tolist())


def _add_view(
    found: PanelVerdicts, panel: _Panel, view: tuple[int, str], placed: Floats, judges: Sequence[int]
) -> None:
    """`judges` are those that it rests on."""
    number, principle = view
    both = [panel.members[place].sheet.keys[number][principle] for place in judges]
    keys = [digest({"view": [*view, *map(list, both)], "pooling": panel.pooling, "side": side}) for side in (0, 1)]
    for side, key in enumerate(keys):
        found.sources[key] = tuple(each[side] for each in both)
        logit = None if np.isnan(placed[side]) else float(placed[side])
        _add(found, panel, (number, principle, side), key, logit)
    found.sheet.keys[number][principle] = PairKeys(*keys)


def _add(found: PanelVerdicts, panel: _Panel, place: tuple[int, str, int], key: str, logit: float | None) -> None:
    """Put a combined verdict, or its failure, among the panel's."""
    number, principle, side = place
    if logit is None:
        reasons = (
            member.failures.get(each)
            for member in panel.members
            for each in member.sheet.keys[number].get(principle, ())
        )
        found.failures[key] = next((reason for reason in reasons if reason), Failure.TRANSPORT_ERROR)
        return
    first, second = found.sheet.pairs[number][:: -1 if side else 1]
    found.verdicts[key] = Verdict(
        key=key, judge=panel.fingerprint, principle=principle, protocol=panel.protocol, prompt_id=first.prompt_id,
        first_id=first.id, second_id=second.id if panel.protocol == "pairwise" else None, logit=logit,
    )  # fmt: skip


def _traced(keys: Keys, panel: PanelVerdicts, judges: int) -> Keys:
    """(N, P, 2, J): the judges' keys in the place of the panel's."""
    traced: Keys = np.zeros((*keys.shape, judges), dtype=KEY)
    for place in zip(*np.nonzero(keys != b""), strict=True):
        sources = panel.sources[keys[place].decode()]
        traced[place][: len(sources)] = sources
    return traced


def _check(members: Sequence[Member], quorum: float) -> None:
    if not members:
        raise InputError("a panel needs at least one judge")
    if any(not member.weight > 0 for member in members) or not 0 < quorum <= 1:
        raise InputError("a panel's weights must be positive, and its quorum above 0 and at most 1")
    pairs = [[(a.id, b.id) for a, b in member.sheet.pairs] for member in members]
    if any(each != pairs[0] for each in pairs):
        raise InputError("the judges of a panel were asked about different pairs; ask all of them about the same")
