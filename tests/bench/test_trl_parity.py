"""TRL's own trainers and ours, where TRL is installed; the locks leave it out."""

from __future__ import annotations

import pytest

from bench import trl_parity


def test_rows_hold_all_chosen_before_all_rejected() -> None:
    found = trl_parity.elements(2)
    batch = trl_parity.rows(found, 2)
    chosen, rejected = found[1].completions
    for row, completion in ((1, chosen), (3, rejected)):
        ids = batch["input_ids"][row][batch["completion_mask"][row] == 1]
        assert ids.tolist() == list(completion)
        assert int(batch["attention_mask"][row].sum()) == len(found[1].prompt) + len(completion)


def test_every_loss_and_gradient_equals_trls(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl")
    trl_parity.main()
    assert capsys.readouterr().out.count("preference") == len(trl_parity.DPO_LOSSES)
