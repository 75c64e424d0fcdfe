"""The judge's read-out settings: what belongs together, and one sentence for what does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ratify.sections import JudgeSection


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"readout": "score", "protocol": "pairwise"}, "set protocol = 'pointwise'"),
        ({"samples": 3}, "samples is set and readout is 'logprobs', which has no such setting; remove it or choose "
                         "readout = 'samples'"),
        ({"readout": "json", "temperature": 0.5}, "choose readout = 'samples'"),
        ({"readout": "score", "max_text_tokens": 9}, "choose readout = 'reasoning' or readout = 'json' or"),
        ({"readout": "samples", "answer_turn": "turn"}, "choose readout = 'reasoning' or readout = 'score'"),
        ({"readout": "samples", "schema_by": "response_format"}, "choose readout = 'json'"),
        ({"kind": "rules", "readout": "json"}, "kind 'rules' asks no model"),
        ({"max_reasks": 3}, "less than or equal to 2"),
        ({"readout": "samples", "temperature": 0}, "greater than 0"),
        ({"readout": "chat"}, "'logprobs', 'reasoning', 'json', 'samples' or 'score'"),
    ],
)  # fmt: skip
def test_settings_that_do_not_belong_together_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        JudgeSection(**{"model": "m", **settings})


def test_what_is_left_out_has_a_documented_value() -> None:
    section = JudgeSection(model="m")
    assert (section.drawn_samples, section.drawn_temperature, section.text_tokens) == (5, 1.0, 512)
    assert section.schema_form == "response_format" and section.max_reasks == 2
