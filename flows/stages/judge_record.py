"""Write a run's stored verdicts as a recording, so that the run can be replayed where its judge is not.

It holds the answers to what the label stage asked, and to the gold pairs and probes of a check with its default sizes,
as far as they are stored. Left out: the evaluation's verdicts, whose replies belong to one trained policy.
"""

from __future__ import annotations

from pathlib import Path

from flows.context import RunContext
from flows.stages import generate
from flows.stages.judging import constitution_of, make_judge
from judges.checkup import write_examination
from judges.gold import load_gold
from judges.pairs import draw_pairs
from judges.questions import Pair, verdict_keys, write_questions
from judges.replay_judge import RecordedVerdict, record_abstentions, record_sheet, write_recording
from ratify.errors import InputError
from ratify.types import Prompt

CHECKED_PAIRS = 60
PROBED_PAIRS = 30
"""Sizes of a check, as `ratify judge check` draws them unless told otherwise."""


def record_run(context: RunContext, out: Path) -> int:
    """Write the recording; how many verdicts it has.

    Raises:
        InputError: none is stored.
    """
    constitution, judge = constitution_of(context), make_judge(context)
    principles = {principle.id: principle for principle in constitution.active}
    said: dict[str, RecordedVerdict] = {}
    store = context.verdict_store()
    try:
        for prompts, pairs in (_labelled(context), _checked(context)):
            sheet = write_questions(prompts, pairs, constitution.active, judge)
            recorded = record_sheet(sheet, prompts, principles, store.get(verdict_keys(sheet.questions.values(), {})))
            said |= {each.shown: each for each in recorded}
    finally:
        store.close()
    if not said:
        raise InputError(f"{context.run.path} has no verdicts of this judge yet; label it or check the judge first")
    silent = record_abstentions(each for each in constitution.active if judge.abstains(each))
    write_recording(out, [*silent, *said.values()])
    return len(said)


def _labelled(context: RunContext) -> tuple[dict[str, Prompt], list[Pair]]:
    """What the label stage asks about."""
    config = context.config
    if context.stage(generate.NAME).manifest() is None:
        return {}, []
    prompts = {prompt.id: prompt for prompt in generate.training_prompts(context)}
    completions = generate.training_completions(context)
    return prompts, draw_pairs(completions, config.labels.pairs_per_prompt, config.run.seed).pairs


def _checked(context: RunContext) -> tuple[dict[str, Prompt], list[Pair]]:
    """Canaries, and what a check asks about."""
    settings, seed = context.config.gold, context.config.run.seed
    if settings.path is None:
        return {}, []
    gold = load_gold(settings.path)
    checked = write_examination(gold, CHECKED_PAIRS, PROBED_PAIRS, seed).pairs
    return gold.prompts, [*gold.drawn(settings.canaries, seed).pairs, *checked]
