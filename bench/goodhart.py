"""Over-optimisation with a known truth: does the fitted curve find it, and does it stay silent where nothing turns?

    python -m bench.goodhart [--quick] [--seed 0] [--json PATH]

*Best of n*: proxy and gold are standard normal with correlation ρ, so the gold gain is ρ times the proxy's and there is
no turn (regressional Goodhart). *Tilted*: replies have a length ℓ ~ N(0, 1), the proxy is ℓ, the gold reward is
ℓ − c·ℓ², and the policy is tilted by exp(βℓ). Then ℓ ~ N(β, 1), the KL is β²/2 exactly, and the gold gain is
√2·d − 2c·d² with d = √KL, which turns at d* = √2/(4c). *RL form*: gold d·(α − b·log d) with noise. Counted over many
seeds: how often 95 % intervals hold the truth, and how often a peak is named where there is none within the data.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.best_of_n import best_of_n_frontier, exact_kl, kl_bound
from evaluation.intervals import Resampling, wilson
from evaluation.over_optimisation import Fitted, Form, Points, fit_curve
from ratify.files import write_json

SIZES = (1, 4, 16, 64, 256, 1024)
RHO = 0.6
STEPS = 30
REPLIES = 128
DRAWS = 400


class World(NamedTuple):
    """Runs whose truth is known."""

    name: str
    form: Form
    alpha: float
    beta: float
    peak: float | None
    """d* where it lies within the data."""
    make: Callable[[np.random.Generator], Points]


def tilted(c: float, farthest: float) -> Callable[[np.random.Generator], Points]:
    """Rollout batches of a policy that is tilted further in every step; the KL is exact, the gold reward sampled."""

    def make(rng: np.random.Generator) -> Points:
        tilt = np.linspace(0, farthest * math.sqrt(2), STEPS)
        length = tilt[:, None] + rng.normal(size=(STEPS, REPLIES))
        return Points(tilt**2 / 2, (length - c * length**2).mean(axis=1))

    return make


def drawn(alpha: float, beta: float, farthest: float) -> Callable[[np.random.Generator], Points]:
    """Points on the rl form with the noise of a batch."""

    def make(rng: np.random.Generator) -> Points:
        distance = np.linspace(0, farthest, STEPS)
        gold = distance * (alpha - beta * np.log(np.where(distance > 0, distance, 1.0)))
        return Points(distance**2, gold + rng.normal(0, 1 / math.sqrt(REPLIES), STEPS))

    return make


ROOT2 = math.sqrt(2)
WORLDS = (
    World("tilted, c = 0.2, to d = 3", "best_of_n", ROOT2, 0.4, ROOT2 / 0.8, tilted(0.2, 3.0)),
    World("tilted, c = 0.2, to d = 1.5", "best_of_n", ROOT2, 0.4, None, tilted(0.2, 1.5)),
    World("tilted, c = 0 (no turn)", "best_of_n", ROOT2, 0.0, None, tilted(0.0, 3.0)),
    World("rl form, β = 0.6, to d = 6", "rl", 1.2, 0.6, math.e, drawn(1.2, 0.6, 6.0)),
    World("rl form, β = 0.6, to d = 2", "rl", 1.2, 0.6, None, drawn(1.2, 0.6, 2.0)),
    World("rl form, β = 0 (no turn)", "rl", 0.5, 0.0, None, drawn(0.5, 0.0, 6.0)),
)


def best_of_n(seed: int, prompts: int) -> list[dict[str, float]]:
    """Proxy and gold by n, and how far the KL's formula is off for a policy that knows eight replies."""
    rng = np.random.default_rng(seed)
    proxy = rng.normal(size=(prompts, max(SIZES)))
    gold = RHO * proxy + math.sqrt(1 - RHO**2) * rng.normal(size=proxy.shape)
    found = best_of_n_frontier(proxy, gold, [str(number) for number in range(prompts)], SIZES)
    eight = np.full(8, 1 / 8)
    return [
        {
            "n": one.n, "kl": kl_bound(one.n), "kl_of_eight": exact_kl(eight, np.arange(8, dtype=np.float64), one.n),
            "proxy": one.proxy.value, "gold": one.gold.value, "gold_low": one.gold.low or 0.0,
            "gold_high": one.gold.high or 0.0,
        }
        for one in found
    ]  # fmt: skip


def study(world: World, seeds: Sequence[int]) -> dict[str, Any]:
    """How often the intervals hold the truth, and what is said of the peak."""
    fits = [
        fit_curve(world.make(np.random.default_rng(seed)), world.form, how=Resampling(draws=DRAWS, seed=seed))
        for seed in seeds
    ]
    states = [fitted.peak.state for fitted in fits]
    named = [fitted for fitted in fits if fitted.peak.distance]
    return {
        "world": world.name,
        "runs": len(fits),
        "alpha": _held(fits, lambda fitted: _inside(fitted.alpha, world.alpha)),
        "beta": _held(fits, lambda fitted: _inside(fitted.beta, world.beta)),
        "states": {state: states.count(state) for state in ("identified", "beyond_the_data", "no_turn")},
        "identified": list(wilson(states.count("identified"), len(fits))),
        "peak": world.peak,
        "peak_held": _held(named, lambda fitted: _inside(fitted.peak.distance, world.peak)) if world.peak else None,
        "median_peak": float(np.median([f.peak.distance.value for f in named if f.peak.distance])) if named else None,
    }


def _inside(interval: Any, truth: float | None) -> bool:
    return truth is not None and interval.low <= truth <= interval.high


def _held(fits: Sequence[Fitted], holds: Callable[[Fitted], bool]) -> list[float]:
    """Share with Wilson's interval."""
    if not fits:
        return []
    count = sum(map(holds, fits))
    low, high = wilson(count, len(fits))
    return [count / len(fits), low or 0.0, high or 0.0]


def _share(values: Sequence[float] | None) -> str:
    return f"{values[0]:.1%} ({values[1]:.1%} to {values[2]:.1%})" if values else ""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    rows = best_of_n(given.seed, 60 if given.quick else 600)
    print("| n | KL bound, nats | exact KL, eight replies | proxy | gold | gold / proxy |\n|---|---|---|---|---|---|")
    for row in rows:
        share = f"{row['gold'] / row['proxy']:.3f}" if row["n"] > 1 else ""
        gold = f"{row['gold']:.3f} ({row['gold_low']:.3f} to {row['gold_high']:.3f})"
        print(f"| {row['n']} | {row['kl']:.3f} | {row['kl_of_eight']:.3f} | {row['proxy']:.3f} | {gold} | {share} |")
    runs = range(given.seed * 10_000, given.seed * 10_000 + (40 if given.quick else 400))
    studies = [study(world, runs) for world in WORLDS]
    print("\n| world | α held | β held | peak named | d* | d* held | median d* |\n|---|---|---|---|---|---|---|")
    for found in studies:
        named = _share([found["states"]["identified"] / found["runs"], *found["identified"]])
        truth = f"{found['peak']:.2f}" if found["peak"] else "none within"
        median = f"{found['median_peak']:.2f}" if found["median_peak"] else ""
        print(
            f"| {found['world']} | {_share(found['alpha'])} | {_share(found['beta'])} | {named} | {truth} | "
            f"{_share(found['peak_held'])} | {median} |"
        )
    if given.json:
        write_json(given.json, {"best_of_n": rows, "studies": studies})


if __name__ == "__main__":
    main()
