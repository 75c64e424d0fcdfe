"""What do the weights of two rewards buy? RLOO on the demo with the judge's view of two principles, weighed anew.

    python -m bench.pareto [--first helpful] [--second polite] [--weights 0 0.25 0.5 0.75 1] [--epochs 1]
                           [--prompts 350] [--heldout N] [--out FOLDER] [--json PATH]

Each policy is a run of its own whose rewards are two of kind `judge`, one for each principle, weighed w and 1 − w.
Held-out replies are assessed by the oracle; the table says which policies no other one beats in both objectives.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.objectives import Plan, seconds_of, train
from bench.policies import POLICY, sample
from demo.oracle import PROPERTIES, assess
from evaluation.pareto import Candidate, rank
from ratify.files import write_json
from ratify.intervals import Estimate, mean
from ratify.prompts import load_prompts
from ratify.types import Completion, Prompt

PER_PROMPT = 2


def candidate(name: str, model: Path, kl: Estimate, prompts: Sequence[Prompt], wanted: Sequence[str]) -> Candidate:
    """A policy by what is true of its replies."""
    replies = sample(model, prompts, PER_PROMPT, 0)
    return Candidate(name=name, objectives={each: _share(each, replies, prompts) for each in wanted}, kl=kl)


def _share(name: str, replies: Sequence[Completion], prompts: Sequence[Prompt]) -> Estimate:
    questions = {prompt.id: prompt.messages[-1].content for prompt in prompts}
    met = [float(getattr(assess(questions[reply.prompt_id], reply.text), name)) for reply in replies]
    return mean(met, [reply.prompt_id for reply in replies], share=True)


def last_kl(model: Path) -> Estimate:
    """KL of the last rollout batch, by prompts."""
    from evaluation.reward_frontier import read_steps

    rows = read_steps(model.parent / "rollouts")[-1]
    return mean([row.log_ratio for row in rows], [row.prompt_id for row in rows])


def sweep(plan: Plan, given: argparse.Namespace) -> list[dict[str, Any]]:
    """One policy a weight, and the first policy."""
    prompts = load_prompts(Path("data/demo/prompts/heldout.jsonl"), given.heldout, 0)
    wanted = (given.first, given.second)
    nothing = Estimate(value=0.0, n=0, clusters=0, confidence=0.95)
    found, seconds = [candidate("before", POLICY, nothing, prompts, wanted)], [0.0]
    for weight in given.weights:
        rewards = ",".join(
            f'{{kind="judge", name="{name}", principles=["{name}"], weight={share}}}'
            for name, share in zip(wanted, (weight, 1 - weight), strict=True)
        )
        settings = [
            "policy_gradient.algorithm=rloo", f"policy_gradient.epochs={given.epochs}",
            "policy_gradient.epochs_per_batch=2", "policy_gradient.kl_coefficient=0.1",
            f"prompts.train_limit={given.prompts}", f"policy_gradient.rewards=[{rewards}]",
        ]  # fmt: skip
        model = train(plan, f"{given.first} {weight:g}", settings)
        found.append(candidate(f"{given.first} {weight:g}", model, last_kl(model), prompts, wanted))
        seconds.append(seconds_of(model))
    rows = []
    for ranked, took in zip(rank(found), seconds, strict=True):
        rows.append(ranked.model_dump() | {"seconds": took})
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """As a Markdown table."""
    names = list(rows[0]["candidate"]["objectives"])
    print(f"| weight | {' | '.join(f'{name}, %' for name in names)} | KL, nats | frontier | seconds |")
    print("|" + "---|" * (len(names) + 4))
    for row in rows:
        one = row["candidate"]
        cells = [
            f"{100 * value['value']:.1f} ({100 * (value['low'] or 0):.1f} to {100 * (value['high'] or 0):.1f})"
            for value in one["objectives"].values()
        ]
        beaten = ", ".join(row["dominated_by"])
        place = "yes" if not beaten else f"no{'' if row['clearly'] else ', narrowly'}: {beaten}"
        print(f"| {one['name']} | {' | '.join(cells)} | {one['kl']['value']:.2f} | {place} | {row['seconds']:.0f} |")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--first", choices=PROPERTIES, default="helpful")
    parser.add_argument("--second", choices=PROPERTIES, default="polite")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=350)
    parser.add_argument("--heldout", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/pareto"))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    rows = sweep(Plan(given.out, quick=False, seed=0), given)
    show(rows)
    if given.json:
        write_json(given.json, {"rows": rows})


if __name__ == "__main__":
    main()
