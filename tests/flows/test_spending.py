"""`[budget]` over a run's commands: its own exit code, nothing asked twice, a file that a kill cannot make too low."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.stages.spending import FilePurse, read_spending
from judges.budget import Ledger, Limits
from judges.usage import Usage
from ratify.errors import EndpointError, SpendingError, StoreError
from tests.judges.fake_server import FakeServer

RUN = Callable[..., Any]


def test_a_spent_budget_ends_with_its_own_code_and_a_higher_one_goes_on(
    ratify: RUN, small_run: list[str], tmp_path: Path
) -> None:
    plain = [argument for argument in small_run if argument != "judge.kind=rules"]
    plain += ["prompts.train_limit=8", "--no-prefect"]
    assert ratify("generate", *plain).code == 0
    with FakeServer() as server:
        arguments = [
            *plain,
            "prompts.train_limit=8",
            f"judge.base_url={server.url}",
            "judge.model=fake",
            "--no-prefect",
        ]
        said = ratify("label", *arguments, "budget.requests=30")
        assert said.code == 9 and "judging stopped by the budget: 30 of budget.requests = 30" in said.err
        spending = tmp_path / "small" / "spending.json"
        assert server.judged == 30 and read_spending(spending).requests == 30
        assert not (tmp_path / "small/round-000/label/manifest.json").exists()
        assert ratify("label", *arguments, "budget.requests=30").code == 9 and server.judged == 30
        assert ratify("label", *arguments, "budget.requests=5000").code == 0
        manifest = json.loads((tmp_path / "small/round-000/label/manifest.json").read_text())
        assert manifest["metrics"]["label/verdicts/reused"] == 30
        assert read_spending(spending).requests == server.judged == 30 + manifest["metrics"]["label/calls/count"]


def test_a_limit_does_not_concern_a_judge_that_asks_nobody(ratify: RUN, tmp_path: Path) -> None:
    said = ratify("judge", "check", "configs/demo.toml", "judge.kind=rules", f"run.dir={tmp_path}", "budget.requests=0")
    assert said.code in (0, 1)


def test_the_file_is_never_below_what_was_sent(tmp_path: Path) -> None:
    """At every moment, because a kill may come at every moment; and it is written far less often than asked."""
    path, limits = tmp_path / "spending.json", Limits(requests=2000)
    purse = FilePurse(path, limits, lambda _used: 0.0)
    ledger, written = Ledger(limits, lambda _used: 0.0, purse.entered, purse), 0
    last = Usage()
    for number in range(1000):
        ledger.reserve(str(number), Usage(1, 50, 1))
        on_disk = read_spending(path)
        assert all(have >= need for have, need in zip(on_disk, ledger.total, strict=True))
        written += on_disk != last
        last = on_disk
        if number % 2:
            ledger.settle(str(number), 10, 1)
    assert written <= 26
    assert read_spending(path).requests - ledger.total.requests <= 40


def test_a_small_limit_is_not_lost_to_a_block(tmp_path: Path) -> None:
    limits = Limits(requests=10)
    purse = FilePurse(tmp_path / "s.json", limits, lambda _used: 0.0)
    purse.cover(Usage(1, 50, 1), Usage(1, 50, 1))
    assert read_spending(tmp_path / "s.json") == Usage(1, 50, 1)


def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(StoreError, match=r"write what was spent into it, or delete it to count from 0"):
        read_spending(tmp_path / "s.json")


def test_prefect_does_not_retry_a_spent_budget() -> None:
    from flows.prefect_stages import _run_stage, worth_a_retry

    assert _run_stage.with_options(name="label", retries=3).retry_condition_fn is worth_a_retry
    assert not worth_a_retry(None, None, SimpleNamespace(data=SpendingError("spent")))
    assert worth_a_retry(None, None, SimpleNamespace(data=EndpointError("down")))
