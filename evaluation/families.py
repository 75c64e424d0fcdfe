"""The families of figures that an evaluation computes from its evidence, each standing alone.

What the evidence does not support is recorded under `missing` with the reason and the rest goes on; nothing is
defaulted. A new family is one function here, one entry in `FAMILIES` and its names in `catalog`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evaluation.agreement import (
    Agreement,
    Pair,
    Side,
    gold_by_principle,
    gold_by_weight,
    pair_agreement,
    principle_agreement,
    reward_accuracy,
    verdict_agreement,
)
from evaluation.anchor_nll import anchor_nll, require_one_tokenizer
from evaluation.capability import FIRST, capability, sycophancy
from evaluation.compliance import ALL, compliance
from evaluation.divergence import divergence
from evaluation.diversity import duplicate_share, repeated_across_prompts
from evaluation.form import form_shares, over_refusal
from evaluation.harness import harness_figures
from evaluation.intervals import Estimate, EvidenceError, difference
from evaluation.judging import position_effect
from evaluation.length import lengths
from evaluation.length_control import length_controlled_win_rate, reply_words
from evaluation.lexical_family import lexical_figures
from evaluation.ngram_figures import Compared
from evaluation.proxy_gold import proxies_against_gold
from evaluation.report import Evidence, JudgedSet, ScoredReply
from evaluation.reward_quality import expected_calibration_error, fresh_pairs, length_correlation
from evaluation.win_rate import WinRate, principle_win_rates, win_rate
from ratify.types import Completion, Label, Verdict

SETS = {"label": "training", "evaluate": "heldout"}
"""Stage in the metric keys → judged set of the evidence."""


class Figures:
    """Metrics and counts as they are found, and why some are not."""

    def __init__(self) -> None:
        self.metrics: dict[str, Estimate] = {}
        self.counts: dict[str, int] = {}
        self.missing: dict[str, str] = {}

    def attempt(self, name: str, family: Callable[[], None]) -> None:
        """Compute a family of figures, or record why the evidence does not support it."""
        try:
            family()
        except EvidenceError as error:
            self.missing[name] = str(error)


def _compliance(figures: Figures, evidence: Evidence) -> None:
    for name, compared in compliance(evidence.old, evidence.new, evidence.properties, evidence.how).items():
        for stat, estimate in compared._asdict().items():
            figures.metrics[f"evaluate/compliance.{name}/{stat}"] = estimate


def _win_rate(figures: Figures, evidence: Evidence) -> None:
    new = {reply.id for reply in evidence.new}
    labels = evidence.heldout.labels
    rates: dict[str, WinRate] = {ALL: win_rate(labels, new, evidence.how)}
    rates |= principle_win_rates(labels, new, how=evidence.how)
    for name, rate in rates.items():
        figures.metrics[f"evaluate/win_rate.{name}/rate"] = rate.estimate
        for count in ("wins", "ties", "losses", "failed"):
            figures.counts[f"evaluate/win_rate.{name}/{count}"] = getattr(rate, count)


def _length_controlled(figures: Figures, evidence: Evidence) -> None:
    new = {reply.id for reply in evidence.new}
    words = reply_words([*evidence.old, *evidence.new])
    found = length_controlled_win_rate(evidence.heldout.labels, new, words, evidence.how)
    figures.metrics["evaluate/win_rate_length_controlled/rate"] = found


def _divergence(figures: Figures, evidence: Evidence) -> None:
    _distance(figures, evidence, evidence.scored, "kl")


def _divergence_from_first(figures: Figures, evidence: Evidence) -> None:
    """Only where a round starts from another policy than the run's first: elsewhere it is the KL to the reference."""
    if evidence.scored_first:
        _distance(figures, evidence, evidence.scored_first, "kl_to_first")


def _distance(figures: Figures, evidence: Evidence, rows: Sequence[ScoredReply], thing: str) -> None:
    prompts = {reply.id: reply.prompt_id for reply in evidence.new}
    scored = [row for row in rows if row.completion_id in prompts]
    if len(scored) < len(prompts):
        raise EvidenceError(f"KL: {len(scored)} of {len(prompts)} replies of the new policy were scored")
    require_one_tokenizer(scored, "KL")
    found = divergence(
        [row.log_new for row in scored],
        [row.log_reference for row in scored],
        [row.tokens for row in scored],
        [prompts[row.completion_id] for row in scored],
        evidence.how,
    )
    for stat, estimate in found._asdict().items():
        figures.metrics[f"evaluate/{thing}/{stat}"] = estimate


def _lexical(figures: Figures, evidence: Evidence) -> None:
    found = lexical_figures(evidence.old, evidence.new, evidence.anchor, evidence.how)
    for thing, compared in found.compared.items():
        for stat, estimate in compared._asdict().items():
            figures.metrics[f"evaluate/{thing}/{stat}"] = estimate
    figures.metrics |= {f"evaluate/{name}": estimate for name, estimate in found.alone.items()}
    figures.counts |= {f"evaluate/{name}": count for name, count in found.counts.items()}
    figures.missing |= found.missing


def _duplicates(figures: Figures, evidence: Evidence) -> None:
    for side, replies in (("old", evidence.old), ("new", evidence.new)):
        figures.metrics[f"evaluate/duplicates/{side}"] = duplicate_share(replies, evidence.how)
    figures.metrics["evaluate/duplicates/difference"] = difference(
        repeated_across_prompts(evidence.new),
        [reply.prompt_id for reply in evidence.new],
        repeated_across_prompts(evidence.old),
        [reply.prompt_id for reply in evidence.old],
        evidence.how,
        share=True,
    )


def _length(figures: Figures, evidence: Evidence) -> None:
    for side, replies in (("old", evidence.old), ("new", evidence.new)):
        for thing, estimate in lengths(replies, evidence.how)._asdict().items():
            figures.metrics[f"evaluate/{thing}/{side}"] = estimate
    measures: dict[str, Callable[[Completion], float]] = {
        "words": lambda reply: len(reply.text.split()),
        "tokens": lambda reply: reply.completion_tokens,
        "truncated": lambda reply: reply.finish_reason == "length",
    }
    for thing, measure in measures.items():
        figures.metrics[f"evaluate/{thing}/difference"] = difference(
            [measure(reply) for reply in evidence.new],
            [reply.prompt_id for reply in evidence.new],
            [measure(reply) for reply in evidence.old],
            [reply.prompt_id for reply in evidence.old],
            evidence.how,
            share=thing == "truncated",
        )


def _truth_agreement(figures: Figures, evidence: Evidence) -> None:
    if not evidence.properties:
        raise EvidenceError("no oracle knows the truth about these replies")
    for stage, judged in _by_stage(evidence):
        for name in _measured_principles(judged, evidence):
            figures.attempt(f"{stage}/agreement.{name}", _part(figures, evidence, stage, judged, name))
        figures.attempt(f"{stage}/agreement.{ALL}", _whole(figures, evidence, stage, judged))


def _part(figures: Figures, evidence: Evidence, stage: str, judged: JudgedSet, name: str) -> Callable[[], None]:
    def compute() -> None:
        pointwise = [verdict for verdict in judged.verdicts if verdict.principle == name]
        if any(verdict.protocol == "pointwise" for verdict in pointwise):
            found = verdict_agreement(pointwise, evidence.properties, evidence.how)
            _record(figures, f"{stage}/verdicts.{name}", found)
        gold = gold_by_principle(judged.labels, evidence.properties, name)
        _record(figures, f"{stage}/agreement.{name}", principle_agreement(judged.labels, name, gold, evidence.how))

    return compute


def _whole(figures: Figures, evidence: Evidence, stage: str, judged: JudgedSet) -> Callable[[], None]:
    def compute() -> None:
        principles = _measured_principles(judged, evidence)
        if any(verdict.protocol == "pointwise" for verdict in judged.verdicts):
            known = [verdict for verdict in judged.verdicts if verdict.principle in principles]
            _record(figures, f"{stage}/verdicts.{ALL}", verdict_agreement(known, evidence.properties, evidence.how))
        stated = evidence.constitution.principles if evidence.constitution else ()
        weights = {principle.id: principle.weight for principle in stated if principle.id in principles}
        weights = weights or dict.fromkeys(principles, 1.0)
        gold = gold_by_weight(judged.labels, evidence.properties, weights)
        _record(figures, f"{stage}/agreement.{ALL}", pair_agreement(judged.labels, gold, evidence.how))

    return compute


def _people_agreement(figures: Figures, evidence: Evidence) -> None:
    if not evidence.gold:
        raise EvidenceError("no gold preferences were given")
    gold: Mapping[Pair, Side] = evidence.gold
    for stage, judged in _by_stage(evidence):
        if any((label.a_id, label.b_id) in gold for label in judged.labels):
            _record(figures, f"{stage}/people.{ALL}", pair_agreement(judged.labels, gold, evidence.how))


def _form(figures: Figures, evidence: Evidence) -> None:
    for name, compared in form_shares(evidence.old, evidence.new, evidence.how).items():
        _compare(figures, f"evaluate/form.{name}", compared)


def _over_refusal(figures: Figures, evidence: Evidence) -> None:
    found = over_refusal(evidence.prompts, evidence.old, evidence.new, evidence.how, evidence.safe_twins)
    _compare(figures, "evaluate/over_refusal", found)


def _anchor_nll(figures: Figures, evidence: Evidence) -> None:
    if not evidence.anchor:
        raise EvidenceError("no frozen anchor text was given")
    _compare(figures, "evaluate/anchor_nll", anchor_nll(evidence.anchor_scored, evidence.how))


def _capability(figures: Figures, evidence: Evidence) -> None:
    for part, found in capability(evidence.capability, evidence.how.confidence).items():
        stem = f"evaluate/capability.{part}"
        _compare(figures, stem, found.compared)
        if found.against_first is not None:
            figures.metrics[f"{stem}/{FIRST}"] = found.against_first
        figures.counts |= {f"{stem}/gained": found.gained, f"{stem}/lost": found.lost}


def _sycophancy(figures: Figures, evidence: Evidence) -> None:
    for part, found in sycophancy(evidence.sycophancy, evidence.how).items():
        _compare(figures, f"evaluate/sycophancy.{part}", found.sway)
        _compare(figures, f"evaluate/opinion_followed.{part}", found.followed)


def _harness(figures: Figures, evidence: Evidence) -> None:
    """Only where such results were given: nobody misses them elsewhere."""
    if evidence.harness is not None:
        for task, compared in harness_figures(*evidence.harness, evidence.how.confidence).items():
            _compare(figures, f"evaluate/harness.{task}", compared)


def _reward_model(figures: Figures, evidence: Evidence) -> None:
    found = reward_accuracy(evidence.heldout.labels, evidence.rewards, evidence.how)
    figures.metrics["reward_model/reward_accuracy/heldout"] = found
    pairs = fresh_pairs(evidence.heldout.labels, evidence.rewards)
    figures.metrics["reward_model/reward_ece/heldout"] = expected_calibration_error(pairs, evidence.how)


def _reward_length(figures: Figures, evidence: Evidence) -> None:
    quality = {name: float(sum(held.values())) for name, held in evidence.properties.items()}
    replies = [*evidence.old, *evidence.new]
    found = length_correlation(replies, evidence.rewards, quality, evidence.how)
    figures.metrics["reward_model/reward_length/within_prompts"] = found


def _proxy_gold(figures: Figures, evidence: Evidence) -> None:
    for name, found in proxies_against_gold(evidence).items():
        for stat, estimate in found._asdict().items():
            figures.metrics[f"evaluate/proxy_gold.{name}/{stat}"] = estimate


def _compare(figures: Figures, stem: str, compared: Compared) -> None:
    for stat, estimate in compared._asdict().items():
        figures.metrics[f"{stem}/{stat}"] = estimate


def _position(figures: Figures, evidence: Evidence) -> None:
    for stage, judged in _by_stage(evidence):
        effect = position_effect(judged.verdicts, evidence.how)
        if effect is not None:
            figures.metrics[f"{stage}/position/first"] = effect.first
            figures.metrics[f"{stage}/position/flips"] = effect.flips


def _record(figures: Figures, prefix: str, found: Agreement) -> None:
    figures.metrics[f"{prefix}/accuracy"] = found.accuracy
    if found.kappa is not None:
        figures.metrics[f"{prefix}/kappa"] = found.kappa
    figures.counts[f"{prefix}/ties"] = found.ties
    figures.counts[f"{prefix}/failed"] = found.failed


def _by_stage(evidence: Evidence) -> list[tuple[str, JudgedSet]]:
    sets = judged_sets(evidence)
    return [(stage, sets[name]) for stage, name in SETS.items() if name in sets]


def _measured_principles(judged: JudgedSet, evidence: Evidence) -> list[str]:
    """Principles of the labels whose truth is known, in the labels' order."""
    labels: Sequence[Label] = judged.labels
    verdicts: Sequence[Verdict] = judged.verdicts
    seen = dict.fromkeys([name for label in labels for name in label.by_principle])
    seen |= dict.fromkeys(verdict.principle for verdict in verdicts)
    known = {name for properties in evidence.properties.values() for name in properties}
    return [name for name in seen if name in known]


def judged_sets(evidence: Evidence) -> dict[str, JudgedSet]:
    """The judged sets that have labels, by name."""
    named = {"training": evidence.training, "heldout": evidence.heldout}
    return {name: judged for name, judged in named.items() if judged.labels}


FAMILIES: dict[str, Callable[[Figures, Evidence], None]] = {
    "compliance": _compliance,
    "win_rate": _win_rate,
    "win_rate_length_controlled": _length_controlled,
    "kl": _divergence,
    "kl_to_first": _divergence_from_first,
    "lexical": _lexical,
    "duplicates": _duplicates,
    "length": _length,
    "truth_agreement": _truth_agreement,
    "people_agreement": _people_agreement,
    "form": _form,
    "over_refusal": _over_refusal,
    "anchor_nll": _anchor_nll,
    "capability": _capability,
    "sycophancy": _sycophancy,
    "harness": _harness,
    "reward_model": _reward_model,
    "reward_length": _reward_length,
    "proxy_gold": _proxy_gold,
    "position": _position,
}
