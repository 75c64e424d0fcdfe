"""Which held-out pairs a person should read: the largest gains, the largest losses, and some drawn at random.

Reading only the best examples is how a regression is missed; the random ones are drawn by the hash of their ids, the
same in every rendering.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Literal, NamedTuple

from evaluation.agreement import Properties
from evaluation.report import Evidence, Sample
from evaluation.win_rate import log_odds_for, outcome_for
from ratify.canonical import digest
from ratify.types import Completion, Label, Prompt

PER_GROUP = 8
Group = Literal["gain", "loss", "random"]


def pick_samples(evidence: Evidence, per_group: int = PER_GROUP) -> tuple[Sample, ...]:
    """Pairs to read, no pair twice; without labels, random pairs only."""
    new = {reply.id for reply in evidence.new}
    judged = {(label.prompt_id, label.a_id, label.b_id): label for label in evidence.heldout.labels}
    decided = sorted(
        (label for label in judged.values() if label.margin is not None), key=lambda label: _margin(label, new)
    )
    losses = [label for label in decided if _margin(label, new) < 0][:per_group]
    gains = [label for label in reversed(decided) if _margin(label, new) > 0][:per_group]
    taken = {(label.a_id, label.b_id) for label in (*gains, *losses)}
    rest = [label for label in judged.values() if (label.a_id, label.b_id) not in taken]
    rest = sorted(rest, key=lambda label: digest([label.a_id, label.b_id]))[:per_group]
    groups: dict[Group, list[Label]] = {"gain": gains, "loss": losses, "random": rest}
    if not judged:
        groups["random"] = _unjudged(evidence, per_group)
    tables = _Tables(
        {reply.id: reply for reply in (*evidence.old, *evidence.new)},
        {prompt.id: prompt for prompt in evidence.prompts},
        evidence.properties,
        new,
    )
    return tuple(
        _sample(group, label, tables, judged=bool(judged)) for group, labels in groups.items() for label in labels
    )


class _Tables(NamedTuple):
    replies: Mapping[str, Completion]
    prompts: Mapping[str, Prompt]
    properties: Properties
    new: Set[str]


def _sample(group: Group, label: Label, tables: _Tables, *, judged: bool) -> Sample:
    new = label.a_id in tables.new
    ours, theirs = (label.a_id, label.b_id) if new else (label.b_id, label.a_id)
    prompt = tables.prompts.get(label.prompt_id)
    return Sample(
        group=group,
        prompt_id=label.prompt_id,
        messages=prompt.messages if prompt else (),
        old=tables.replies[theirs].text,
        new=tables.replies[ours].text,
        outcome=outcome_for(label, tables.new) if judged else "unjudged",
        margin=None if label.margin is None else _margin(label, tables.new),
        by_principle=log_odds_for(label, tables.new),
        old_properties=dict(tables.properties.get(theirs, {})),
        new_properties=dict(tables.properties.get(ours, {})),
    )


def _unjudged(evidence: Evidence, count: int) -> list[Label]:
    """First reply of each policy to the same prompt, as pairs that nobody judged."""
    old = {reply.prompt_id: reply for reply in reversed(evidence.old)}
    new = {reply.prompt_id: reply for reply in reversed(evidence.new)}
    shared = sorted(old.keys() & new.keys(), key=digest)[:count]
    return [
        Label(prompt_id=name, a_id=new[name].id, b_id=old[name].id, outcome="failed", probability=None, margin=None)
        for name in shared
    ]


def _margin(label: Label, new: Set[str]) -> float:
    margin = label.margin or 0.0
    return margin if label.a_id in new else -margin
