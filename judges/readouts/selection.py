"""Which read-out a judge's section selects, and which template file it shows."""

from __future__ import annotations

from pathlib import Path

from judges.readouts.json_answer import JsonReadout
from judges.readouts.logprobs import LogprobsReadout
from judges.readouts.reading import Readout
from judges.readouts.reasoning import ReasoningReadout
from judges.readouts.samples import SamplesReadout
from judges.readouts.score import ScoreReadout
from ratify.sections import JudgeSection, ReadoutName

SUFFIXES: dict[ReadoutName, str] = {
    "logprobs": "",
    "reasoning": "_reasoning",
    "json": "_json",
    "samples": "_text",
    "score": "_score",
}
"""What follows the protocol in the name of the template file."""


def make_readout(section: JudgeSection, prompts_dir: Path | None = None) -> Readout:
    """The read-out that `judge.readout` names.

    Raises:
        ConfigError: a template that it needs is missing or faulty.
    """
    match section.readout:
        case "logprobs":
            return LogprobsReadout(section)
        case "reasoning":
            return ReasoningReadout(section, prompts_dir)
        case "json":
            return JsonReadout(section)
        case "samples":
            return SamplesReadout(section)
        case "score":
            return ScoreReadout(section)
