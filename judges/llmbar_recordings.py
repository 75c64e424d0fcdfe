"""Recorded judge runs of LLMBar (Zeng et al. 2023, arXiv 2310.07641) as prompts, pairs, gold and a recording to replay.

A file `natural_<judge>_<prompt>.json.gz` is a list of instances with `input`, `output_1`, `output_2`, `label` (the
better output) and the judge's winner in both orders, as the authors' evaluator read it; "swap = True" showed output 2
first, and its winner is already named by the outputs' own numbers. The judges gave a choice and no probability: it is
recorded as fixed log-odds. A choice that the authors could not read is a `parse_error`.

Left out: the authors' reference and metric prompts, whose intermediate texts are not verdicts.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from constitutions.schema import Principle
from judges.questions import Pair
from judges.replay_judge import RecordedVerdict, shown_digest
from ratify.errors import InputError
from ratify.types import Completion, Failure, Message, Prompt

HARD_CHOICE = 3.0
"""Log-odds that stand for a choice without a probability (0.95); calibration replaces them by what gold shows."""
SHOWN_SWAPPED = {False: "swap = False", True: "swap = True"}


class LlmbarRun(NamedTuple):
    """One recorded run. Pairs, gold and prompts are in the file's order."""

    prompts: dict[str, Prompt]
    pairs: list[Pair]
    """Output 1 is `a`, output 2 is `b`."""
    gold: list[Literal["a", "b"]]
    recorded: list[RecordedVerdict]


def load_llmbar_run(path: Path, principle: Principle) -> LlmbarRun:
    """Read a recorded run as the verdicts of one judge on one principle.

    Raises:
        InputError: the file cannot be read or is no such run.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            instances = json.load(handle)
        return _run(instances, principle)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path} is no recorded LLMBar run ({type(error).__name__}: {error})") from error


def _run(instances: list[dict[str, Any]], principle: Principle) -> LlmbarRun:
    run = LlmbarRun({}, [], [], [])
    for number, instance in enumerate(instances):
        prompt = Prompt(id=f"llmbar/{number:04d}", messages=(Message(role="user", content=instance["input"]),))
        a, b = (_completion(prompt, index, instance[f"output_{index}"]) for index in (1, 2))
        run.prompts[prompt.id] = prompt
        run.pairs.append((a, b))
        run.gold.append({1: "a", 2: "b"}[instance["label"]])  # type: ignore[arg-type]
        for swapped in (False, True):
            first, second = (b, a) if swapped else (a, b)
            said = instance["results"][-1][SHOWN_SWAPPED[swapped]]
            run.recorded.append(_recorded(shown_digest(principle, prompt, first, second), said, swapped))
    return run


def _completion(prompt: Prompt, index: int, text: str) -> Completion:
    """The file has no token counts, seeds or finish reasons."""
    name = f"{prompt.id}/output/{index}"
    return Completion(
        id=name, prompt_id=prompt.id, text=text, finish_reason="stop", prompt_tokens=0, completion_tokens=0, seed=0
    )


def _recorded(shown: str, said: dict[str, Any], swapped: bool) -> RecordedVerdict:
    raw = said["completion"][0]
    if said["winner"] not in ("1", "2"):
        return RecordedVerdict(shown=shown, failure=Failure.PARSE_ERROR, raw=raw)
    first_won = (said["winner"] == "1") != swapped
    return RecordedVerdict(shown=shown, logit=HARD_CHOICE if first_won else -HARD_CHOICE, raw=raw)
