"""`ratify train OBJECTIVE --data PATH`: any preference file, no run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demo import models
from flows.cli import app
from flows.train_cli import make_spec
from ratify.errors import ConfigError, InputError
from training.spec import PreferenceTask, RewardModelTask


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        {"prompt": [{"role": "user", "content": f"What is {n} plus {n}?"}],
         "chosen": [{"role": "assistant", "content": f"It is {2 * n}."}],
         "rejected": [{"role": "assistant", "content": "No idea."}]}
        for n in range(8)
    ]  # fmt: skip
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_is_enough_to_train_from(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["train", "dpo", "--data", str(pairs), "--model", str(models.POLICY), "--out", str(out)]
    done = CliRunner().invoke(app, [*arguments, "learning_rate=1e-3", "threads=1", "batch_prompts=4"])
    assert done.exit_code == 0, done.output
    assert (out / "model" / "model.safetensors").is_file()
    assert "train/pairs" in done.output and str(out / "model") in done.output
    assert "M parameters" in done.output and "FLOPs" in done.output  # said before training
    assert "train/gflops_per_s" in done.output and "cost/expected_seconds" in done.output


def test_settings_reach_the_task() -> None:
    files = {"data": Path("d.jsonl"), "model": "m", "out": None, "seed": 3, "drop": True}
    spec = make_spec("ipo_sum", ["beta=0.5"], **files)
    assert isinstance(spec, PreferenceTask) and spec.drop_bad_rows and spec.seed == 3
    assert (spec.section.objective, spec.section.beta) == ("ipo_sum", 0.5)
    ranked = make_spec("reward_model", ["likelihood=kwise"], **files)
    assert isinstance(ranked, RewardModelTask) and ranked.section.likelihood == "kwise"


@pytest.mark.parametrize(
    ("objective", "model", "overrides", "said"),
    [
        ("ppp", "m", [], "there is no objective 'ppp'"),
        ("dpo", None, [], "--data needs --model"),
        ("dpo", "m", ["betta=1"], "did you mean 'beta'"),
        ("dpo", "m", ["beta=-1"], "greater than 0"),
    ],
)
def test_bad_input_is_one_sentence(objective: str, model: str | None, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_spec(objective, overrides, data=Path("d.jsonl"), model=model, out=None, seed=0, drop=False)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    arguments = ["train", "dpo", "--data", str(tmp_path / "none.jsonl"), "--model", str(models.POLICY)]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, InputError) and "no such data file" in str(done.exception)
