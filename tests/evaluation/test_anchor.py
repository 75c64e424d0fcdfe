"""The anchor file: what it gives, and one sentence for each way it can be wrong."""

import pytest

from evaluation.anchor import read_anchor
from ratify.errors import InputError


def test_blank_lines_are_left_out(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("One line.\n\n  \nAnother.\n", encoding="utf-8")
    assert read_anchor(tmp_path / "a.txt") == ["One line.", "Another."]


@pytest.mark.parametrize(("content", "says"), [(None, "does not exist"), (b"\xff\xfe", "UTF-8"), (b" \n", "empty")])
def test_a_bad_file_is_one_sentence(tmp_path, content, says) -> None:
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_anchor(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_anchor(tmp_path)
