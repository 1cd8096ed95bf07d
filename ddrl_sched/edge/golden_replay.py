"""Replays one file of published inputs and decisions and writes what the rules make of it.

The format stands in tests/data/golden/README.md.
"""

import io
import lzma
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.config import InputError
from ddrl_sched.edge import published
from ddrl_sched.edge.env_settings import SINGLE_RULES
from ddrl_sched.edge.physics import empty_outcome
from ddrl_sched.edge.published_kernel import LOCAL_AND_ONE
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Scenario, Tasks
from ddrl_sched.saving import write_bytes

SPLITS = {"CWA": "cwa", "HECWA": "hecwa", "SE": "cwa", "HEWA": "hecwa"}
SLOT_S = 1.0
_DAMAGED = (  # what reading a damaged archive raises
    ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, TokenError,
    NotImplementedError, RuntimeError,
)  # fmt: skip
MOST_BYTES = 1 << 28  # of the file, and of its arrays when unpacked


@dataclass(frozen=True)
class Case:
    """One replay: T slots, B stations with a server each, at most N tasks per station and slot."""

    rule: str
    split: str
    deadline_s: float
    speed_gcps: Floats  # [B]
    rate_mbps: Floats  # [B]
    size_mbit: Floats  # [T, B, N], 0 = no task
    work_gcycle: Floats  # [T, B, N]
    result_mbit: Floats  # [N]
    selected: Bools  # [T, B, N, B] decisions, all False where the rule decides itself and in the last slot


def replay(in_path: str | Path, out_path: str | Path) -> None:
    """Read a file of published inputs and decisions, replay it under its rule and write the outputs under their keys.

    Multi-server: make_span_s, failed, reward [T, B, N], queue_gcycle, slot_work_gcycle, uplink_s [T, B]; single-server:
    delay_s [T, B, N], queue_gcycle, slot_work_gcycle [T + 1, B] (rows of slots that were not played are 0). `optimal`
    and `opt_ts` decide themselves. The output appears whole or not at all.

    Raises InputError naming file and key for anything but a well-formed file, OSError if the output cannot be written.
    """
    archive = io.BytesIO()
    np.savez_compressed(archive, **play(read_case(Path(in_path))))  # type: ignore[arg-type]
    write_bytes(out_path, archive.getbuffer())


def play(case: Case) -> dict[str, NDArray[np.generic]]:
    """The outputs of all slots but the last, which holds no decisions."""
    n_slots, n_stations, _ = case.size_mbit.shape
    present = case.size_mbit > 0.0
    present[-1] = False
    tasks, scenario = tasks_of(case, present), scenario_of(case)
    outcome = empty_outcome(tasks, n_stations)
    state = published.initial_state(scenario, 1)
    ends = np.cumsum(present.sum((1, 2)))
    queue, work, uplink = (np.zeros((n_slots + 1, n_stations)) for _ in range(3))
    chosen = case.selected[present][None]
    for t in range(n_slots):
        state = published.advance(scenario, state, tasks, np.array([t * SLOT_S]), outcome)
        lo, hi = ends[t - 1 : t] if t else np.zeros(1, np.int64), ends[t : t + 1]
        decision = _decision(case, chosen[:, int(lo[0]) : int(hi[0])])
        state = published.place(scenario, state, tasks, decision, lo=lo, hi=hi, outcome=outcome)
        queue[t], work[t], uplink[t] = state.queue_gcycle[0], state.slot_work_gcycle[0], state.uplink_s[0]
    if case.rule in SINGLE_RULES:
        delay_s = dense(outcome.delay_s[0], present, np.nan)
        return {"delay_s": delay_s, "queue_gcycle": queue, "slot_work_gcycle": work}
    return {
        "make_span_s": dense(outcome.delay_s[0], present, 0.0),
        "failed": dense(outcome.late[0], present, 0).astype(np.int8),
        "reward": dense(published.reward(scenario, tasks, outcome)[0], present, np.nan),
        "queue_gcycle": queue[:-1],
        "slot_work_gcycle": work[:-1],
        "uplink_s": uplink[:-1],
    }


def scenario_of(case: Case) -> Scenario:
    """Servers and rates of the case, with slots of one second."""
    n = len(case.speed_gcps)
    link_mbps = np.tile(case.rate_mbps, (n, 1))
    if n > 1:
        np.fill_diagonal(link_mbps, np.inf)
    return Scenario(
        name="replay",
        rule=case.rule,
        speed_gcps=case.speed_gcps,
        home=np.arange(n),
        link_mbps=link_mbps,
        link_latency_s=np.zeros((n, n)),
        return_mbps=link_mbps,
        return_latency_s=np.zeros((n, n)),
        port="shared",
        slot_s=SLOT_S,
        announce_s=SLOT_S,
        probe_s=0.0,
        warm_up_s=0.0,
        horizon_s=len(case.size_mbit) * SLOT_S,
    )


def tasks_of(case: Case, present: Bools) -> Tasks:
    """One replica: the tasks of present[T, B, N] in service order (slot, station, index)."""
    slot, station, index = np.nonzero(present)
    n, e = len(slot), len(case.speed_gcps)
    return Tasks(
        origin=station[None],
        index=index[None],
        arrive_s=slot[None].astype(np.float64) * SLOT_S,
        input_mbit=case.size_mbit[present][None],
        result_mbit=case.result_mbit[index][None],
        work_gcycle=case.work_gcycle[present][None],
        overhead_gcycle=np.zeros((1, n)),
        units=np.zeros((1, n), np.int64),
        deadline_s=np.full((1, n), case.deadline_s),
        valid=np.ones((1, n), np.bool_),
        speed_change_s=np.zeros((1, e, 1)),
        speed_factor=np.ones((1, e, 1)),
    )


def dense(values: NDArray[np.generic], present: Bools, fill: float) -> NDArray[np.generic]:
    """Values [n] of the tasks of present[T, B, N], spread to [T, B, N]; `fill` where there is no task."""
    out = np.full(present.shape, fill, dtype=np.result_type(values, type(fill)))
    out[present] = values
    return out


def _decision(case: Case, chosen: Bools) -> Decision:
    if case.rule in ("optimal", "opt_ts"):
        return published.greedy(case.rule)
    return Decision("given", "running", split=case.split, select=chosen)


def read_case(path: Path) -> Case:
    """A checked Case. Raises InputError naming the file and the key."""
    arrays = _Arrays(path)
    rule = arrays.word("rule", tuple(published.RULES))
    if rule in SINGLE_RULES:
        return _read_single(arrays, rule)
    return _read_multi(arrays, rule)


def _read_multi(arrays: "_Arrays", rule: str) -> Case:
    split = SPLITS[arrays.word("split", tuple(SPLITS))]
    size_mbit = arrays.numbers("size_mbit", (None, None, None))
    n_slots, b, n = size_mbit.shape
    density = arrays.numbers("density_gcycle_per_mbit", (n,), positive=True)
    selected = arrays.whole("selected", (n_slots, b, n, b), 0, 1).astype(np.bool_)
    case = Case(
        rule,
        split,
        float(arrays.numbers("deadline_s", (), positive=True)),
        arrays.numbers("capacity_gcps", (b,), positive=True),
        arrays.numbers("rate_mbps", (b,), positive=True),
        size_mbit,
        size_mbit * density,
        np.zeros(n),
        selected,
    )
    if rule == "optimal" and (split != "cwa" or b > published.MOST_SERVERS):
        arrays.refuse("split", f"'optimal' compares all sets of at most {published.MOST_SERVERS} servers by CWA")
    _check_selected(arrays, "selected", case, decides_itself=rule == "optimal")
    return case


def _read_single(arrays: "_Arrays", rule: str) -> Case:
    size_mbit = arrays.numbers("size_mbit", (None, None, None))
    n_slots, b, n = size_mbit.shape
    count = arrays.whole("n_tasks", (n_slots, b), 0, n)
    if np.not_equal(size_mbit > 0.0, np.arange(n) < count[..., None]).any():
        arrays.refuse("n_tasks", "expected size_mbit > 0 for exactly the first n_tasks tasks of a station and slot")
    step_gcycle = arrays.numbers("density_gcycle_per_step", (n,), positive=True)
    steps = arrays.whole("steps", (n,), 1, 1 << 30)
    server = arrays.whole("server", (n_slots, b, n), -1, b - 1)
    case = Case(
        rule,
        "whole",
        np.inf,
        arrays.numbers("capacity_gcps", (b,), positive=True),
        arrays.numbers("rate_mbps", (b,), positive=True),
        size_mbit,
        np.broadcast_to(step_gcycle * steps, size_mbit.shape),
        arrays.numbers("result_mbit", (n,)),
        np.equal(server[..., None], np.arange(b)),
    )
    _check_selected(arrays, "server", case, decides_itself=rule == "opt_ts")
    return case


def _check_selected(arrays: "_Arrays", key: str, case: Case, decides_itself: bool) -> None:
    """A decision for every task of every slot but the last, and nowhere else."""
    present: Bools = np.greater(case.size_mbit, 0.0)
    some: Bools = np.asarray(case.selected.any(-1))
    playable = present.copy()
    playable[-1] = False
    expected = np.zeros_like(playable) if decides_itself else playable
    first = _first(some & ~expected)
    if first and not present[first]:
        arrays.refuse(key, f"a server is selected at {_at(first)}, where there is no task")
    if first and decides_itself:
        arrays.refuse(key, f"a server is selected at {_at(first)}, but {case.rule} decides itself")
    if first:
        arrays.refuse(key, f"a server is selected at {_at(first)}, but the last slot holds no decisions")
    first = _first(expected & ~some)
    if first:
        arrays.refuse(key, f"no server is selected at {_at(first)}, where a task exists")
    if published.RULES[case.rule].sets == LOCAL_AND_ONE:
        local = case.selected & np.eye(present.shape[1], dtype=np.bool_)[:, None]
        first = _first(some & ~(local.any(-1) & (case.selected.sum(-1) <= 2)))
        if first:
            arrays.refuse(key, f"{case.rule} selects the own server and at most one other, not so at {_at(first)}")


def _first(wrong: Bools) -> tuple[int, ...]:
    """Index of the first True of [T, B, N], or ()."""
    found = np.argwhere(wrong)
    return tuple(found[0].tolist()) if len(found) else ()


def _at(index: tuple[int, ...]) -> str:
    return "slot {}, station {}, task {}".format(*index)


class _Arrays:
    """The arrays of an npz file, read one by one and checked; nothing is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes are more than the {MOST_BYTES} that are read")
        self.keys = self._check_members()

    def refuse(self, key: str, why: str) -> None:
        """Raise the InputError of this key."""
        raise InputError(f"{self.path}: {key}: {why}")

    def word(self, key: str, known: tuple[str, ...]) -> str:
        """A scalar text that is one of `known`."""
        array = self._read(key)
        if array.shape != () or array.dtype.kind != "U":
            self.refuse(key, f"expected one word, got {array.dtype} of shape {array.shape}")
        if str(array) not in known:
            self.refuse(key, f"expected one of {', '.join(known)}, got {str(array)!r}")
        return str(array)

    def numbers(self, key: str, shape: tuple[int | None, ...], positive: bool = False) -> Floats:
        """Finite numbers >= 0 (> 0 if `positive`) of this shape; None stands for any length of at least one."""
        array = self._read(key)
        self._check_shape(key, array, shape)
        if array.dtype.kind not in "iuf":
            self.refuse(key, f"expected numbers, got {array.dtype}")
        values = array.astype(np.float64)
        if not np.isfinite(values).all():
            self.refuse(key, "expected finite numbers, got NaN or inf")
        if (values < 0.0).any() or (positive and (values == 0.0).any()):
            self.refuse(key, f"expected numbers {'> 0' if positive else '>= 0'}, got {values.min()}")
        return values

    def whole(self, key: str, shape: tuple[int | None, ...], low: int, high: int) -> Ints:
        """Integers in low..high of this shape."""
        array = self._read(key)
        self._check_shape(key, array, shape)
        if array.dtype.kind not in "iub":
            self.refuse(key, f"expected integers, got {array.dtype}")
        wrong = (array < low) | (array > high)
        if wrong.any():
            self.refuse(key, f"expected integers in {low}..{high}, got {int(array[wrong][0])}")
        return array.astype(np.int64)

    def _check_members(self) -> list[str]:
        """Names of the arrays, after their headers: refuses pickles and what would unpack to too much."""
        try:
            with zipfile.ZipFile(self.path) as file:
                if sum(member.file_size for member in file.infolist()) > MOST_BYTES:
                    raise InputError(f"{self.path}: unpacks to more than the {MOST_BYTES} bytes that are read")
                for name in file.namelist():
                    self._check_header(file, name)
                return [name.removesuffix(".npy") for name in file.namelist()]
        except InputError:
            raise
        except _DAMAGED as error:
            raise InputError(f"{self.path}: not an npz file ({error})") from None

    def _check_header(self, file: zipfile.ZipFile, name: str) -> None:
        key = name.removesuffix(".npy")
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        with file.open(name) as member:
            try:
                shape, _, dtype = readers[np.lib.format.read_magic(member)](member)
            except _DAMAGED as error:
                raise InputError(f"{self.path}: {key}: not a readable array ({error})") from None
        if dtype.hasobject:
            self.refuse(key, "holds pickled objects, which are never read")
        if math.prod(shape) * dtype.itemsize > MOST_BYTES:
            self.refuse(key, f"claims more than the {MOST_BYTES} bytes that are read")

    def _read(self, key: str) -> NDArray[Any]:
        if key not in self.keys:
            self.refuse(key, "missing")
        try:
            with np.load(self.path, allow_pickle=False) as file:
                array: NDArray[Any] = file[key]
        except _DAMAGED as error:
            raise InputError(f"{self.path}: {key}: not a readable array ({error})") from None
        return array

    def _check_shape(self, key: str, array: NDArray[np.generic], shape: tuple[int | None, ...]) -> None:
        fits = array.ndim == len(shape) and all(
            have == want if want is not None else have > 0 for have, want in zip(array.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            self.refuse(key, f"expected shape ({wanted}), got {array.shape}")
