"""Statistics beside the mean: interquartile mean over seeds, probability of improvement, performance profile, Holm.

Agarwal et al. 2021 ("Deep reinforcement learning at the edge of the statistical precipice", rliable) for the first
two, Dolan and More 2002 for profiles, Holm 1979 for several comparisons at once.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ddrl_sched.report.statistics import (
    MAX_SEEDS,
    N_RESAMPLES,
    NO_ESTIMATE,
    DelaySums,
    Estimate,
    Floats,
    common_traces,
    resampled_seed_means,
    t_975,
)
from ddrl_sched.seeding import stream

MIN_SEEDS = 4  # of fewer, nothing is cut off, and the interquartile mean is the mean


def trimmed_mean(values: Floats) -> Floats:
    """Mean of the middle half along the last axis: a quarter of the values is cut off at each end (rounded down)."""
    cut = values.shape[-1] // 4
    middle: Floats = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)
    return middle


def interquartile_mean_s(sums: DelaySums) -> Estimate:
    """Mean delay (s) of the middle half of the training seeds (Agarwal et al. 2021, section 4.3); NaN below MIN_SEEDS.

    Interval: value * exp(-+ t se) at n - 1 degrees of freedom of n seeds; se of the log by resampling traces jointly
    and seeds with replacement, times sqrt(n / (n - 1)). None beyond MAX_SEEDS.
    """
    means = sums.delay_s.sum(axis=1) / sums.n_tasks.sum(axis=1)
    n = len(means)
    if n < MIN_SEEDS:
        return NO_ESTIMATE
    value = float(trimmed_mean(means))
    if len(np.unique(sums.cluster)) < 2 or n > MAX_SEEDS:
        return Estimate(value, math.nan, math.nan)
    resampled = resampled_seed_means(sums)
    drawn = stream(0, "report", "interquartile", str(n)).integers(0, resampled.shape[1], (N_RESAMPLES, n))
    log_means = np.log(trimmed_mean(np.take_along_axis(resampled, drawn, axis=1)))
    half = t_975(n - 1) * float(log_means.std()) * math.sqrt(n / (n - 1))
    return Estimate(value, value * math.exp(-half), value * math.exp(half))


def improvement_probability(sums: DelaySums, baseline: DelaySums) -> Estimate:
    """Probability that a seed has less delay than one of the baseline on a trace (Agarwal et al. 2021, section 4.3).

    Mean over common traces and pairs of seeds, ties count half. Interval: Wilson's score (1927) with as many trials as
    have the variance found over clusters and seeds; NaN for one cluster, all NaN beyond MAX_SEEDS.
    """
    sums, baseline = common_traces(sums, baseline)
    if not sums.trace.size or max(len(sums.delay_s), len(baseline.delay_s)) > MAX_SEEDS:
        return NO_ESTIMATE
    ours, theirs = (x.delay_s / x.n_tasks for x in (sums, baseline))
    wins = np.array([(_share(ours[s], theirs)) for s in range(len(ours))])  # [S, U]
    losses = np.array([(_share(theirs[s], ours)) for s in range(len(theirs))])  # of the baseline's seeds
    p, clusters = float(wins.mean()), _cluster_means(wins.mean(axis=0), sums.cluster)
    if len(clusters) < 2:
        return Estimate(p, math.nan, math.nan)
    samples = [clusters, wins.mean(axis=1), losses.mean(axis=1)]
    variance = sum(x.var(ddof=1) / len(x) for x in samples if len(x) > 1)
    trials = p * (1 - p) / variance if variance > 0 and 0 < p < 1 else len(clusters)
    return Estimate(p, *_wilson(p, trials, t_975(len(clusters) - 1)))


def _share(one: Floats, others: Floats) -> Floats:
    """[U] share of the others [S, U] that have more delay than this one [U]."""
    share: Floats = (one < others).mean(axis=0) + 0.5 * (one == others).mean(axis=0)
    return share


def _cluster_means(values: Floats, cluster: np.ndarray) -> Floats:
    _, place = np.unique(cluster, return_inverse=True)
    means: Floats = np.bincount(place, values) / np.bincount(place)
    return means


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    lo, hi = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return max(lo, 0.0), min(hi, 1.0)


def performance_profile(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of worlds and loads in which a scheduler is within a factor of the best (Dolan and More 2002).

    `rows`: of report_rows. Columns scheduler, factor, share: a step at each factor. Of schedulers that were run in all
    of them; one that is overloaded is within no factor there. Empty for fewer than two worlds.
    """
    first = rows.drop_duplicates(["scenario_hash", "scheduler"])
    delays = first.assign(mean_delay_s=first.mean_delay_s.mask(first.state == "overloaded", math.inf)).pivot(
        index="scenario_hash", columns="scheduler", values="mean_delay_s"
    )
    delays = delays.dropna(axis=1)
    found = []
    if len(delays) > 1:
        ratios = delays.div(delays.min(axis=1), axis=0)
        for scheduler in ratios:
            steps = np.sort(ratios[scheduler].to_numpy())
            found += [(scheduler, factor, (steps <= factor).mean()) for factor in np.unique(steps[np.isfinite(steps)])]
    return pd.DataFrame(found, columns=["scheduler", "factor", "share"])


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of several comparisons, of which at most one in twenty errs if 0.05 counts (Holm 1979).

    The least of m is taken times m, the next times m - 1, ..., none below the one before, none above 1. NaN stays NaN
    and does not count.
    """
    adjusted = [math.nan] * len(p_values)
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = highest
    return adjusted
