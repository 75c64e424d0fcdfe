"""The stages of a round as plain functions, and the groups of them that commands and Prefect flows run."""

from __future__ import annotations

from flows.stages.evaluate import EVALUATE
from flows.stages.generate import GENERATE
from flows.stages.label import LABEL
from flows.stages.policy_gradient import TRAIN_POLICY_GRADIENT
from flows.stages.revise import REVISE
from flows.stages.revised import REVISED
from flows.stages.stage import StageGroup
from flows.stages.train import TRAIN_POLICY, TRAIN_REWARD_MODEL, TRAIN_SUPERVISED
from flows.stages.training_data import DATA

FLOWS = {
    "run_round": StageGroup((GENERATE, LABEL, DATA, TRAIN_REWARD_MODEL, TRAIN_POLICY, TRAIN_POLICY_GRADIENT, EVALUATE)),
    "generate_candidates": StageGroup((GENERATE,)),
    "label_preferences": StageGroup((LABEL,)),
    "revise_completions": StageGroup((REVISE, REVISED, TRAIN_SUPERVISED)),
    "train_policy": StageGroup((DATA, TRAIN_REWARD_MODEL, TRAIN_POLICY, TRAIN_POLICY_GRADIENT)),
    "evaluate_policy": StageGroup((EVALUATE,)),
}
"""By the name of the Prefect flow."""
