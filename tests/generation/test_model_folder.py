"""What is refused before a server is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generation.model_folder import check_model, has_chat_template
from ratify.errors import InputError


def model_in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder


def test_a_whole_folder_and_a_hub_name_pass(tmp_path: Path) -> None:
    check_model(str(model_in(tmp_path)), section="policy")
    check_model("Qwen/Qwen2.5-0.5B-Instruct", section="policy")
    check_model("gpt2", section="policy")


@pytest.mark.parametrize("missing", ["./nowhere", "/no/where", "runs/a/b/policy"])
def test_a_path_that_is_not_there_is_named(missing: str) -> None:
    with pytest.raises(InputError, match=f"judge.model: no model folder {missing}"):
        check_model(missing, section="judge")


def test_one_slash_is_a_path_when_its_first_part_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="no model folder runs/policy"):
        check_model("runs/policy", section="policy")


@pytest.mark.parametrize(
    ("gone", "words"), [("config.json", "config.json is missing"), ("model.safetensors", "no weights")]
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, gone: str, words: str) -> None:
    (model_in(tmp_path) / gone).unlink()
    with pytest.raises(InputError, match=words):
        check_model(str(tmp_path), section="policy")


def test_a_model_without_chat_template_is_refused_unless_the_server_gets_one(tmp_path: Path) -> None:
    (model_in(tmp_path) / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no chat template; put a chat_template\.jinja"):
        check_model(str(tmp_path), section="policy")
    check_model(str(tmp_path), section="policy", template_given=True)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert has_chat_template(tmp_path)
