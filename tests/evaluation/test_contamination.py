"""Training prompts among evaluation prompts, held against a plain loop over all pairs."""

import random
import re

from evaluation.contamination import find_contamination
from ratify.lineage import ROOT
from ratify.prompts import load_prompts
from ratify.types import Message, Prompt


def prompt(name: str, text: str, system: str = "") -> Prompt:
    turns = [Message(role="system", content=system)] if system else []
    return Prompt(id=name, messages=(*turns, Message(role="user", content=text)))


def runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}


def nearest(text: str, others: list[set[tuple[str, ...]]]) -> float:
    mine = runs(text)
    return max(len(mine & other) / max(1, len(mine | other)) for other in others)


def test_near_prompts_of_the_demo_are_those_of_a_plain_loop() -> None:
    folder = ROOT / "data" / "demo" / "prompts"
    training, heldout = load_prompts(folder / "train.jsonl")[-250:], load_prompts(folder / "heldout.jsonl")
    found = find_contamination(training, heldout, similar=0.65)
    others = [runs(each.messages[-1].content) for each in heldout]
    expected = {each.id for each in training if nearest(each.messages[-1].content, others) >= 0.65}
    assert not found.exact and len(expected) > 10
    assert set(found.near) <= expected, "every candidate is checked on its true sets"
    assert len(found.near) >= len(expected) / 2, "at 0.67 a pair meets in a bucket with probability 0.86: four sd below"
    texts = {each.id: each.messages[-1].content for each in (*training, *heldout)}
    assert all(nearest(texts[one], [runs(texts[other])]) >= 0.65 for one, other in found.near.items())


def test_long_prompts_with_a_few_words_changed_are_found_among_many_alike() -> None:
    dice = random.Random(3)
    vocabulary = [f"w{n}" for n in range(400)]
    evaluation = [" ".join(dice.choices(vocabulary, k=60)) for _ in range(300)]
    near = [re.sub(r"^\w+", "other", text) for text in evaluation[:100]]
    far = [" ".join(dice.choices(vocabulary, k=60)) for _ in range(300)]
    training = [prompt(f"t{n}", text) for n, text in enumerate([*near, *far])]
    found = find_contamination(training, [prompt(f"e{n}", text) for n, text in enumerate(evaluation)])
    assert found.near == {f"t{n}": f"e{n}" for n in range(100)}


def test_equal_prompts_are_found_by_words_and_a_shared_system_prompt_says_nothing() -> None:
    system = "you are a helpful assistant that answers briefly and in plain words " * 3
    training = [prompt("t0", "Hello  THERE", system), prompt("t1", "Where is the harbour of this town?", system)]
    found = find_contamination(training, [prompt("e0", "hello there"), prompt("e1", "What grows in a garden?", system)])
    assert found.exact == {"t0": "e0"} and not found.near


def test_nothing_is_found_in_nothing() -> None:
    assert find_contamination([], [prompt("e", "a b c d")]) == ({}, {})
    assert find_contamination([prompt("t", "a b c d")], []) == ({}, {})
