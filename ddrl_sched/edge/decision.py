"""Whether the arrays of a Decision fit the tasks that it is about: what a world checks before its kernel reads them."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.config import shown
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Tasks

_MASKS = ("select", "probe")  # [R, M, E]
_PER_SERVER = ("share", "price_s")  # [R, M, E]
_PER_TASK = ("use_price_s", "congestion", "unseen_work_factor", "own_work_price", "min_wait_ratio")  # [R, M]
G = TypeVar("G", bound=np.generic)
_KINDS = {"booleans": "b", "numbers": "iuf"}  # of numpy's dtypes


def check_types(decision: Decision) -> None:
    """ValueError naming the field for one that is no word, number or truth value where one is expected."""
    for key in ("choice", "info", "split", "objective", "weight"):
        if not isinstance(getattr(decision, key), str):
            raise ValueError(f"scheduler.{key}: expected a word, got {shown(getattr(decision, key))}")
    if decision.split_info is not None and not isinstance(decision.split_info, str):
        raise ValueError(f"scheduler.split_info: expected a word or None, got {shown(decision.split_info)}")
    if not isinstance(decision.probe_selected, bool | np.bool_):
        raise ValueError(f"scheduler.probe_selected: expected True or False, got {shown(decision.probe_selected)}")
    mean = decision.mean_work_gcycle
    if isinstance(mean, bool) or not isinstance(mean, int | float | np.integer | np.floating):
        raise ValueError(f"scheduler.mean_work_gcycle: expected a number > 0, got {shown(mean)}")


def check_arrays(decision: Decision, tasks: Tasks, lo: Ints, hi: Ints, world: tuple[int, ...]) -> None:
    """ValueError naming the field for an array of a wrong shape or dtype, or with a number that is not finite.

    The window is tasks lo[r]..hi[r]-1 of every replica r; arrays [R, M, ...] count from lo and may be wider than the
    widest window; `world` is (stations B, servers E). Only numbers that belong to valid tasks are looked at. A set
    among `candidates` may not be empty.
    """
    shape = len(lo), int((hi - lo).max(initial=0)), world[1]
    for key in _MASKS:
        _check_form(key, getattr(decision, key), shape, "booleans")
    for key in (*_PER_SERVER, *_PER_TASK):
        array = getattr(decision, key)
        _check_form(key, array, shape if key in _PER_SERVER else shape[:2], "numbers")
        if array is not None and not np.isfinite(array).all():
            wrong = np.logical_not(np.isfinite(array))
            wrong = wrong.any(-1) if key in _PER_SERVER else wrong
            refuse_first(key, wrong, "has a number that is not finite", tasks, lo=lo, hi=hi)
    if decision.candidates is not None:
        _check_candidates(decision.candidates, *world)


def check_given(decision: Decision) -> None:
    """ValueError naming the field where given servers or shares are missing, or stand beside another choice."""
    if decision.choice == "given" and decision.select is None and decision.share is None:
        raise ValueError("scheduler.choice: 'given' needs select, or share")
    if (decision.split == "given") != (decision.share is not None):
        raise ValueError("scheduler.split: 'given' and share go together")
    if decision.split == "given" and decision.choice != "given":
        raise ValueError(f"scheduler.split: 'given' shares need choice 'given', got {decision.choice!r}")


def kernel_array(array: NDArray[np.generic] | None, absent: tuple[int, ...], dtype: type[G]) -> NDArray[G]:
    """The array as a kernel reads it: contiguous, of one dtype; zeros of the shape `absent` where it was not given."""
    return np.zeros(absent, dtype) if array is None else np.ascontiguousarray(array, dtype)


def check_sets(select: Bools, tasks: Tasks, lo: Ints, hi: Ints) -> None:
    """ValueError for a valid task without a server in select [R, M, E]."""
    some: Bools = np.asarray(select.any(-1))
    if not some.all():
        refuse_first("select", ~some, "has no server selected", tasks, lo=lo, hi=hi)


def check_shares(share: Floats, select: Bools | None, tasks: Tasks, lo: Ints, hi: Ints) -> None:
    """ValueError for a valid task whose share [R, M, E] is negative, outside the selection, or no whole in sum."""
    wrong = np.abs(share @ np.ones(share.shape[-1]) - 1.0) > 1e-9
    if (share < 0.0).any():
        wrong |= (share < 0.0).any(-1)
    if select is not None:
        width = min(share.shape[1], select.shape[1])
        outside = (share[:, :width] > 0.0) & ~select[:, :width]
        if outside.any():
            wrong[:, :width] |= outside.any(-1)
    if wrong.any():
        why = "has shares that are not non-negative numbers that sum to one within the selection"
        refuse_first("share", wrong, why, tasks, lo=lo, hi=hi)


def refuse_first(key: str, wrong: Bools, why: str, tasks: Tasks, *, lo: Ints, hi: Ints) -> None:
    """ValueError for the first valid task of the window with wrong [R, M]; nothing if there is none."""
    r, j = np.nonzero(wrong)
    i = lo[r] + j
    r, i = r[i < hi[r]], i[i < hi[r]]
    found = np.flatnonzero(tasks.valid[r, i])
    if len(found):
        raise ValueError(f"scheduler.{key}: task {i[found[0]]} of replica {r[found[0]]} {why}")


def _check_form(key: str, array: object, shape: tuple[int, ...], wanted: str) -> None:
    if array is None:
        return
    if type(array) is not np.ndarray or array.dtype.kind not in _KINDS[wanted]:
        got = array.dtype if type(array) is np.ndarray else type(array).__name__
        raise ValueError(f"scheduler.{key}: expected an array of {wanted}, got {got}")
    if array.ndim != len(shape) or array.shape[::2] != shape[::2] or array.shape[1] < shape[1]:
        raise ValueError(f"scheduler.{key}: expected shape {list(shape)}, got {list(array.shape)}")


def _check_candidates(candidates: Bools, n_stations: int, n_servers: int) -> None:
    shape = (n_stations, 1, n_servers)  # at least one set
    try:
        _check_form("candidates", candidates, shape, "booleans")
    except ValueError as error:
        raise ValueError(str(error).replace(str(list(shape)), f"[{n_stations}, S, {n_servers}]")) from None
    some = candidates.any(-1)
    if not some.all():
        station, row = np.argwhere(~some)[0]
        raise ValueError(f"scheduler.candidates: set {row} of station {station} is empty")
