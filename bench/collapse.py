"""Do the figures of wording see model collapse, at its first generation, and nothing where there is none?

    python -m bench.collapse [--quick] [--seeds 200] [--markdown PATH]

First the closed forms of `bench.collapse_theory` beside simulation. Then a trigram model trained on text that a trigram
model wrote (`bench.trigram`), under data policies: `replace` (its own text alone), `keep 10 %` (of the first text),
`subsample` (as many sentences as ever from all so far), `accumulate` (all so far), and `null` (fresh text each time,
nothing to find). A generation is rejected when a figure is worse than five models trained on fresh text let expect:
Student's t with four degrees of freedom, Holm over the figures at 5 %, and worse by at least 2 %. The five are trained
anew for each seed, so the rates printed hold for the whole procedure, calibration included.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.special import stdtr

from bench import collapse_theory as theory
from bench.trigram import TYPES, Language, Sentences, fit, language, spelled, write
from evaluation.compression import compression_ratio
from evaluation.intervals import wilson
from evaluation.ngram_figures import counts_of, distinct, entropy

SENTENCES = 400
CALIBRATIONS = 5
LEVEL, FLOOR = 0.05, 0.02
ROUNDS = 6
SHOWN = (1, 2, 4, 8, 12)

Policy = Callable[[Sequence[Sentences], Language, np.random.Generator], Sentences]
"""From all texts so far, the first one real, to the next generation's training text."""


def figures(text: Sentences) -> dict[str, float]:
    """The gated figures of a text, each smaller when the text is poorer."""
    pairs = (text[:, :-1] * (TYPES + 1) + text[:, 1:]).ravel().astype(np.uint64)
    counted, words = counts_of(pairs), counts_of(text.ravel().astype(np.uint64))
    return {
        "distinct words": distinct(words),
        "distinct pairs": distinct(counted),
        "entropy of words": entropy(words),
        "entropy of pairs": entropy(counted),
        "1 / compression ratio": 1 / compression_ratio(" ".join(spelled(text)).encode()),
    }


def _some(texts: Sequence[Sentences], count: int, generator: np.random.Generator) -> Sentences:
    pool = np.concatenate(list(texts))
    return pool[generator.choice(len(pool), count, replace=False)]


def _fresh(texts: Sequence[Sentences], truth: Language, generator: np.random.Generator) -> Sentences:
    return truth.write(len(texts[0]), generator)


def _last(texts: Sequence[Sentences], _truth: Language, _generator: np.random.Generator) -> Sentences:
    return texts[-1]


def _mixed(texts: Sequence[Sentences], _truth: Language, generator: np.random.Generator) -> Sentences:
    real = len(texts[0]) // 10
    parts = [_some(texts[:1], real, generator), _some(texts[-1:], len(texts[0]) - real, generator)]
    return np.concatenate(parts)


def _subsampled(texts: Sequence[Sentences], _truth: Language, generator: np.random.Generator) -> Sentences:
    return _some(texts, len(texts[0]), generator)


def _all(texts: Sequence[Sentences], _truth: Language, _generator: np.random.Generator) -> Sentences:
    return np.concatenate(list(texts))


POLICIES: dict[str, Policy] = {
    "null": _fresh, "replace": _last, "keep 10 %": _mixed, "subsample": _subsampled, "accumulate": _all,
}  # fmt: skip


def generation(text: Sentences, generator: np.random.Generator) -> Sentences:
    """What a model trained on a text writes: as many sentences for every policy."""
    return write(fit(text), SENTENCES, generator)


def worse(found: dict[str, float], calibration: Sequence[dict[str, float]]) -> dict[str, bool]:
    """Which figures are worse than the calibration lets expect, by Holm's procedure, and by at least the floor."""
    p_values, enough = {}, {}
    for name, value in found.items():
        known = np.array([one[name] for one in calibration])
        spread = known.std(ddof=1) * np.sqrt(1 + 1 / len(known))
        p_values[name] = float(stdtr(len(known) - 1, (value - known.mean()) / spread))
        enough[name] = value <= known.mean() * (1 - FLOOR)
    alarms, open_ = dict.fromkeys(found, False), True
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        open_ = open_ and p_values[name] <= LEVEL / (len(p_values) - rank)
        alarms[name] = open_ and enough[name]
    return alarms


def first_generation(truth: Language, seed: int) -> dict[str, dict[str, bool]]:
    """Policy → figure → alarm at generation 1, all from one seed."""
    generator = np.random.default_rng([seed, 1])
    calibration = [figures(generation(truth.write(SENTENCES, generator), generator)) for _ in range(CALIBRATIONS)]
    real = truth.write(SENTENCES, generator)
    texts = [real, generation(real, generator)]
    return {
        name: worse(figures(generation(policy(texts, truth, generator), generator)), calibration)
        for name, policy in POLICIES.items()
    }


def rejection_rates(seeds: int) -> dict[str, dict[str, int]]:
    """Policy → `any` and each figure → seeds of which generation 1 was rejected."""
    truth = language()
    counts: dict[str, dict[str, int]] = {}
    for seed in range(seeds):
        for policy, alarms in first_generation(truth, seed).items():
            row = counts.setdefault(policy, dict.fromkeys(["any", *alarms], 0))
            for name, alarm in {"any": any(alarms.values()), **alarms}.items():
                row[name] += alarm
    return counts


def trajectory(policy: Policy, rounds: int = ROUNDS, seed: int = 0) -> list[dict[str, float]]:
    """Figures by generation under one policy; generation 0 is trained on real text."""
    truth, generator = language(), np.random.default_rng([seed, 2])
    real = truth.write(SENTENCES, generator)
    texts = [real, generation(real, generator)]
    for _ in range(rounds):
        texts.append(generation(policy(texts, truth, generator), generator))
    return [figures(text) for text in texts[1:]]


def gaussian_table(chains: int, generations: int = 20) -> list[tuple[str, float, float]]:
    """Quantity, theory, simulation."""
    rows = []
    for n in (10, 100):
        unbiased = theory.gaussian_replace(n, generations, chains, unbiased=True, seed=n)
        biased = theory.gaussian_replace(n, generations, chains, unbiased=False, seed=n + 1)
        kept = theory.gaussian_accumulate(n, generations, chains, seed=n + 2)
        left, held = theory.replaced_variance(n, generations), theory.accumulated_variance(n, generations)
        log_variance = theory.replaced_log_variance(n, generations)
        rows += [
            (f"replace, unbiased, n = {n}: E mean²", generations / n, float((unbiased.mean**2).mean())),
            (f"replace, unbiased, n = {n}: E variance", 1.0, float(unbiased.variance.mean())),
            (f"replace, unbiased, n = {n}: E log variance", log_variance, float(np.log(unbiased.variance).mean())),
            (f"replace, maximum likelihood, n = {n}: E variance", left, float(biased.variance.mean())),
            (f"replace, maximum likelihood, n = {n}: E mean²", 1 - left, float((biased.mean**2).mean())),
            (f"accumulate, n = {n}: E variance", held, float(kept.variance.mean())),
            (f"accumulate, n = {n}: E mean²", 1 - held, float((kept.mean**2).mean())),
        ]
    return rows


def regression_table(runs: int) -> list[tuple[str, list[float], list[float]]]:
    """Case, theory, simulation at the shown generations."""
    rows = []
    for accumulate, expected in ((False, theory.replaced_error), (True, theory.accumulated_error)):
        for fresh in (False, True):
            found = theory.regression_errors(max(SHOWN), runs, accumulate=accumulate, fresh=fresh)
            name = f"{'accumulate' if accumulate else 'replace'}, {'fresh' if fresh else 'same'} inputs"
            rows.append((name, [expected(n) for n in SHOWN], [float(found[n - 1]) for n in SHOWN]))
    return rows


def report(seeds: int, chains: int, runs: int) -> str:
    """Everything as Markdown tables."""
    lines = [f"Gaussian, 20 generations, {chains:,} chains", "", "| quantity | theory | simulated |", "|---|---|---|"]
    lines += [f"| {name} | {known:.4f} | {found:.4f} |" for name, known, found in gaussian_table(chains)]
    head = " | ".join(f"n = {n}" for n in SHOWN)
    lines += ["", f"Regression, test error over the first generation's, {runs:,} runs", "", f"| case | {head} |"]
    lines += ["|---|" + "---|" * len(SHOWN)]
    for name, known, found in regression_table(runs):
        shown = " | ".join(f"{one:.3f} ({other:.3f})" for one, other in zip(found, known, strict=True))
        lines.append(f"| {name} (theory) | {shown} |")
    counts = rejection_rates(seeds)
    names = list(next(iter(counts.values())))
    lines += ["", f"Rejected at generation 1, share of {seeds} seeds with its 95 % interval", ""]
    lines += ["| data policy | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for policy, row in counts.items():
        lines.append(f"| {policy} | " + " | ".join(_share(row[name], seeds) for name in names) + " |")
    lines += ["", "Distinct pairs (entropy of words) by generation, one run", ""]
    lines += [
        "| data policy | " + " | ".join(str(at) for at in range(ROUNDS + 1)) + " |",
        "|---|" + "---|" * (ROUNDS + 1),
    ]
    for name, data in POLICIES.items():
        cells = [f"{one['distinct pairs']:.3f} ({one['entropy of words']:.2f})" for one in trajectory(data)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _share(count: int, size: int) -> str:
    low, high = wilson(count, size)
    return f"{count / size:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--markdown", type=Path)
    asked = parser.parse_args()
    text = report(20, 40_000, 1000) if asked.quick else report(asked.seeds, 4_000_000, 8000)
    print(text)
    if asked.markdown:
        asked.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
