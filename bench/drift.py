"""How good are the drift alarms? Faults with a known truth, beside what people use instead.

    python -m bench.drift [--quick] [--markdown PATH]

Streams of independent answers; a judge whose labels are flipped, at random, by length and by position, as a step and as
a ramp; prompts into which a second topic is mixed; a policy at lower temperatures; and which alarm sees which fault.
The same seeds give the same figures. `docs/validation_drift.md` holds what it printed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from scipy.special import betaincinv, ndtri
from scipy.stats import binom, kstest

from bench.collapse import figures, generation
from bench.drift_worlds import (
    BEGINS,
    CHECKS,
    GOLD,
    SLICE,
    Bools,
    Fault,
    Floats,
    Stream,
    judged_gold,
    mixed_prompts,
    written_at,
)
from bench.trigram import language
from evaluation.bounds import spent
from evaluation.drift_tests import against_repeats, holm
from evaluation.e_cusum import ARL, e_cusum_path, e_process_path
from evaluation.intervals import wilson
from evaluation.judge_drift import FLOOR as JUDGE_FLOOR
from evaluation.judge_drift import PROMISE
from evaluation.prompt_drift import FLOORS, alarms, featured, prompt_effects

ALPHA = 0.05
SHARES = (0.0, 0.02, 0.05, 0.10, 0.20)
MIXTURES = (0.0, 0.02, 0.05, 0.10, 0.20)
PROMPTS = 350
TEMPERATURES = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
SEEDS = 5
SENTENCES = 400
WORDING_FLOOR = 0.02


class Alarms(NamedTuple):
    """When a detector first alarmed in each run: number of values, 0 for never."""

    at: np.ndarray

    def rate(self, since: int = 0) -> tuple[int, int]:
        """Runs that alarm after value `since`, of those that did not before."""
        quiet = ~((self.at > 0) & (self.at <= since))
        return int(((self.at > since) & quiet).sum()), int(quiet.sum())

    def delay(self, since: int) -> float | None:
        """Median values from `since` to the alarm, among the runs that alarm after it."""
        late = self.at[self.at > since] - since
        return float(np.median(late)) if len(late) else None


def first_at(path: Floats, threshold: float) -> Alarms:
    """When each path first reaches its threshold."""
    reached = path >= threshold
    return Alarms(np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 0))


def z_tests(right: Bools, promised: Floats, every: int = SLICE) -> Alarms:
    """A z-test of each batch against the baseline's rate at one-sided 5 %: what people do."""
    shares = right.reshape(len(right), -1, every).mean(axis=2)
    low = promised[:, None] - float(ndtri(1 - ALPHA)) * np.sqrt(promised * (1 - promised) / every)[:, None]
    return _batches(shares < low, every)


def running_z_tests(right: Bools, promised: Floats, every: int = SLICE) -> Alarms:
    """A two-sided z-test of everything so far after each batch: peeking."""
    n = np.arange(every, right.shape[1] + 1, every)
    shares = right.cumsum(axis=1)[:, every - 1 :: every] / n
    z = np.abs(shares - promised[:, None]) / np.sqrt((promised * (1 - promised))[:, None] / n)
    return _batches(z > float(ndtri(1 - ALPHA / 2)), every)


def cusum(right: Bools, promised: Floats, h: float, drop: float = 0.10) -> Alarms:
    """CUSUM of log-likelihood ratios against a fall by `drop` (Page 1954)."""
    good, bad = promised, np.maximum(promised - drop, 0.01)
    gains = np.where(right, np.log(bad / good)[:, None], np.log((1 - bad) / (1 - good))[:, None])
    held, path = np.zeros(len(right)), np.empty(right.shape)
    for time in range(right.shape[1]):
        held = np.maximum(0.0, held + gains[:, time])
        path[:, time] = held
    return first_at(path, h)


def retests(stream: Stream) -> Alarms:
    """Our exact McNemar test of each slice against the baseline, alpha spent over checks, with its floor."""
    was = np.take_along_axis(stream.baseline, stream.order, 1)
    lost, won = ((was & ~stream.right), (~was & stream.right))
    lost, won = (each.reshape(len(was), -1, SLICE).sum(axis=2) for each in (lost, won))
    p_values = np.minimum(1.0, 2 * binom.cdf(np.minimum(lost, won), lost + won, 0.5))
    levels = np.array([spent(ALPHA, number) for number in range(1, lost.shape[1] + 1)])
    return _batches((p_values <= levels) & (np.abs(won - lost) >= JUDGE_FLOOR * SLICE), SLICE)


def either(one: Alarms, other: Alarms) -> Alarms:
    """Whichever comes first."""
    never = np.iinfo(np.int64).max
    first = np.minimum(np.where(one.at > 0, one.at, never), np.where(other.at > 0, other.at, never))
    return Alarms(np.where(first == never, 0, first))


def judge_detectors(stream: Stream) -> dict[str, Alarms]:
    """Every detector on the same checks; each knows the baseline only."""
    hits = stream.baseline.sum(axis=1)
    plain = hits / GOLD
    least = np.asarray(betaincinv(hits, GOLD - hits + 1, 1 - PROMISE))
    mcnemar, ours = retests(stream), first_at(e_cusum_path(stream.right, least), ARL)
    return {
        "z-test of each check": z_tests(stream.right, plain),
        "z-test of all so far": running_z_tests(stream.right, plain),
        "CUSUM h = 4": cusum(stream.right, plain, 4.0),
        "CUSUM h = log 2000": cusum(stream.right, plain, math.log(ARL)),
        "e-CUSUM": ours,
        "McNemar, spent": mcnemar,
        "ratify drift": either(ours, mcnemar),
    }


def stream_table(runs: int) -> list[str]:
    """Independent answers, 85 % right, known to be so; the fall is at the start."""
    lines = ["| detector | false alarms in 2,000 | 0.80 | 0.75 | 0.65 |", "|---|---|---|---|---|"]
    streams = {p: np.random.default_rng([3, round(100 * p)]).random((runs, 2000)) < p for p in (0.85, 0.80, 0.75, 0.65)}
    known = np.full(runs, 0.85)
    detectors: dict[str, Callable[[Bools], Alarms]] = {
        "z-test of all so far, every 100": partial(running_z_tests, promised=known),
        "z-test of each 100": partial(z_tests, promised=known),
        "CUSUM, textbook h = 4": partial(cusum, promised=known, h=4.0),
        "CUSUM, h = log 2000": partial(cusum, promised=known, h=math.log(ARL)),
        "e-CUSUM, threshold 2000": lambda right: first_at(e_cusum_path(right, 0.85), ARL),
        "e-process, threshold 20": lambda right: first_at(e_process_path(right, 0.85), 20.0),
    }
    for name, detector in detectors.items():
        cells = [_share(*detector(streams[0.85]).rate())]
        for p in (0.80, 0.75, 0.65):
            found = detector(streams[p][:, :600])
            cells.append(f"{found.rate()[0] / runs:.2f} / {_number(found.delay(0))}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def judge_table(runs: int) -> list[str]:
    """Share of runs with an alarm after the fault begins, and the median delay in gold pairs."""
    null = judge_detectors(judged_gold(runs, 0.0, "random", ramp=False))
    names, since = list(null), BEGINS * SLICE
    lines = ["| fault | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    lines.append("| none: false alarms in 20 checks | " + " | ".join(_share(*null[n].rate()) for n in names) + " |")
    for ramp in (False, True):
        for fault in get_args(Fault):
            for share in SHARES[1:]:
                found = judge_detectors(judged_gold(runs, share, fault, ramp))
                cells = [_power(found[name], since) for name in names]
                lines.append(f"| {fault}, {share:.0%}, {'ramp' if ramp else 'step'} | " + " | ".join(cells) + " |")
    return lines


def prompt_table(runs: int) -> tuple[list[str], dict[str, float]]:
    """Alarms by share of a second topic, and Kolmogorov-Smirnov p-values of the null's p-values against uniform."""
    lines = ["| second topic | any | MMD | C2ST | lengths |", "|---|---|---|---|---|"]
    null: dict[str, list[float]] = {name: [] for name in FLOORS}
    for share in MIXTURES:
        counts = dict.fromkeys(["any", *FLOORS], 0)
        for seed in range(runs):
            reference, current = mixed_prompts(share, PROMPTS, seed + 10_000 * round(100 * share))
            effects = prompt_effects(*featured(reference, current), permutations=199, seed=seed)
            said = alarms(effects, ALPHA)
            counts["any"] += any(said)
            for effect, alarm in zip(effects, said, strict=True):
                counts[effect.name] += alarm
                if not share:
                    null[effect.name].append(effect.p_value)
        lines.append(f"| {share:.0%} | " + " | ".join(_share(count, runs) for count in counts.values()) + " |")
    return lines, {name: float(kstest(values, "uniform").pvalue) for name, values in null.items()}


def wording_alarm(repeats: Sequence[Mapping[str, float]], reference: Mapping[str, float]) -> bool:
    """Do five repeats of one policy differ from one text of another? t, Holm, and a floor of 2 %."""
    found = [against_repeats([one[name] for one in repeats], value, ALPHA) for name, value in reference.items()]
    sure = holm([each.p_value for each in found], ALPHA)
    floors = [WORDING_FLOOR * value for value in reference.values()]
    return any(s and abs(each.change) >= floor for s, each, floor in zip(sure, found, floors, strict=True))


def temperature_alarms(temperature: float, runs: int) -> int:
    """Runs in which a policy at a temperature is told from its parent at 1."""
    truth, found = language(), 0
    for seed in range(runs):
        generator = np.random.default_rng([11, seed, round(100 * temperature)])
        parent = figures(written_at(truth, 1.0, SENTENCES, generator))
        repeats = [figures(written_at(truth, temperature, SENTENCES, generator)) for _ in range(SEEDS)]
        found += wording_alarm(repeats, parent)
    return found


def replaced_alarms(runs: int) -> int:
    """Runs in which a policy trained on its parent's text alone is told from its parent."""
    truth, found = language(), 0
    for seed in range(runs):
        generator = np.random.default_rng([12, seed])
        text = generation(truth.write(SENTENCES, generator), generator)
        repeats = [figures(generation(text, generator)) for _ in range(SEEDS)]
        found += wording_alarm(repeats, figures(text))
    return found


def reward_alarms(drop: float, runs: int, validation: int = 176, prompts: int = 294, truth: float = 0.75) -> int:
    """Rounds in which a reward model that lost `drop` of its accuracy is seen, at the demo's sizes."""
    generator = np.random.default_rng([13, round(1000 * drop)])
    hits = generator.binomial(validation, truth, runs)
    least = np.asarray(betaincinv(hits, validation - hits + 1, 1 - PROMISE))
    fresh = generator.random((runs, prompts)) < truth - drop
    return first_at(e_process_path(fresh, least), 1 / ALPHA).rate()[0]


def fault_table(runs: int, seeds: int) -> list[str]:
    """Which alarm sees which fault; what a fault does not touch is its alarm's null rate."""
    judge, prompts = partial(_judge_share, runs), partial(_prompt_share, seeds)

    def reward(drop: float) -> str:
        return _share(reward_alarms(drop, runs), runs)

    def wording(temperature: float) -> str:
        return _share(temperature_alarms(temperature, seeds), seeds)

    nulls = [judge(0.0, "random"), prompts(0.0), reward(0.0), wording(1.0)]
    rows = {
        "none": nulls,
        "judge flips 10 % at random": [judge(0.10, "random"), "·", "·", "·"],
        "judge flips 10 %, by length": [judge(0.10, "length"), "·", "·", "·"],
        "judge flips 10 %, by position": [judge(0.10, "position"), "·", "·", "·"],
        "10 % of prompts on a second topic": ["·", prompts(0.10), "·", "·"],
        "reward model 10 points worse": ["·", "·", reward(0.10), "·"],
        "reward model 20 points worse": ["·", "·", reward(0.20), "·"],
        "policy at temperature 0.8": ["·", "·", "·", wording(0.8)],
        "policy trained on its own text alone": ["·", "·", "·", _share(replaced_alarms(seeds), seeds)],
    }
    lines = ["| fault | judge | prompts | reward model | wording |", "|---|---|---|---|---|"]
    return [*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())]


def _judge_share(runs: int, share: float, fault: Fault) -> str:
    found = judge_detectors(judged_gold(runs, share, fault, ramp=False))["ratify drift"]
    return _share(*found.rate(BEGINS * SLICE if share else 0))


def _prompt_share(runs: int, share: float) -> str:
    found = 0
    for seed in range(runs):
        pair = featured(*mixed_prompts(share, PROMPTS, 500_000 + seed))
        found += any(alarms(prompt_effects(*pair, permutations=199, seed=seed), ALPHA))
    return _share(found, runs)


def _batches(alarmed: Bools, every: int) -> Alarms:
    return Alarms(np.where(alarmed.any(axis=1), (alarmed.argmax(axis=1) + 1) * every, 0))


def _share(count: int, size: int) -> str:
    low, high = wilson(count, size)
    return f"{count / max(1, size):.3f} ({low or 0:.3f} to {high or 1:.3f})"


def _power(found: Alarms, since: int) -> str:
    count, quiet = found.rate(since)
    return f"{count / max(1, quiet):.2f} / {_number(found.delay(since))}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def report(runs: int, seeds: int) -> str:
    """Everything as Markdown tables."""
    lines = [f"Independent answers, {runs:,} streams; power in 600 / median delay", "", *stream_table(runs)]
    lines += ["", f"A judge asked {CHECKS} times about {SLICE} of {GOLD:,} gold pairs, {runs:,} runs", ""]
    lines += judge_table(runs)
    table, uniform = prompt_table(seeds)
    lines += ["", f"{PROMPTS} prompts against {PROMPTS} of the reference, {seeds} runs", "", *table, ""]
    lines += ["Null p-values against uniform: " + ", ".join(f"{name} {p:.2f}" for name, p in uniform.items())]
    lines += ["", f"A policy at a temperature, five repeats against its parent, {seeds} runs", ""]
    lines += ["| temperature | told from its parent |", "|---|---|"]
    lines += [f"| {t:g} | {_share(temperature_alarms(t, seeds), seeds)} |" for t in TEMPERATURES]
    lines += ["", f"Alarm by fault, {runs:,} runs (judge, reward model) or {seeds}", "", *fault_table(runs, seeds)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--markdown", type=Path)
    asked = parser.parse_args()
    text = report(200, 20) if asked.quick else report(1000, 100)
    print(text)
    if asked.markdown:
        asked.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
