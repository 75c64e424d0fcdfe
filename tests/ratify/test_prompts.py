import json
from pathlib import Path

import pytest

from ratify.errors import InputError
from ratify.prompt_file import PromptFile
from ratify.prompts import load_prompts


def write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_text_and_messages_are_both_prompts(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Bye"},
    ]
    path = write(tmp_path, {"prompt": "Hello", "tags": ["greeting"]}, {"id": "m", "messages": turns})
    first, second = load_prompts(path)
    assert first.messages[0].content == "Hello" and first.tags == ("greeting",)
    assert second.id == "m" and len(second.messages) == 3


def test_an_id_is_made_from_the_text(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "Hello"})
    assert load_prompts(path)[0].id == load_prompts(path)[0].id


def test_limit_draws_by_seed_and_keeps_the_order(tmp_path: Path) -> None:
    path = write(tmp_path, *[{"id": f"{n:03}", "prompt": str(n)} for n in range(100)])
    drawn = [prompt.id for prompt in load_prompts(path, limit=10, seed=1)]
    assert drawn == sorted(drawn) and len(drawn) == 10
    assert drawn == [prompt.id for prompt in load_prompts(path, limit=10, seed=1)]
    assert drawn != [prompt.id for prompt in load_prompts(path, limit=10, seed=2)]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{oops", ":2: not valid JSON"),
        ('"text"', ":2: a prompt is a JSON object"),
        ({"promt": "x"}, ":2: unknown field 'promt'"),
        ({"id": "x"}, ":2: give either"),
        ({"messages": [{"role": "robot", "content": "x"}]}, ":2: each message needs a role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, ":2: the last message must be a user's"),
        ({"prompt": " "}, ":2: the last message must be a user's and must not be empty"),
        ({"prompt": "x", "tags": "a"}, ':2: "tags" is a list'),
        ({"prompt": "first"}, "repeats the id (or text)"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, sentence: str) -> None:
    with pytest.raises(InputError) as fault:
        load_prompts(write(tmp_path, {"prompt": "first"}, line))
    assert sentence in str(fault.value) and "prompts.jsonl" in str(fault.value)


def test_empty_missing_and_binary_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        load_prompts(write(tmp_path))
    with pytest.raises(InputError, match="does not exist"):
        load_prompts(tmp_path / "nowhere.jsonl")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_prompts(binary)


def test_a_prompt_file_gives_the_same_prompts_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    separator = json.dumps({"id": "odd", "prompt": "one\u2028two"}, ensure_ascii=False)
    path = write(tmp_path, {"prompt": "Grüße"}, "", {"id": "b", "prompt": "Hi", "tags": ["x"]}, separator)
    by_id = PromptFile(path)
    assert dict(by_id) == {each.id: each for each in load_prompts(path)} and len(by_id) == 3
    assert by_id["odd"].messages[0].content == "one\u2028two"
    with pytest.raises(KeyError):
        by_id["nowhere"]
    monkeypatch.setattr("ratify.prompt_file._mark", lambda _: 7)
    assert dict(PromptFile(path)) == {each.id: each for each in load_prompts(path)}
    monkeypatch.undo()
    (tmp_path / "twice").mkdir()
    with pytest.raises(InputError, match="prompt 2 repeats the id"):
        PromptFile(write(tmp_path / "twice", {"id": "b", "prompt": "Hi"}, {"id": "b", "prompt": "Ho"}))
    path.write_text("\n" + path.read_text())
    with pytest.raises(InputError, match="changed while it was used; run the same command again"):
        by_id["b"]
