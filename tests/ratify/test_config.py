from pathlib import Path

import pytest

from ratify.config import load_config, resolved_json
from ratify.errors import ConfigError

MINIMAL = """
constitution = "constitutions/demo.yaml"
[prompts]
train = "train.jsonl"
heldout = "heldout.jsonl"
[policy]
model = "policy"
[judge]
model = "judge"
"""


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(MINIMAL)
    return path


def test_defaults_are_filled_in_and_printed(minimal: Path) -> None:
    config = load_config(minimal)
    assert config.judge.protocol == "pointwise"
    assert '"completions_per_prompt": 4' in resolved_json(config)


def test_override_wins_over_file_and_is_read_as_toml(minimal: Path) -> None:
    config = load_config(
        minimal, ["policy.model=/models/big", "sampling.temperature=0.5", "reward_model.enabled=false"]
    )
    assert (config.policy.model, config.sampling.temperature, config.reward_model.enabled) == (
        "/models/big",
        0.5,
        False,
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sampling.temprature=1", "unknown key 'sampling.temprature'; did you mean 'temperature'?"),
        ("smapling.top_p=1", "unknown key 'smapling'; did you mean 'sampling'?"),
        ("sampling.top_p=2", "sampling.top_p: Input should be less than or equal to 1 (given: 2)"),
        ("policy.model", "is not of the form section.key=value"),
        ("policy.model.x=1", "'model' is a value, not a section"),
        ("run.name=../escape", "run.name"),
        ("policy.base_url=http://x/v1", "set policy.train_from"),
        ("judge.base_url=localhost:8000", "judge.base_url: not an http(s) address"),
        ("judge.price.prompt_per_million=1", "'judge.price.completion_per_million' is missing"),
        ("judge.base_url=http://me:hunter2@x/v1", "judge.base_url: must not carry a key"),
        ("store.url=postgresql+psycopg://me:hunter2@x/db", "store.url: must not carry a password"),
    ],
)
def test_bad_override_is_one_sentence(minimal: Path, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=".") as fault:
        load_config(minimal, [override])
    assert sentence in str(fault.value)
    assert "\n" not in str(fault.value)
    assert "hunter2" not in str(fault.value)


def test_judge_model_needs_a_name(minimal: Path) -> None:
    with pytest.raises(ConfigError, match=r"judge: judge.model is empty"):
        load_config(minimal, ["judge.model="])
    assert load_config(minimal, ["judge.model=", "judge.kind=rules"]).judge.kind == "rules"


def test_missing_and_malformed_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.toml does not exist"):
        load_config(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = 1\nb = = 2\n")
    with pytest.raises(ConfigError, match=r"broken.toml: not valid TOML: .*line 2"):
        load_config(broken)


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.toml")), ids=str)
def test_every_shipped_config_loads(path: Path) -> None:
    assert load_config(path).constitution.exists()


def test_a_price_counts_cached_tokens_at_their_own_rate(minimal: Path) -> None:
    """1,000 prompt tokens of which 400 are cached, 10 written: 600 x 2 + 400 x 0.5 + 10 x 8 = 1,480 millionths."""
    overrides = ["judge.price.prompt_per_million=2", "judge.price.completion_per_million=8"]
    price = load_config(minimal, overrides).judge.price
    assert price is not None and price.currency == "USD"
    assert price.cost(1000, 10, 400) == pytest.approx(2080e-6)
    cached = load_config(minimal, [*overrides, "judge.price.cached_prompt_per_million=0.5"]).judge.price
    assert cached is not None and cached.cost(1000, 10, 400) == pytest.approx(1480e-6)
    assert load_config(minimal).judge.price is None
