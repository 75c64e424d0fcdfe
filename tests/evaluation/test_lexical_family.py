"""The report's figures of wording: keys, differences, and reasons instead of figures where evidence is missing."""

import dataclasses

import pytest

from evaluation import lexical_family
from evaluation.catalog import QUANTITIES, split_key
from evaluation.intervals import Resampling
from evaluation.lexical_family import lexical_figures
from evaluation.summary import summarise
from tests.evaluation.test_diversity import random_texts, reply
from tests.evaluation.test_ngram_figures import replies

HOW = Resampling(draws=200)
ANCHOR = [" ".join(f"w{at}" for at in range(2000))]


def test_a_collapsed_policy_moves_every_figure_the_right_way() -> None:
    rich = replies(random_texts(320, 40, 2000, seed=1), "old", 2)
    poor = replies([text[:60] + " and so on and so forth" for text in random_texts(320, 40, 60, seed=2)], "new", 2)
    found = lexical_figures(rich, poor, ANCHOR, HOW)
    assert not found.missing
    for thing, compared in found.compared.items():
        better = QUANTITIES[thing].better
        assert (compared.difference.low > 0) == (better == "down") or thing == "near_duplicates", thing
        assert compared.difference.value == pytest.approx(compared.new.value - compared.old.value)
    assert found.alone["told_apart/rate"].low > 0.9
    assert found.alone["mmd/distance"].value > 2 * found.alone["mmd/chance"].value
    assert found.alone["mmd/p"].value == pytest.approx(1 / 1000), "no permutation of 999 reaches it"


def test_the_same_policy_twice_is_told_apart_by_nothing() -> None:
    old, new = (replies(random_texts(320, 40, 500, seed), name, 2) for seed, name in ((1, "old"), (2, "new")))
    found = lexical_figures(old, new, ANCHOR, HOW)
    far = [
        thing for thing, compared in found.compared.items()
        if not compared.difference.low <= 0 <= compared.difference.high
    ]  # fmt: skip
    assert len(far) <= 3, f"of {len(found.compared)} intervals at 95 %"
    assert found.alone["mmd/p"].value > 0.01 and found.alone["mmd/distance"].low is None


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ([], [], {"diversity_1", "compression", "near_duplicates", "told_apart"}),
        ([""] * 60, [""] * 60, {"diversity_1", "compression", "self_repetition", "rare_words", "across_prompts"}),
        (["a b c d e"], ["a b c d f"], {"diversity_4", "compression", "told_apart", "within_prompts"}),
    ],
)
def test_missing_evidence_is_named_and_never_a_figure(old, new, missing) -> None:
    found = lexical_figures(replies(old, "old"), replies(new, "new"), [], HOW)
    assert set(found.missing) >= missing
    assert all(found.missing.values())


def test_one_reply_a_prompt_leaves_out_the_spread_within_prompts_alone() -> None:
    old, new = (replies(random_texts(160, 40, 500, seed), name) for seed, name in ((1, "old"), (2, "new")))
    assert set(lexical_figures(old, new, ANCHOR, HOW).missing) == {"within_prompts"}


def test_text_with_broken_characters_is_measured() -> None:
    texts = [f"{text} \ud800 \ufffd \x00" for text in random_texts(160, 40, 500)]
    assert "compression" in lexical_figures(replies(texts, "old"), replies(texts), [], HOW).compared


def test_the_report_speaks_of_every_figure(evidence) -> None:
    report = summarise(dataclasses.replace(evidence, anchor=ANCHOR))
    for thing in ("self_repetition", "near_duplicates", "compression", "distinct_2", "within_prompts"):
        assert {f"evaluate/{thing}/{stat}" for stat in ("old", "new", "difference")} <= set(report.metrics)
    assert {split_key(key).thing for key in report.metrics if key.startswith("evaluate/")} <= set(QUANTITIES)


def test_more_replies_than_are_made_into_vectors_are_sampled_by_the_same_prompts(monkeypatch) -> None:
    monkeypatch.setattr(lexical_family, "MOST_VECTORS", 200)
    old = replies(random_texts(900, 12, 300, seed=1), "old", 3)
    new = replies(random_texts(600, 12, 300, seed=2), "new", 2)
    found = lexical_figures(old, new, [], HOW)
    assert found.alone["told_apart/rate"].clusters == 60
    assert found.compared["within_prompts"].old.n == found.compared["within_prompts"].new.n == 60


def test_policies_without_a_common_prompt_are_not_compared_by_vectors() -> None:
    old = [reply(f"q{at}", text, 0, "old") for at, text in enumerate(random_texts(160, 40, 500))]
    found = lexical_figures(old, replies(random_texts(160, 40, 500)), [], HOW)
    assert set(found.missing) >= {"told_apart", "across_prompts", "self_repetition"}
