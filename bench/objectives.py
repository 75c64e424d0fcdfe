"""Which objective makes the demo's policy how good? The same data, prompts and start for all of them.

    python -m bench.objectives [--quick] [--seed 0] [--out FOLDER] [--only NAME …] [--json PATH]

First the demo's own stages: candidates, labels by the judge, reward model, DPO. Then ODPO on the same pairs, PPO on the
reward model (and once longer with a weak pull to the reference, to see what it does to a reward that it is not), RLOO
and GRPO with the judge itself as the reward, and the best of n by the reward model. Each policy answers the held-out
prompts twice; the oracle says what is true of the replies, it rewards nothing. `seconds` are those of training, on
whatever the machine was; for the judge's they include its server's start. A folder that was begun is gone on with.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.policies import HEAD, POLICY, Held, Measured, best_of, figures, heldout, line, measured
from flows.context import RunContext
from flows.stages import FLOWS
from ratify.config import load_config
from ratify.files import write_json

CONFIG = Path("configs/demo.toml")
PER_PROMPT = 2
BEST_OF = (4, 16)
SHARED = ["policy_gradient.enabled=true", "policy_gradient.learning_rate=3e-4", "policy_gradient.batch_prompts=32",
          "policy_gradient.keep_rollouts=true", "policy_gradient.save_every_steps=0"]  # fmt: skip
ALONE = ["reward_model.enabled=false", "preference.enabled=false", "evaluation.policy=policy_gradient"]
QUICK = ["prompts.train_limit=64", "policy_gradient.epochs=1", "preference.epochs=1"]
WHAT: dict[str, list[str]] = {
    "DPO": [],
    "ODPO": ["preference.objective=odpo", "preference.soft_labels=false"],
    "PPO, reward model": ["policy_gradient.epochs=2", "policy_gradient.kl_coefficient=0.1"],
    "PPO, reward model, longer": ["policy_gradient.epochs=6", "policy_gradient.kl_coefficient=0.01"],
    "RLOO, judge": ["policy_gradient.algorithm=rloo", "policy_gradient.epochs=2", "policy_gradient.epochs_per_batch=2",
                    "policy_gradient.kl_coefficient=0.1", 'policy_gradient.rewards=[{kind="judge"}]'],
    "GRPO, judge": ["policy_gradient.algorithm=grpo", "policy_gradient.epochs=2", "policy_gradient.epochs_per_batch=2",
                    "policy_gradient.kl_coefficient=0.05",
                    'policy_gradient.rewards=[{kind="judge", score="probability"}]'],
}  # fmt: skip


class Plan(NamedTuple):
    """What all policies have in common."""

    out: Path
    quick: bool
    seed: int


def train(plan: Plan, name: str, settings: Sequence[str], reward_model: Path | None = None) -> Path:
    """Train one policy as a run of its own; the folder of its weights."""
    folder = name.lower().replace(", ", "-").replace(" ", "-")
    given = [f"run.dir={plan.out}", f"run.name={folder}", f"run.seed={plan.seed}", *settings]
    given += QUICK if plan.quick else []
    gradient = any(setting.startswith("policy_gradient.") for setting in settings)
    if gradient:
        given += [*SHARED, *ALONE]
    if gradient and not any("rewards" in setting for setting in settings):
        given.append(f'policy_gradient.rewards=[{{kind="model", models=["{reward_model}"]}}]')
    context = RunContext(load_config(CONFIG, given))
    context.remember()
    for group in ("train_policy",) if gradient else ("generate_candidates", "label_preferences", "train_policy"):
        FLOWS[group].run(context)
    return context.stage("policy_gradient" if gradient else "policy").path / "model"


def seconds_of(model: Path) -> float:
    """What the stage that made a model took, from its manifest."""
    return float(json.loads((model.parent / "manifest.json").read_text(encoding="utf-8"))["seconds"])


def compare(plan: Plan, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The table's rows by name, each printed and written as soon as it is known."""
    reward_model = (train(plan, "DPO", WHAT["DPO"]).parent.parent / "reward_model" / "model").resolve()
    held = Held(heldout(40 if plan.quick else None), reward_model, plan.seed)
    rows: dict[str, dict[str, Any]] = {}

    def put(name: str, found: Measured, seconds: float | None = None) -> None:
        rows[name] = figures(found, before, held.prompts) | {"seconds": seconds}
        write_json(plan.out / "rows.json", rows)
        print(line(name, rows[name]), flush=True)

    most = max(BEST_OF) * PER_PROMPT
    drawn = measured(plan.out / "measured-before", POLICY, held, most)
    before = best_of(drawn, 1, PER_PROMPT, most)
    print(HEAD, flush=True)
    put("before", before)
    for n in BEST_OF:
        put(f"best of {n}, reward model", best_of(drawn, n, PER_PROMPT, most))
    for name in names:
        model = train(plan, name, WHAT[name], reward_model)
        found = measured(plan.out / f"measured-{model.parts[-4]}", model, held, PER_PROMPT)
        put(name, found, seconds_of(model))
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="64 training and 40 held-out prompts, an epoch each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--only", nargs="*", choices=tuple(WHAT), default=tuple(WHAT))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    started = time.perf_counter()
    rows = compare(Plan(given.out, given.quick, given.seed), given.only)
    print(f"{time.perf_counter() - started:.0f} s")
    if given.json:
        write_json(given.json, rows)


if __name__ == "__main__":
    main()
