"""Does a proxy favour the new policy more than it deserves? Judge and reward model against gold, on the same pairs.

Gold is people where they were asked about these pairs, else an oracle's properties by the constitution's weights. Each
side gives a pair of one old and one new reply 1, ½ or 0; the gap is the mean difference. It is in win rates, so judge,
reward model and gold need no common scale.
"""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.agreement import Pair, gold_by_weight
from evaluation.intervals import EvidenceError
from evaluation.report import Evidence
from evaluation.reward_quality import ProxyGold, proxy_gold

CREDIT = {"a": 1.0, "b": 0.0, "tie": 0.5}


def proxies_against_gold(evidence: Evidence) -> dict[str, ProxyGold]:
    """`judge` and, where rewards are known, `reward_model`.

    Raises:
        EvidenceError: nothing is known to be right about enough held-out pairs.
    """
    gold = _gold(evidence)
    new = {reply.id for reply in evidence.new}
    labels = [label for label in evidence.heldout.labels if label.outcome != "failed"]
    prompts = {(label.a_id, label.b_id): label.prompt_id for label in labels}
    truth = {pair: _for_new(credit, pair, new) for pair, credit in gold.items()}
    judged = {
        (label.a_id, label.b_id): _for_new(CREDIT[label.outcome], (label.a_id, label.b_id), new) for label in labels
    }
    found = {"judge": proxy_gold(judged, truth, prompts, evidence.how)}
    rewards = evidence.rewards
    scored = {pair: _for_new(_higher(rewards, pair), pair, new) for pair in prompts if {*pair} <= rewards.keys()}
    if scored:
        found["reward_model"] = proxy_gold(scored, truth, prompts, evidence.how)
    return found


def _gold(evidence: Evidence) -> dict[Pair, float]:
    labels = evidence.heldout.labels
    known = {pair: side for label in labels if (side := evidence.gold.get(pair := (label.a_id, label.b_id)))}
    if not known and evidence.properties and evidence.constitution:
        names = {name for held in evidence.properties.values() for name in held}
        weights = {each.id: each.weight for each in evidence.constitution.principles if each.id in names}
        known = dict(gold_by_weight(labels, evidence.properties, weights)) if weights else {}
    if not known:
        raise EvidenceError("nobody knows which held-out replies are truly better: no gold preferences, no oracle")
    return {pair: CREDIT[side] for pair, side in known.items()}


def _for_new(credit: float, pair: Pair, new: set[str]) -> float:
    return credit if pair[0] in new else 1.0 - credit


def _higher(rewards: Mapping[str, float], pair: Pair) -> float:
    gap = rewards[pair[0]] - rewards[pair[1]]
    return 0.5 if gap == 0 else float(gap > 0)
