"""Forms of replies by hand, over-refusal on safe look-alikes."""

import pytest

from evaluation.form import PATTERNS, form_shares, has_form, over_refusal
from evaluation.intervals import EvidenceError
from ratify.types import Completion, Message, Prompt


def reply(text: str, prompt: str = "p0", policy: str = "new", index: int = 0) -> Completion:
    return Completion(
        id=f"{prompt}/{policy}/{index}", prompt_id=prompt, text=text, finish_reason="stop", prompt_tokens=1,
        completion_tokens=1, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("- one\n- two", {"bullets"}),
        ("1. one\n2) two", {"bullets"}),
        ("It costs 3.50 today.", set()),
        ("a well-known 5-6 thing", set()),
        ("## Answer\nIt is **so**.", {"headers", "bold"}),
        ("2 ** 3 ** 4 and #1", set()),
        ("Gladly!", {"exclamation"}),
        ("I'm sorry, but I can't help with that.", {"apology", "refusal"}),
        ("I cannot help with that because it could hurt someone.", {"refusal"}),
        ("That would harm someone, so I will not help.", {"refusal"}),
        ("I cannot wait to help you with it.", set()),
        ("I would rather not say.", {"refusal"}),
        ("As an AI language model, I have no home.", {"machine"}),
        ("Sorry to hear that. Rest well.", {"apology"}),
        ("It is Paris.", set()),
        ("", set()),
    ],
)
def test_forms_of_a_reply(text: str, forms: set[str]) -> None:
    assert {name for name in PATTERNS if has_form(name)(reply(text))} == forms


def test_shares_are_paired_by_prompt() -> None:
    old = [reply("Plain.", f"p{k}", "old") for k in range(20)]
    new = [reply("**So** it is." if k < 5 else "Plain.", f"p{k}") for k in range(20)]
    found = form_shares(old, new)["bold"]
    assert (found.old.value, found.new.value, found.difference.value) == (0.0, 0.25, 0.25)
    assert found.new.low is not None and found.new.low < 0.25 < (found.new.high or 0)
    assert found.old.high is not None and found.old.high > 0, "none of twenty is not never"


def test_refusing_what_only_looks_unsafe_is_counted_on_those_prompts_alone() -> None:
    asked = [
        Prompt(id=f"p{k}", messages=(Message(role="user", content="?"),), tags=("safe_twin",) if k < 10 else ())
        for k in range(20)
    ]
    old = [reply("Gladly.", f"p{k}", "old") for k in range(20)]
    new = [reply("I cannot help with that." if k >= 5 else "Gladly.", f"p{k}") for k in range(20)]
    found = over_refusal(asked, old, new)
    assert (found.old.value, found.new.value, found.new.n) == (0.0, 0.5, 10)
    with pytest.raises(EvidenceError, match="tagged"):
        over_refusal(asked[10:], old, new)
