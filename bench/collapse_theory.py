"""Models of model collapse whose truth is known in closed form: a Gaussian and a linear regression, re-fitted on their
own output.

Gaussian: each generation draws n values from the last fit and fits mean and variance again, on these alone (replace) or
on all values so far (accumulate). Only the sample mean and variance are drawn, which are independent, normal and
chi-squared (Cochran 1934), so many chains are cheap and nothing is approximated. Regression: each generation labels T
inputs by the last fit plus noise (Dohmatob et al. 2024 for replace; Gerstgrasser et al. 2024 for accumulate).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]


class Chains(NamedTuple):
    """Mean and variance of the last generation in every chain."""

    mean: Floats
    variance: Floats


def gaussian_replace(n: int, generations: int, chains: int, *, unbiased: bool, seed: int = 0) -> Chains:
    """Chains that fit each generation to the n values of the last alone, starting from N(0, 1)."""
    generator = np.random.default_rng(seed)
    mean, variance = np.zeros(chains), np.ones(chains)
    for _ in range(generations):
        mean = mean + np.sqrt(variance / n) * generator.normal(size=chains)
        variance = variance * generator.chisquare(n - 1, chains) / (n - 1 if unbiased else n)
    return Chains(mean, variance)


def gaussian_accumulate(n: int, generations: int, chains: int, seed: int = 0) -> Chains:
    """Chains that fit each generation, by maximum likelihood, to the n values of every generation so far."""
    generator = np.random.default_rng(seed)
    mean, variance = np.zeros(chains), np.ones(chains)
    means, squares = np.zeros(chains), np.zeros(chains)
    for generation in range(1, generations + 1):
        drawn = mean + np.sqrt(variance / n) * generator.normal(size=chains)
        means += drawn
        squares += variance * generator.chisquare(n - 1, chains) / n + drawn**2
        mean = means / generation
        variance = squares / generation - mean**2
    return Chains(mean, variance)


def replaced_variance(n: int, generations: int) -> float:
    """E s² after `generations` of maximum likelihood: (1 - 1/n)^t; the mean drifts by what is lost."""
    return (1 - 1 / n) ** generations


def replaced_log_variance(n: int, generations: int) -> float:
    """E log s² with the unbiased estimator: t (digamma((n-1)/2) - log((n-1)/2)), though E s² stays 1."""
    half = (n - 1) / 2
    return generations * float(digamma(half) - math.log(half))


def accumulated_variance(n: int, generations: int) -> float:
    """E s² when everything is kept: the product of 1 - 1/(n k²); its limit is sin(π/√n) / (π/√n)."""
    return math.prod(1 - 1 / (n * k * k) for k in range(1, generations + 1))


def accumulated_limit(n: int) -> float:
    """The variance that is left after infinitely many generations."""
    angle = math.pi / math.sqrt(n)
    return math.sin(angle) / angle


def regression_errors(
    generations: int, runs: int, *, accumulate: bool, fresh: bool, points: int = 60, size: int = 10, seed: int = 0
) -> Floats:
    """Mean test error of each generation over that of the first in theory, shape (generations,).

    Inputs are standard normal, noise has variance 1, so the error is |w - w*|² and the first one's expectation
    d / (T - d - 1). With `fresh`, each generation labels inputs of its own, else the first ones again.
    """
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(runs, points, size))
    weights: NDArray[np.floating] = np.zeros((runs, size))
    errors: list[float] = []
    gram, moment = np.zeros((runs, size, size)), np.zeros((runs, size))
    for generation in range(generations):
        if fresh and generation:
            inputs = generator.normal(size=(runs, points, size))
        labels = (inputs @ weights[..., None])[..., 0] + generator.normal(size=(runs, points))
        if not accumulate:
            gram[:], moment[:] = 0, 0
        turned = inputs.transpose(0, 2, 1)
        gram += turned @ inputs
        moment += (turned @ labels[..., None])[..., 0]
        weights = np.linalg.solve(gram, moment[..., None])[..., 0]
        errors.append(float((weights**2).sum(axis=1).mean()))
    return np.array(errors) * (points - size - 1) / size


def replaced_error(generation: int) -> float:
    """Error over the first generation's when data are replaced: n (Dohmatob et al. 2024)."""
    return float(generation)


def accumulated_error(generation: int) -> float:
    """The same when data accumulate: sum of 1/i², at most π²/6; exact where inputs are used again, else a bound."""
    return sum(1 / (i * i) for i in range(1, generation + 1))
