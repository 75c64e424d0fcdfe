"""Ranking: a prompt's replies in one list, both ways round; each answer holds a verdict on every pair of the list."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from judges.aggregate import sigmoid
from judges.labelling import Collection, collect_verdicts
from judges.labels import compute_labels
from judges.listing import MOST_LISTED, keys_of, pair_keys, places
from judges.questions import Pair, Questionnaire, Ranker, write_questions
from judges.ranking_judge import RankingJudge
from judges.readouts.ranking import ONE_VOTE, worths_of
from judges.readouts.verdict_text import read_ranking
from ratify.errors import InputError
from ratify.types import Failure, Label
from ratify.verdict_store import VerdictStore
from tests.judges.readouts.scripted_server import Says, Script, ScriptedServer, section, with_server
from tests.judges.worlds import completion, constitution, pair, prompt

RULES = constitution("id: p, text: Be kind.", "id: q, text: Be brief.")
WORTH = {"One.": 1.5, "Two.": -0.5, "Three.": 0.25, "Four.": -2.0}
"""What the scripted judge thinks of each reply."""


def of_texts(*texts: str) -> list[Pair]:
    replies = [completion(text, f"p/{number}") for number, text in enumerate(texts)]
    return list(itertools.combinations(replies, 2))


def shown(body: dict[str, Any]) -> list[str]:
    """The replies of a request, in their order."""
    return re.findall(r"^Reply [A-P]:\n(.*)$", body["messages"][-1]["content"], re.MULTILINE)


def best_letter(favour: float = 0.0) -> Script:
    """A judge after Plackett and Luce, whose favour grows with each place further down."""

    def script(body: dict[str, Any]) -> Says:
        weights = np.exp([WORTH[text] + favour * place for place, text in enumerate(shown(body))])
        weights *= 0.9 / weights.sum()
        return Says(first=dict(zip("ABCDEFGH", weights.tolist(), strict=False)) | {"Well": 0.1})

    return script


def in_order(texts: Sequence[str]) -> Script:
    """A judge that writes the order of its taste as JSON."""

    def script(body: dict[str, Any]) -> Says:
        letters = dict(zip(shown(body), "ABCDEFGH", strict=False))
        return Says(json.dumps({"reasoning": "Kindness.", "ranking": [letters[text] for text in texts]}))

    return script


def rank(
    script: Script, pairs: Sequence[Pair], store: VerdictStore, **changes: Any
) -> tuple[Questionnaire, Collection, list[dict[str, Any]]]:
    """Have pairs of the prompt `p` ranked; the requests that it took come last."""
    settings = section(**{"protocol": "ranking"} | changes)

    async def work(client: Any, server: ScriptedServer) -> Any:
        judge = RankingJudge(settings, client, model_hash="m")
        sheet = write_questions({"p": prompt()}, pairs, RULES.active, judge)
        found = await collect_verdicts(sheet.questions, judge, store, failure_budget=1.0)
        return sheet, found, server.requests

    found: tuple[Questionnaire, Collection, list[dict[str, Any]]] = with_server(settings, script, work)
    return found


def labels_by(found: tuple[Questionnaire, Collection, list[dict[str, Any]]]) -> list[Label]:
    sheet, collection, _ = found
    return compute_labels(sheet, collection.verdicts, collection.failures, RULES, "pairwise")


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore.in_folder(tmp_path)


# --- keys


@pytest.mark.parametrize("size", range(2, 8))
def test_a_pair_s_keys_are_found_in_both_lists(size: int) -> None:
    """By name: in the backward list the place i holds what stood at size − 1 − i."""
    forwards = [f"{first} before {second}" for first, second in places(size)]
    backwards = [f"{size - 1 - first} before {size - 1 - second}" for first, second in places(size)]
    for earlier, later in places(size):
        found = pair_keys(forwards, backwards, size, earlier, later)
        assert found == (f"{earlier} before {later}", f"{later} before {earlier}")
    assert len(set(keys_of("k", size))) == size * (size - 1) // 2 and keys_of("k", size)[0] == keys_of("k", 2)[0]


def test_two_questions_a_principle_whatever_the_number_of_replies_and_whoever_is_named_first() -> None:
    judge: Ranker = RankingJudge(section(protocol="ranking"), model_hash="m")
    pairs = of_texts(*WORTH)
    sheet = write_questions({"p": prompt()}, pairs, RULES.active, judge)
    assert len(sheet.questions) == 4 and all(len(each.verdict_keys) == 6 for each in sheet.questions.values())
    turned = write_questions({"p": prompt()}, [(b, a) for a, b in reversed(pairs)], RULES.active, judge)
    assert turned.questions.keys() == sheet.questions.keys()
    for one, other in zip(sheet.keys, reversed(turned.keys), strict=True):
        assert {name: (both.b, both.a) for name, both in other.items()} == one
    every = {key for each in sheet.questions.values() for key in each.verdict_keys}
    assert {key for of_pair in sheet.keys for both in of_pair.values() for key in both} == every and len(every) == 24


def test_what_was_ranked_is_not_asked_again_and_another_reply_is_another_list(store: VerdictStore) -> None:
    script, three = best_letter(), of_texts("One.", "Two.", "Three.")
    assert len(rank(script, three, store)[2]) == 4 and store.count() == 4 * 3
    again = rank(script, three, store)
    assert not again[2] and again[1].statistics.reused == 4 and len(again[1].verdicts) == 12
    assert len(rank(script, of_texts(*WORTH), store)[2]) == 4


def test_rankings_are_another_judge_than_pairs_and_each_readout_another_still() -> None:
    prints = {
        RankingJudge(section(protocol="ranking", readout=name), model_hash="m").fingerprint
        for name in ("logprobs", "json")
    }
    assert len(prints) == 2


# --- reading


def test_log_odds_of_every_pair_are_differences_of_worths_and_the_place_in_the_list_cancels(
    store: VerdictStore,
) -> None:
    """ln p_i − ln p_j = (w_i − w_j) + f·(i − j) forwards; backwards the places change their sign."""
    found = rank(best_letter(favour=0.7), of_texts(*WORTH), store)
    for label, (a, b) in zip(labels_by(found), of_texts(*WORTH), strict=True):
        assert label.margin == pytest.approx(WORTH[a.text] - WORTH[b.text], abs=1e-9)
        assert label.probability == pytest.approx(sigmoid(WORTH[a.text] - WORTH[b.text]))
        assert len(label.verdict_keys) == 4
    verdicts = found[1].verdicts.values()
    assert all(each.protocol == "pairwise" and each.coverage == pytest.approx(0.9) for each in verdicts)
    assert sum(each.prompt_tokens for each in verdicts) == 400 and found[1].statistics.calls == 4


def test_each_verdict_names_who_stood_before_whom(store: VerdictStore) -> None:
    sheet, found, _ = rank(best_letter(favour=0.7), of_texts(*WORTH), store)
    for (a, b), keys in zip(sheet.pairs, sheet.keys, strict=True):
        for both in keys.values():
            ahead, behind = found.verdicts[both.a], found.verdicts[both.b]
            assert (ahead.first_id, ahead.second_id) == (a.id, b.id)
            assert (behind.first_id, behind.second_id) == (b.id, a.id)


def test_an_order_in_json_is_votes_by_steps(store: VerdictStore) -> None:
    """Two, Four, One: ln 3 between neighbours, twice that between the ends."""
    pairs = of_texts("One.", "Two.", "Four.")
    found = rank(in_order(["Two.", "Four.", "One."]), pairs, store, readout="json")
    margins = {(a.text, b.text): label.margin for label, (a, b) in zip(labels_by(found), pairs, strict=True)}
    assert margins == {
        ("One.", "Two."): pytest.approx(-2 * log(3)), ("One.", "Four."): pytest.approx(-log(3)),
        ("Two.", "Four."): pytest.approx(log(3)),
    }  # fmt: skip
    assert worths_of((1, 2, 0)) == pytest.approx((-ONE_VOTE, ONE_VOTE, 0.0)) and pytest.approx(log(3)) == ONE_VOTE
    schema = found[2][0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["ranking"]["items"]["enum"] == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ('{"reasoning": "x", "ranking": ["B", "A", "C"]}', None),
        ('{"reasoning": "x", "ranking": ["B", "A"]}', Failure.PARSE_ERROR),
        ('{"reasoning": "x", "ranking": ["B", "A", "A"]}', Failure.PARSE_ERROR),
        ('{"reasoning": "x", "ranking": ["B", "A", "C", "D"]}', Failure.PARSE_ERROR),
        ('{"reasoning": "x", "ranking": "BAC"}', Failure.PARSE_ERROR),
        ('{"reasoning": "x", "ranking": [1, 0, 2]}', Failure.PARSE_ERROR),
        ('{"reasoning": "x", "verdict": "B"}', Failure.PARSE_ERROR),
        ('{"ranking": ["B", "A", "C"]}', Failure.PARSE_ERROR),
        ('Reply B said: {"reasoning": "x", "ranking": ["B", "A", "C"]}', Failure.PARSE_ERROR),
        ("I'm sorry, I can't rank these.", Failure.REFUSED),
    ],
)
def test_only_a_whole_order_is_a_ranking(text: str, failure: Failure | None) -> None:
    assert read_ranking(text, "ABC", "stop") == ((1, 0, 2) if failure is None else None, failure)
    assert read_ranking(text, "ABC", "length").failure is Failure.TRUNCATED


def test_an_order_that_lacks_a_letter_is_asked_again_and_then_fails_all_its_pairs(store: VerdictStore) -> None:
    pairs = of_texts("One.", "Two.", "Three.")
    found = rank(lambda _: Says('{"reasoning": "x", "ranking": ["A"]}'), pairs, store, readout="json", max_reasks=1)
    assert len(found[2]) == 2 * 4 and store.count() == 0 and found[1].statistics.failed == 4
    assert found[2][-1]["temperature"] > 0
    assert all(label.failures == ("p: parse_error", "p: parse_error", "q: parse_error", "q: parse_error")
               for label in labels_by(found))  # fmt: skip


def test_too_little_on_the_letters_is_a_failure_also_when_the_limit_is_raised_later(store: VerdictStore) -> None:
    pairs = of_texts("One.", "Two.", "Three.")
    assert not rank(best_letter(), pairs, store, min_coverage=0.5)[1].failures
    again = rank(best_letter(), pairs, store, min_coverage=0.95)
    assert not again[2] and set(again[1].failures.values()) == {Failure.LOW_COVERAGE} and not again[1].verdicts
    assert [label.outcome for label in labels_by(again)] == ["failed"] * 3


def test_a_letter_that_the_server_does_not_list_is_bounded_by_what_is_left(store: VerdictStore) -> None:
    found = rank(lambda _: Says(first={"A": 0.6, "B": 0.3}), of_texts("One.", "Two.", "Three."), store)
    logits = sorted(each.logit or 0.0 for each in found[1].verdicts.values())
    assert logits[-1] == pytest.approx(log(0.6 / 0.1)) and logits[0] == pytest.approx(log(0.6 / 0.3))


# --- the list


def test_verdicts_of_one_answer_are_stored_together(store: VerdictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between two transactions leaves whole lists."""
    transactions: list[list[str]] = []
    append = store.append

    def watched(verdicts: Any) -> None:
        transactions.append([verdict.key for verdict in verdicts])
        append(verdicts)

    monkeypatch.setattr(store, "append", watched)
    sheet, _, _ = rank(best_letter(), of_texts(*WORTH), store)
    for question in sheet.questions.values():
        assert sum(set(question.verdict_keys) <= set(each) for each in transactions) == 1
    assert sum(map(len, transactions)) == 24


def test_equal_texts_stand_once_unless_they_are_a_pair(store: VerdictStore) -> None:
    """One and its double tie: they stand beside each other, both ways round."""
    replies = [completion(text, f"p/{n}") for n, text in enumerate(("One.", "Two.", "One."))]
    once = rank(best_letter(), [(replies[0], replies[1]), (replies[2], replies[1])], store)
    assert all(len(shown(body)) == 2 for body in once[2]) and len(once[2]) == 4
    assert len({label.margin for label in labels_by(once)}) == 1
    twice = rank(best_letter(favour=0.3), [(replies[0], replies[2]), (replies[0], replies[1])], store)
    assert all(sorted(shown(body)) == ["One.", "One.", "Two."] for body in twice[2])
    tied, told = labels_by(twice)
    assert tied.margin == pytest.approx(0.0) and tied.outcome == "tie" and told.margin == pytest.approx(2.0)


def test_a_list_that_is_too_long_is_refused() -> None:
    judge = RankingJudge(section(protocol="ranking"), model_hash="m")
    with pytest.raises(InputError, match=f"prompt 'p' has {MOST_LISTED + 1} different replies .* 'pairwise'"):
        write_questions({"p": prompt()}, of_texts(*map(str, range(MOST_LISTED + 1))), RULES.active, judge)


@pytest.mark.parametrize("change", [{"readout": "samples"}, {"kind": "rules"}, {"processes": 2}])
def test_what_cannot_rank_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="protocol 'ranking' is for kind 'model', readout 'logprobs' or 'json'"):
        section(protocol="ranking", **change)


def test_a_template_without_the_replies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ranking.txt").write_text("{conversation} {principle}")
    with pytest.raises(Exception, match=r"has no slot \{replies\}; the judge would not see it"):
        RankingJudge(section(protocol="ranking"), model_hash="m", prompts_dir=tmp_path)


def test_a_pair_alone_is_a_list_of_two(store: VerdictStore) -> None:
    found = rank(best_letter(), [pair("One.", "Two.")], store)
    assert len(found[2]) == 4 and labels_by(found)[0].margin == pytest.approx(2.0)
