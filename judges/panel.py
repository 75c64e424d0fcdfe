"""A panel: several judges answer the same questions, and their verdicts are combined by weight into one.

For each principle and shown order, over the judges that answered (weight v_j, log-odds z_j),

    logit_mean   z = Σ v_j z_j / Σ v_j                     a logarithmic pool: how sure they are counts
    vote         z = ln((for + ½) / (against + ½))         each judge one vote (times its weight, scaled to mean 1),
                                                           half a vote added on both sides; a z_j of 0 is split

and the labels are those of `aggregate.py`, as if one judge had said z. Panels of several model families agree better
with people than one large judge (Verga et al. 2024, arXiv 2404.18796). A verdict that too few judges gave, by weight,
is a failure with the reason of the first that failed; an absent judge never counts as a tie.

Left out: asking the judges (each has its own questionnaire and its own verdicts), and learning the weights; gold or
`dawid_skene.py` say how good each judge is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from constitutions.schema import Constitution
from judges.labels import compute_labels
from judges.questions import PairKeys, Questionnaire
from ratify.canonical import digest
from ratify.errors import InputError
from ratify.types import Failure, Label, Protocol, Verdict

Pooling = Literal["logit_mean", "vote"]


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
    members: Sequence[Member], *, pooling: Pooling = "logit_mean", quorum: float = 1.0
) -> PanelVerdicts:
    """Combine the judges' verdicts; `quorum` is the least share of the weight that must have answered.

    A judge that abstains on a principle has no weight there.

    Raises:
        InputError: no judge, a weight that is not positive, or judges that were asked about different pairs.
    """
    _check(members, quorum)
    found = PanelVerdicts(Questionnaire({}, members[0].sheet.pairs, []), {}, {}, {})
    for number in range(len(members[0].sheet.pairs)):
        principles = dict.fromkeys(name for member in members for name in member.sheet.keys[number])
        both = {name: [_answers(members, number, name, side) for side in (0, 1)] for name in principles}
        keys = {name: PairKeys(*(_add(found, side, pooling, quorum) for side in sides)) for name, sides in both.items()}
        found.sheet.keys.append(keys)
    return found


def panel_labels(
    members: Sequence[Member],
    constitution: Constitution,
    protocol: Protocol,
    *,
    pooling: Pooling = "logit_mean",
    quorum: float = 1.0,
) -> list[Label]:
    """One label per pair; its verdict keys are those of the judges' own verdicts."""
    panel = combine_verdicts(members, pooling=pooling, quorum=quorum)
    labels = compute_labels(panel.sheet, panel.verdicts, panel.failures, constitution, protocol)
    return [label.model_copy(update={"verdict_keys": _traced(label, panel)}) for label in labels]


def settled(leads: Sequence[float], weights: Sequence[float]) -> bool:
    """Can the judges still to come no longer turn a vote?

    Args:
        leads: Log-odds of the judges that answered, in the order of `weights`.
        weights: Of all judges, those to come last.
    """
    margin = math.fsum(weight * _sign(lead) for weight, lead in zip(weights, leads, strict=False))
    return abs(margin) > math.fsum(weights[len(leads) :])


def pool_log_odds(log_odds: Sequence[float], weights: Sequence[float], pooling: Pooling) -> float:
    """The judges' log-odds as one."""
    total = math.fsum(weights)
    if pooling == "logit_mean":
        return math.fsum(weight * z for weight, z in zip(weights, log_odds, strict=True)) / total
    lead = math.fsum(weight * _sign(z) for weight, z in zip(weights, log_odds, strict=True))
    votes, lead = len(weights), lead * len(weights) / total
    return math.log((votes + lead + 1) / (votes - lead + 1))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _answers(members: Sequence[Member], number: int, principle: str, side: int) -> list[_Answer]:
    found = []
    for member in members:
        keys = member.sheet.keys[number].get(principle)
        if keys is not None:
            key = keys[side]
            found.append(_Answer(member.weight, key, member.verdicts.get(key), member.failures.get(key)))
    return found


def _add(panel: PanelVerdicts, answers: Sequence[_Answer], pooling: Pooling, quorum: float) -> str:
    """Put the combined verdict, or its failure, into the panel; return its key."""
    key = digest({"panel": [[each.key, each.weight] for each in answers], "pooling": pooling, "quorum": quorum})
    answered = [(each, each.verdict) for each in answers if each.verdict is not None]
    weights = [each.weight for each, _ in answered]
    panel.sources[key] = tuple(each.key for each, _ in answered)
    if not answered or math.fsum(weights) < quorum * math.fsum(each.weight for each in answers) - 1e-12:
        panel.failures[key] = next((each.failure for each in answers if each.failure), Failure.TRANSPORT_ERROR)
        return key
    logit = pool_log_odds([verdict.logit or 0.0 for _, verdict in answered], weights, pooling)
    update = {"key": key, "judge": digest(["panel", *sorted(verdict.judge for _, verdict in answered)]), "raw": ""}
    panel.verdicts[key] = answered[0][1].model_copy(update={**update, "logit": logit, "coverage": None})
    return key


def _traced(label: Label, panel: PanelVerdicts) -> tuple[str, ...]:
    return tuple(sorted({source for key in label.verdict_keys for source in panel.sources[key]}))


def _check(members: Sequence[Member], quorum: float) -> None:
    if not members:
        raise InputError("a panel needs at least one judge")
    if any(not member.weight > 0 for member in members) or not 0 < quorum <= 1:
        raise InputError("a panel's weights must be positive, and its quorum above 0 and at most 1")
    pairs = [[(a.id, b.id) for a, b in member.sheet.pairs] for member in members]
    if any(each != pairs[0] for each in pairs):
        raise InputError("the judges of a panel were asked about different pairs; ask all of them about the same")
