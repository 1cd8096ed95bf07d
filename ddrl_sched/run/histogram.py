"""Histograms of delays on a logarithmic scale: percentiles of pooled tasks without keeping the tasks.

Bin b holds delays in (GAMMA^(b-1), GAMMA^b] seconds, as in DDSketch (Masson, Rim, Lee 2019). A quantile is read off
by interpolation inside its bin, so it is off by less than the width of a bin, 1 %, and in fine bins by far less.
"""

import numpy as np

from ddrl_sched.edge.types import Floats, Ints
from ddrl_sched.run.metrics import LARGEST_S, SMALLEST_S

GAMMA = 1.01  # ratio of the ends of a bin
_LOG_GAMMA = np.log(GAMMA)


def bins_of(delay_s: Floats) -> Ints:
    """Number of the bin of each delay; delays beyond SMALLEST_S .. LARGEST_S count as these."""
    inside = np.clip(delay_s, SMALLEST_S, LARGEST_S)
    numbers: Ints = np.ceil(np.log(inside) / _LOG_GAMMA).astype(np.int64)
    return numbers


LOWEST_BIN, HIGHEST_BIN = (int(b) for b in bins_of(np.array([SMALLEST_S, LARGEST_S])))


def upper_end_s(bin: Ints) -> Floats:
    """Greatest delay of each bin, s."""
    ends: Floats = np.exp(bin * _LOG_GAMMA)
    return ends


def counts_of(delay_s: Floats) -> tuple[Ints, Ints]:
    """(bins in ascending order, how many delays each holds), of bins that hold some."""
    bins, counts = np.unique(bins_of(delay_s), return_counts=True)
    return bins, counts.astype(np.int64)


def quantile_s(bins: Ints, counts: Floats, q: float) -> float:
    """The delay below which a part q (0 .. 1) of all lies. Bins ascend; counts may be weighted, their sum is not 0."""
    below = np.cumsum(counts)
    target = q * below[-1]
    at = min(int(np.searchsorted(below, target)), len(bins) - 1)
    while counts[at] <= 0:
        at += 1
    inside = (target - (below[at] - counts[at])) / counts[at]
    return float(np.exp((bins[at] - 1 + np.clip(inside, 0.0, 1.0)) * _LOG_GAMMA))
