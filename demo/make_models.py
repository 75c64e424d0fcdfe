"""Make everything in `data/demo/` from nothing: prompts, reference pairs, policy, judge, gold, figures.

Every step is seeded. On a busy machine a single thread (`OMP_NUM_THREADS=1`) is faster than two that wait for each
other. Run it with `python -m demo.make_models`.
"""

from __future__ import annotations

import json

from demo import measure, models
from demo.make_gold import make_gold
from demo.make_prompts import make_prompts
from demo.make_reference import make_reference
from demo.make_suite import make_suite
from demo.make_twins import make_twins
from demo.train_judge import train_judge
from demo.train_policy import train_policy


def main() -> None:
    """Run all recipes in order."""
    make_prompts(models.FOLDER / "prompts")
    make_reference()
    make_suite()
    make_twins()
    minutes = {"policy": train_policy(models.POLICY)}
    minutes["judge"] = train_judge(models.POLICY, models.JUDGE)
    make_gold()
    figures = measure.measure(models.POLICY, models.JUDGE)
    figures["training_minutes"] = {name: round(value, 1) for name, value in minutes.items()}
    (models.FOLDER / "measured.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
