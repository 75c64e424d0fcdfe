"""Families by name, and the refusal of kin."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratify.errors import ConfigError
from ratify.model_family import model_family, require_other_family


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", "qwen"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral"),
        ("mistralai/Mixtral-8x7B", "mistral"),
        ("meta-llama/Llama-3.1-8B", "llama"),
        ("gpt-4o-mini", "gpt"),
        ("o3-mini", "gpt"),
        ("tiiuae/falcon-180B", "falcon"),
        ("models/7b/", "7b"),
        ("my-own-model", "my-own-model"),
        ("", ""),
    ],
)
def test_family_of_a_name(name: str, family: str) -> None:
    assert model_family(name) == family


def test_a_judge_of_the_policy_s_family_is_refused() -> None:
    require_other_family("mistralai/Mistral-7B-Instruct-v0.3", "Qwen/Qwen2.5-0.5B")
    with pytest.raises(ConfigError, match=r"of one family \(qwen\)"):
        require_other_family("Qwen/Qwen3-32B", "Qwen/Qwen2.5-0.5B")


def test_a_folder_s_family_is_what_its_config_states(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gemma2"}')
    assert model_family(str(tmp_path)) == "gemma"
    (tmp_path / "config.json").write_text("rubbish")
    assert model_family(str(tmp_path)) == tmp_path.name.lower()
