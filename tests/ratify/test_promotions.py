"""The history of promotions: append-only, whole or absent, and the pointer follows from it."""

import json
from pathlib import Path

import pytest

from ratify.canonical import model_digest
from ratify.errors import InputError, StoreError
from ratify.promotions import HISTORY, POINTER, PolicyRecord, Promotions, attempts, changed


def make_model(folder: Path, weights: str) -> PolicyRecord:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"weights": weights}))
    return PolicyRecord(model=str(folder), digest=model_digest(folder))


@pytest.fixture
def promotions(tmp_path: Path) -> Promotions:
    """A run whose first policy is promoted."""
    run = tmp_path / "run"
    run.mkdir()
    history = Promotions(run)
    history.record("epoch", policy=make_model(tmp_path / "first", "first"), judge="j", reason="first")
    return history


def promote(promotions: Promotions, folder: Path, weights: str) -> PolicyRecord:
    before = promotions.pointer()
    assert before
    policy = make_model(folder, weights).model_copy(update={"parent": before.policy.digest})
    kept = promotions.keep(policy)
    promotions.record("promotion", policy=kept, parent=before.policy.digest, decision="PROMOTE")
    return kept


def test_a_run_without_history_has_no_pointer(tmp_path: Path) -> None:
    assert Promotions(tmp_path).events() == [] and Promotions(tmp_path).pointer() is None


def test_the_pointer_names_the_newest_policy_and_its_line(promotions: Promotions, tmp_path: Path) -> None:
    second = promote(promotions, tmp_path / "model", "second")
    third = promote(promotions, tmp_path / "model", "third")
    pointer = json.loads((promotions.run / POINTER).read_text())
    assert pointer["policy"]["digest"] == third.digest
    assert [policy["digest"] for policy in pointer["lineage"]] == [second.digest, model_digest(tmp_path / "first")]


def test_a_promoted_policy_outlives_the_folder_it_was_trained_in(promotions: Promotions, tmp_path: Path) -> None:
    second = promote(promotions, tmp_path / "model", "second")
    (tmp_path / "model" / "config.json").unlink()
    make_model(tmp_path / "model", "trained again")
    assert not changed(second) and Path(second.model).parent == promotions.run / "policies"
    (Path(second.model) / "config.json").write_text("{}")
    assert changed(second)


def test_a_policy_that_is_not_the_measured_one_is_not_kept(promotions: Promotions, tmp_path: Path) -> None:
    measured = make_model(tmp_path / "model", "second")
    make_model(tmp_path / "model", "another")
    with pytest.raises(InputError, match="not the policy"):
        promotions.keep(measured)
    assert not (promotions.run / "policies").exists()


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_half_written_event_never_counts(promotions: Promotions, tmp_path: Path, cut: int) -> None:
    promote(promotions, tmp_path / "model", "second")
    path = promotions.run / HISTORY
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-200:-cut].split(b"\n")[-1] + b'{"number": 9')
    assert len(promotions.events()) == 2
    promotions.record("attempt", evidence="e", parent="p")
    assert [event.number for event in promotions.events()] == [1, 2, 3]
    assert path.read_bytes().startswith(whole)


def test_a_pointer_that_was_not_written_is_written_again(promotions: Promotions, tmp_path: Path) -> None:
    """Killed between the event and the pointer: the history decides."""
    old = (promotions.run / POINTER).read_text()
    second = promote(promotions, tmp_path / "model", "second")
    (promotions.run / POINTER).write_text(old)
    promotions.repair()
    assert json.loads((promotions.run / POINTER).read_text())["policy"]["digest"] == second.digest
    (promotions.run / POINTER).unlink()
    promotions.repair()
    assert (promotions.run / POINTER).exists()


def test_attempts_count_different_evidence_against_one_parent(promotions: Promotions) -> None:
    for evidence, parent in (("a", "p"), ("b", "p"), ("a", "p"), ("c", "q"), ("d", "p")):
        promotions.record("attempt", evidence=evidence, parent=parent)
    assert attempts(promotions.events(), "p") == {"a": 1, "b": 2, "d": 3}


def test_a_broken_history_is_one_sentence(promotions: Promotions) -> None:
    with (promotions.run / HISTORY).open("a") as handle:
        handle.write("rubbish\n")
    with pytest.raises(StoreError, match="not a history"):
        promotions.events()
