"""Families by name, and the refusal of kin."""

from __future__ import annotations

import pytest

from judges.families import model_family, require_other_family
from ratify.errors import ConfigError


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
    ],
)
def test_family_of_a_name(name: str, family: str) -> None:
    assert model_family(name) == family


def test_a_judge_of_the_policy_s_family_is_refused() -> None:
    require_other_family("mistralai/Mistral-7B-Instruct-v0.3", "Qwen/Qwen2.5-0.5B")
    with pytest.raises(ConfigError, match=r"of one family \(qwen\)"):
        require_other_family("Qwen/Qwen3-32B", "Qwen/Qwen2.5-0.5B")
