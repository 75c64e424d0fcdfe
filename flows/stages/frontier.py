"""After a policy gradient that kept its completions: the frontier of reward and KL, as figures and as a page.

The gold reward is the truth of a world that knows it (`evaluation.world`): the share of completions in which nothing is
wrong. Without such a world the page shows the proxy alone and says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.frontier_page import write_frontier_page
from evaluation.reward_frontier import Gold, RewardFrontier, read_steps, reward_frontier
from flows.context import RunContext
from flows.stages.canaries import resampling
from ratify.files import write_text
from ratify.run_store import StageStore
from ratify.types import RolloutRecord
from training.rollout_records import FOLDER

FIGURES = "frontier.json"
PAGE = "frontier.html"


def write_frontier(context: RunContext, stage: StageStore, questions: Mapping[str, str]) -> RewardFrontier:
    """Write both files into the stage's folder; `questions` are the prompts' last turns by id.

    Raises:
        EvidenceError: no completion has a reward.
    """
    section = context.config.policy_gradient
    names = [reward.name.replace("_", " ") for reward in section.rewards] or ["reward model"]
    truth = _demo_truth(questions) if context.config.evaluation.world == "demo" else None
    found = reward_frontier(
        f"{context.config.run.name}, round {context.round_number}: {section.algorithm}",
        read_steps(stage.path / FOLDER),
        proxy=f"reward ({' + '.join(names)})",
        gold="share of completions in which nothing is wrong" if truth else "",
        truth=truth,
        how=resampling(context),
    )
    write_text(stage.path / FIGURES, found.model_dump_json(indent=2) + "\n")
    write_frontier_page(stage.path / PAGE, found)
    return found


def _demo_truth(questions: Mapping[str, str]) -> Gold:
    from demo.oracle import assess

    def truth(row: RolloutRecord) -> float:
        return float(assess(questions[row.prompt_id], row.text).ok)

    return truth
