"""Bad input: one sentence that says what, where and how to mend, an exit code, no traceback, nothing half-written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

CONSTITUTION = """
schema: constitution/v1
id: broken
version: 1.0.0
principles:
  - {id: polite, text: The reply is polite.}
  - {id: polite, text: The reply is kind.}
"""


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def make_model_without_template(folder: Path) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer_config.json").write_text("{}")
    return str(folder)


CASES = {
    "unknown key": (lambda tmp: ["sampling.temprature=1"], 2, "did you mean 'temperature'?"),
    "missing model": (lambda tmp: [f"policy.model={tmp}/none"], 3, "no model folder"),
    "missing judge model": (lambda tmp: [f"judge.model={tmp}/none"], 3, "no model folder"),
    "no chat template": (
        lambda tmp: [f"policy.model={make_model_without_template(tmp / 'm')}"],
        3,
        "has no chat template",
    ),
    "missing prompt file": (lambda tmp: [f"prompts.train={tmp}/none.jsonl"], 3, "does not exist"),
    "empty prompt file": (lambda tmp: ["prompts.train=" + write(tmp / "p.jsonl", "")], 3, "is empty"),
    "malformed prompt file": (
        lambda tmp: ["prompts.train=" + write(tmp / "p.jsonl", '{"prompt": "a"}\n{oops\n')],
        3,
        "p.jsonl:2: not valid JSON",
    ),
    "duplicate principle": (lambda tmp: ["constitution=" + write(tmp / "c.yaml", CONSTITUTION)], 3, "c.yaml:7"),
    "judge endpoint is down": (
        lambda tmp: ["judge.base_url=http://127.0.0.1:9/v1", "judge.model=x"],
        5,
        "no server answers at http://127.0.0.1:9/v1",
    ),
    "policy endpoint is down": (
        lambda tmp: ["policy.base_url=http://127.0.0.1:9/v1", "policy.train_from=data/demo/policy"],
        5,
        "no server answers at http://127.0.0.1:9/v1",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_sentence(name: str, tmp_path: Path, ratify: Callable[..., object]) -> None:
    overrides, code, sentence = CASES[name]
    said = ratify("run", "configs/demo.toml", f"run.dir={tmp_path}/runs", *overrides(tmp_path), "--no-prefect")
    assert said.code == code, said
    assert sentence in said.err
    assert said.err.count("\n") == 1 and "Traceback" not in said.err
    assert not list(tmp_path.glob("runs/*/round-000/*/manifest.json"))


def test_an_unknown_run_names_the_known_ones(ratify: Callable[..., object]) -> None:
    said = ratify("status", "no-such-run")
    assert said.code == 2 and "there is no run 'no-such-run'" in said.err


def test_a_dry_run_prints_the_resolved_configuration_and_does_nothing(
    tmp_path: Path, ratify: Callable[..., object]
) -> None:
    said = ratify("run", "configs/demo.toml", f"run.dir={tmp_path}/runs", "sampling.temperature=0.5", "--dry-run")
    assert json.loads(said.out)["sampling"]["temperature"] == 0.5
    assert not (tmp_path / "runs").exists()
