"""Replay reproduces the author's environments to 1e-9, and refuses every file that is not what it claims to be."""

import io
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl_sched.config import InputError
from ddrl_sched.edge import golden_replay, published
from ddrl_sched.edge.env_settings import SINGLE_RULES
from ddrl_sched.edge.published_kernel import ONE_SERVER
from tests.paths import DATA

GOLDEN = sorted((DATA / "golden").glob("*.npz"))
OUTPUTS = {"make_span_s", "delay_s", "failed", "reward", "queue_gcycle", "slot_work_gcycle", "uplink_s"}


def load(path):
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def inputs(name):
    """The inputs alone of one golden file."""
    path = next(p for p in GOLDEN if p.stem == name)
    return {key: value for key, value in load(path).items() if key not in OUTPUTS}


def replayed(folder, arrays):
    np.savez(folder / "in.npz", **arrays)
    golden_replay.replay(folder / "in.npz", folder / "out.npz")
    return load(folder / "out.npz")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_golden_vectors_are_reproduced(path, tmp_path):
    expected = load(path)
    got = replayed(tmp_path, {key: value for key, value in expected.items() if key not in OUTPUTS})
    assert set(got) == set(expected) & OUTPUTS
    for key, value in got.items():
        assert value.dtype == expected[key].dtype
        np.testing.assert_allclose(value, expected[key], rtol=0.0, atol=1e-9, equal_nan=True, err_msg=key)


def test_every_rule_has_a_golden_vector():
    assert {str(load(path)["rule"]) for path in GOLDEN} == set(published.RULES)


def test_both_names_of_a_split_mean_the_same(tmp_path):
    arrays = inputs("smcoedge_p0.3_cwa")
    for short, long in (("SE", "CWA"), ("HEWA", "HECWA")):
        one = replayed(tmp_path, arrays | {"split": np.array(short)})
        two = replayed(tmp_path, arrays | {"split": np.array(long)})
        np.testing.assert_array_equal(one["make_span_s"], two["make_span_s"])


def test_one_station_by_hand(tmp_path):
    # f = 10, density 1: a task of 5 Mbit takes .5 s, the second waits for it, the third for the 7 Gcycle left of 17
    case = {
        "rule": "amcoedge",
        "split": "CWA",
        "deadline_s": 1.5,
        "capacity_gcps": [10.0],
        "rate_mbps": [100.0],
        "density_gcycle_per_mbit": [1.0, 1.0, 1.0],
        "size_mbit": [[[5.0, 0.0, 12.0]], [[2.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]],
        "selected": np.array([[[1, 0, 1]], [[1, 0, 0]], [[0, 0, 0]]], np.int8)[..., None],
    }
    got = replayed(tmp_path, {key: np.array(value) for key, value in case.items()})
    nan = np.nan
    np.testing.assert_allclose(got["make_span_s"][:, 0], [[0.5, 0, 1.5], [0.9, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(got["reward"][:, 0], [[-0.5, nan, -15.0], [-0.9, nan, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(got["failed"][:, 0], [[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(got["queue_gcycle"][:, 0], [0.0, 7.0, 0.0])
    np.testing.assert_allclose(got["slot_work_gcycle"][:, 0], [17.0, 2.0, 0.0])


@pytest.mark.parametrize("rule", ["drlcoedge", "randcoedge"])
def test_one_station_may_select_itself_as_the_other(rule, tmp_path):
    ones = np.ones((2, 1, 1))
    case = {"rule": rule, "split": "CWA", "deadline_s": 1.0, "capacity_gcps": [10.0], "rate_mbps": [100.0]}
    case |= {"density_gcycle_per_mbit": [1.0], "size_mbit": ones, "selected": np.array([1, 0]).reshape(2, 1, 1, 1)}
    got = replayed(tmp_path, {key: np.array(value) for key, value in case.items()})
    assert got["make_span_s"][0, 0, 0] == pytest.approx(0.1)
    assert got["uplink_s"][0, 0] == pytest.approx(0.01)  # the local share is on the uplink, at the station's own rate


def test_flattening_keeps_the_service_order():
    present = np.zeros((2, 2, 3), bool)
    present[0, 1, [0, 2]] = present[1, 0, 1] = True
    case = golden_replay.Case(
        "amcoedge",
        "cwa",
        1.0,
        np.ones(2),
        np.ones(2),
        np.arange(12.0).reshape(2, 2, 3),
        np.ones((2, 2, 3)),
        np.zeros(3),
        np.zeros((2, 2, 3, 2), bool),
    )
    flat = golden_replay.tasks_of(case, present)
    assert flat.origin[0].tolist() == [1, 1, 0]
    assert flat.index[0].tolist() == [0, 2, 1]
    assert flat.arrive_s[0].tolist() == [0.0, 0.0, 1.0]
    assert flat.input_mbit[0].tolist() == [3.0, 5.0, 7.0]
    np.testing.assert_array_equal(
        golden_replay.dense(flat.input_mbit[0], present, np.nan), np.where(present, case.size_mbit, np.nan)
    )


# What is refused. Each entry: words of the message, key, what stands under the key instead (None: nothing).


def at(key, index, value, name="amcoedge_p0.3_cwa"):
    array = inputs(name)[key].copy()
    array[index] = value
    return array


MULTI_FAULTS = {
    "missing rule": ("rule: missing", "rule", None),
    "missing sizes": ("size_mbit: missing", "size_mbit", None),
    "unknown rule": ("rule: expected one of amcoedge.*got 'amcoedg'", "rule", "amcoedg"),
    "rule is a number": ("rule: expected one word", "rule", 3),
    "two rules": ("rule: expected one word", "rule", ["amcoedge", "optimal"]),
    "unknown split": ("split: expected one of", "split", "cwa"),
    "deadline nan": ("deadline_s: expected finite", "deadline_s", np.nan),
    "deadline 0": ("deadline_s: expected numbers > 0", "deadline_s", 0.0),
    "deadline text": ("deadline_s: expected numbers", "deadline_s", "1.0"),
    "deadline list": ("deadline_s: expected shape", "deadline_s", [1.0, 1.0]),
    "capacity 0": ("capacity_gcps: expected numbers > 0", "capacity_gcps", [0.0, 20, 30, 40, 50]),
    "capacity of 4": ("capacity_gcps: expected shape", "capacity_gcps", [20.0, 30, 40, 50]),
    "complex rates": ("rate_mbps: expected numbers", "rate_mbps", np.ones(5, complex)),
    "bool rates": ("rate_mbps: expected numbers", "rate_mbps", np.ones(5, bool)),
    "inf rate": ("rate_mbps: expected finite", "rate_mbps", [np.inf, 1, 1, 1, 1]),
    "negative density": ("density_gcycle_per_mbit: expected numbers > 0", "density_gcycle_per_mbit", -np.ones(12)),
    "negative size": ("size_mbit: expected numbers >= 0", "size_mbit", at("size_mbit", (0, 0, 0), -1.0)),
    "nan size": ("size_mbit: expected finite", "size_mbit", at("size_mbit", (0, 0, 0), np.nan)),
    "flat sizes": ("size_mbit: expected shape", "size_mbit", np.ones(7)),
    "no slots": ("size_mbit: expected shape", "size_mbit", np.ones((0, 5, 12))),
    "selected 2": ("selected: expected integers in 0..1, got 2", "selected", at("selected", (0, 0, 0, 0), 2)),
    "selected float": ("selected: expected integers", "selected", np.ones((13, 5, 12, 5))),
    "selected short": ("selected: expected shape", "selected", np.ones((13, 5, 12, 4), np.int8)),
    "none selected": (
        "selected: no server is selected at slot 0, station 0, task 0",
        "selected",
        at("selected", (0, 0, 0), 0),
    ),
    "selected without task": (
        "slot 0, station 0, task 1, where there is no task",
        "selected",
        at("selected", (0, 0, 1), 1),
    ),
    "last slot selected": (
        "the last slot holds no decisions",
        "selected",
        at("selected", -1, (inputs("amcoedge_p0.3_cwa")["size_mbit"][-1] > 0)[..., None]),
    ),
    "pickled objects": ("size_mbit: holds pickled objects", "size_mbit", np.array([{}, []], dtype=object)),
    "pickle in an unknown key": ("note: holds pickled objects", "note", np.array([{}], dtype=object)),
}
SINGLE_FAULTS = {
    "server 5": (r"server: expected integers in -1\.\.4, got 5", "server", lambda a: np.where(a == 0, 5, a)),
    "server -2": ("server: expected integers", "server", lambda a: a - 1),
    "no server": ("server: no server is selected", "server", lambda a: np.full_like(a, -1)),
    "server float": ("server: expected integers", "server", lambda a: a.astype(float)),
    "too many tasks": ("n_tasks: expected integers", "n_tasks", lambda a: a + 100),
    "tasks without a size": ("n_tasks: expected size_mbit > 0", "n_tasks", lambda a: np.minimum(a + 1, 12)),
    "no steps": ("steps: expected integers", "steps", np.zeros_like),
    "negative result": ("result_mbit: expected numbers >= 0", "result_mbit", lambda a: -a),
}


def refused(folder, arrays, match):
    np.savez(folder / "in.npz", **arrays)
    with pytest.raises(InputError, match=match) as error:
        golden_replay.replay(folder / "in.npz", folder / "out.npz")
    assert str(folder / "in.npz") in str(error.value)
    assert sorted(p.name for p in folder.iterdir()) == ["in.npz"]


@pytest.mark.parametrize("fault", MULTI_FAULTS)
def test_faulty_multi_server_files_are_refused_by_key(fault, tmp_path):
    match, key, value = MULTI_FAULTS[fault]
    arrays = inputs("amcoedge_p0.3_cwa") | {key: value if value is None else np.array(value)}
    refused(tmp_path, {k: v for k, v in arrays.items() if v is not None}, match)


@pytest.mark.parametrize("fault", SINGLE_FAULTS)
def test_faulty_single_server_files_are_refused_by_key(fault, tmp_path):
    match, key, change = SINGLE_FAULTS[fault]
    arrays = inputs("dedgeai_b5")
    refused(tmp_path, arrays | {key: change(arrays[key])}, match)


def test_what_only_some_rules_allow(tmp_path):
    sets = inputs("amcoedge_p0.3_cwa")
    refused(tmp_path, sets | {"rule": np.array("drlcoedge")}, "selected: drlcoedge selects the own server and at most")
    refused(tmp_path, sets | {"rule": np.array("optimal")}, "selected: .* but optimal decides itself")
    free = inputs("optimal_p0.3_cwa")
    refused(tmp_path, free | {"split": np.array("HECWA")}, "split: 'optimal' compares all sets")
    refused(tmp_path, free | {"rule": np.array("amcoedge")}, "selected: no server is selected")


def bytes_of(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zip_of(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return buffer.getvalue()


CLAIM = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
GOOD = bytes_of(**inputs("optimal_p0.3_cwa"))
NO_NPZ = {
    "empty": b"",
    "text": b"rule: amcoedge\n",
    "a single array": b"\x93NUMPY" + GOOD[:50],
    "truncated": GOOD[: len(GOOD) // 2],
    "no array inside": zip_of("rule.npy", b"hello"),
    "array cut off": zip_of(
        "rule.npy", CLAIM + b"{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }".ljust(118)
    ),
    "claims a terabyte": zip_of(
        "size_mbit.npy",
        CLAIM + b"{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000,), }".ljust(118),
    ),
    "claims a negative length": zip_of(
        "rule.npy", CLAIM + b"{'descr': '<f8', 'fortran_order': False, 'shape': (-9,), }".ljust(118)
    ),
    "header with code": zip_of("rule.npy", CLAIM + b"__import__('os').system('touch /tmp/hit')".ljust(118)),
    "unpacks to too much": zip_of("size_mbit.npy", bytes(golden_replay.MOST_BYTES + 1)),
}


@pytest.mark.parametrize("what", NO_NPZ)
def test_files_that_are_no_npz_are_refused(what, tmp_path):
    (tmp_path / "in.npz").write_bytes(NO_NPZ[what])
    with pytest.raises(InputError, match=r"in\.npz"):
        golden_replay.replay(tmp_path / "in.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_huge_and_missing_files_folders_and_pipes_are_refused_unread(tmp_path):
    with (tmp_path / "huge.npz").open("wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("huge.npz", "pipe.npz", "missing.npz", "."):
        with pytest.raises(InputError):
            golden_replay.replay(tmp_path / name, tmp_path / "out.npz")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_harmless(tmp_path_factory, position, flip):
    folder = tmp_path_factory.mktemp("flip")
    broken = bytearray(GOOD)
    broken[position] ^= flip
    (folder / "in.npz").write_bytes(broken)
    try:
        golden_replay.replay(folder / "in.npz", folder / "out.npz")
    except InputError:
        return
    (folder / "in.npz").write_bytes(GOOD)
    golden_replay.replay(folder / "in.npz", folder / "good.npz")
    for key, value in load(folder / "good.npz").items():
        np.testing.assert_array_equal(load(folder / "out.npz")[key], value)


def test_damaged_archives_are_read_or_refused(tmp_path):
    """Flipped bits where an archive keeps its own structure, at its beginning and end, and files cut short."""
    rng, refused = random.Random(1), 0
    for number in range(1000):
        data = bytearray(GOLDEN[number % len(GOLDEN)].read_bytes())
        for _ in range(rng.choice([1, 1, 3])):
            near = rng.randrange(min(900, len(data)))
            data[rng.choice([near, len(data) - 1 - near])] ^= 1 << rng.randrange(8)
        path = tmp_path / "in.npz"
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
        try:
            golden_replay.read_case(path)
        except InputError:
            refused += 1
    print(f"\n1000 damaged archives, {refused} refused, the rest read")
    assert 0 < refused < 1000


def test_the_output_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "in.npz").write_bytes(GOOD)
    (tmp_path / "out").write_bytes(b"the old result")
    replaced = []

    def fail(source, target):
        replaced.append((Path(source).parent, Path(target), Path(source).stat().st_size > 0))
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            golden_replay.replay(tmp_path / "in.npz", tmp_path / "out")
    assert replaced == [(tmp_path, tmp_path / "out", True)]
    assert (tmp_path / "out").read_bytes() == b"the old result"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npz", "out"]
    golden_replay.replay(tmp_path / "in.npz", tmp_path / "out")
    assert "make_span_s" in load(tmp_path / "out")


# The rules on other sizes, against a second writing of AMCoEdge (C. Xu et al. 2024), in plain Python.


def naive(rule, split, deadline, speed, rate, density, size, selected):
    """Make-spans by the text of the paper's section 4, task by task, with a linear system for CWA."""
    n_slots, n_stations, n_tasks = size.shape
    queue, out = np.zeros(n_stations), np.zeros(size.shape)
    for t in range(n_slots - 1):
        work, uplink = np.zeros(n_stations), np.zeros(n_stations)
        for b in range(n_stations):
            for n in range(n_tasks):
                d = size[t, b, n]
                chosen = np.flatnonzero(selected[t, b, n]).tolist()
                if d == 0.0:
                    continue
                alone, c, w = len(chosen) == 1, [], []
                for s in chosen:
                    pays = s != b or (rule == "drlcoedge" and not alone)
                    wait = (queue[s] + work[s]) / speed[s]
                    wait += uplink[b] if s != b or rule == "drlcoedge" else 0.0
                    c.append(d * density[n] / speed[s] + (d / rate[s] if pays else 0.0))
                    w.append(wait if rule == "amcoedge" else min(wait, deadline))
                x = np.ones(1) if alone else shares(split, np.array(c), np.array(w))
                span = max(x * c + w)
                out[t, b, n] = min(span, deadline)
                for s, share in zip(chosen, x, strict=True):
                    work[s] += share * d * density[n]
                    if s != b or rule in ("drlcoedge", "randcoedge") or (rule == "smcoedge" and not alone):
                        uplink[b] += share * d / rate[s]
                        if rule == "amcoedge" and not alone:
                            uplink[b] = min(uplink[b], 1.0)
        queue = np.maximum(queue + work - speed, 0.0)
    return out


def shares(split, c, w):
    k = len(c)
    if split == "HECWA":
        x = np.array([np.prod(np.delete(c, s)) for s in range(k)])
        return x / x.sum()
    system = np.zeros((k + 1, k + 1))
    system[:k, :k], system[:k, k], system[k, :k] = np.diag(c), -1.0, 1.0
    x = np.maximum(np.linalg.solve(system, np.append(-w, 1.0))[:k], 0.0)
    return x / x.sum()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["amcoedge", "smcoedge", "drlcoedge", "randcoedge"]), st.sampled_from(["CWA", "HECWA"]), st.data()
)
def test_other_sizes_agree_with_the_papers_text(rule, split, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    b, n, t = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 20)), data.draw(st.integers(2, 6))
    slow = data.draw(st.sampled_from([1.0, 100.0]))  # slow links reach the cap of the uplink
    size = rng.uniform(2, 5, (t, b, n)) * (rng.random((t, b, n)) < data.draw(st.floats(0.1, 1.0)))
    selected = rng.random((t, b, n, b)) < 0.5
    if rule in ("drlcoedge", "randcoedge"):
        selected = np.eye(b, dtype=bool)[rng.integers(0, b, (t, b, n))] | np.eye(b, dtype=bool)[:, None]
    selected[..., 0] |= ~selected.any(-1)
    selected &= (size > 0)[..., None]
    selected[-1] = False
    speed, rate, density = rng.uniform(10, 90, b), rng.uniform(400, 500, b) / slow, rng.uniform(0.1, 0.3, n)
    deadline = rng.uniform(0.1, 1.5) * slow
    case = golden_replay.Case(
        rule,
        golden_replay.SPLITS[split],
        deadline,
        speed,
        rate,
        size,
        size * density,
        np.zeros(n),
        selected,
    )
    expected = naive(rule, split, deadline, speed, rate, density, size, selected)
    np.testing.assert_allclose(golden_replay.play(case)["make_span_s"], expected, atol=1e-9)


def test_single_server_rules_are_known_to_the_replay():
    assert {rule for rule, facts in published.RULES.items() if facts.sets == ONE_SERVER} == set(SINGLE_RULES)
