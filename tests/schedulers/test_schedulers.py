"""The schedulers without learning: every yaml is built, small cases by hand, laws of decisions, known orderings."""

from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated

import numpy as np
import pytest
from pydantic import Field

from ddrl_sched import stopping
from ddrl_sched.config import InputError
from ddrl_sched.edge.session import Traces, earlier_tasks
from ddrl_sched.edge.types import Decision
from ddrl_sched.labels import GYM_AGENT, LEARNED
from ddrl_sched.run.rollout import rollout
from ddrl_sched.schedulers.base import INFO_CLASSES, View
from ddrl_sched.schedulers.server_sets import candidate_sets, externality_s, still_to_come
from ddrl_sched.schedulers.table import build, own_source
from ddrl_sched.seeding import stream
from tests.builders import make_scenario, make_tasks
from tests.conf_files import CONF, names, plain, stated

SPEED_GCPS, RATE_MBPS = [10.0, 20.0, 30.0, 40.0, 50.0], [400.0, 425.0, 450.0, 475.0, 500.0]
MEAN_WORK_GCYCLE = 3.5 * 0.2048
SLOT_TASKS = np.full(6, 0.3)
MANDATORY = {"best_k": {"k": 4}}  # what the yaml leaves to the user


def read(label):
    return plain("scheduler", label)


LABELS = [label for label in names("scheduler") if read(label)["name"] not in (*LEARNED, GYM_AGENT)]
SINGLE = [x for x in LABELS if read(x)["name"] in ("local", "random_server", "round_robin", "weighted_round_robin")]
SINGLE += [x for x in LABELS if read(x)["name"] in ("least_of", "least_of_sample") or x == "best_1"]


def make(label, **changes):
    settings = read(label) | MANDATORY.get(label, {}) | changes
    return build(settings.pop("name"), settings)


def view_of(scenario, tasks, slot_tasks=SLOT_TASKS, drawn_order=True):
    earlier = earlier_tasks(tasks, scenario.n_stations)
    return View(scenario, tasks, None, None, MEAN_WORK_GCYCLE, slot_tasks, drawn_order, None, earlier)


def run(scheduler, scenario, tasks, slot_tasks=SLOT_TASKS, drawn_order=True):
    traces = Traces(scenario, tasks, MEAN_WORK_GCYCLE, slot_tasks, drawn_order)
    return list(rollout(traces, scheduler, stream(0, "policy")))[-1].outcome


def edge5(port="per_link", latency_s=0.001, probe_s=0.0, rule="clean"):
    return make_scenario(SPEED_GCPS, np.tile(RATE_MBPS, (5, 1)), latency_s, port, probe_s=probe_s, rule=rule)


@cache
def poisson(load, n_tasks=3000, overhead_gcycle=0.0, n_replicas=2):
    rng = stream(0, "poisson", load)
    shape = (n_replicas, n_tasks)
    arrive = np.cumsum(rng.exponential(MEAN_WORK_GCYCLE / (load * sum(SPEED_GCPS)), shape), axis=1)
    size, density = rng.uniform(2, 5, shape), rng.uniform(0.1024, 0.3072, shape)
    more = {"work_gcycle": size * density, "overhead_gcycle": overhead_gcycle, "n_servers": 5, "deadline_s": 1.0}
    return make_tasks(arrive, origin=rng.integers(0, 5, shape), input_mbit=size, **more)


@cache
def slotted(n_slots=8):
    """Two replicas of slots with the published Bernoulli tasks, station 0 first."""
    rng = stream(0, "slotted")
    density = rng.uniform(0.1024, 0.3072, len(SLOT_TASKS))
    here = np.nonzero(rng.random((n_slots, 5, len(SLOT_TASKS))) < SLOT_TASKS)
    slot, station, index = (np.tile(x, (2, 1)) for x in here)
    size = rng.uniform(2, 5, slot.shape)
    more = {"work_gcycle": size * density[index], "index": index, "n_servers": 5, "deadline_s": 1.0}
    return make_tasks(slot, origin=station, input_mbit=size, **more)


# ---- the yaml files and the table ------------------------------------------------------------------------------------


def test_the_expected_labels_are_there():
    expected = "random capacity_proportional round_robin wrr_own wrr_quota local split_capacity jsq jsq2 sed_announced "
    expected += (
        "sed_own sed_tracked sed_probed equal_finish equal_finish_own equal_finish_announced optimal eft best_1 "
    )
    expected += "equal_finish_tracked equal_finish_probed best_2 best_3 best_3_running best_k local_plus_best best_set "
    expected += "local_plus_best_running best_set_tracked priced priced_running priced_slotted rand_coedge"
    assert set(expected.split()) <= set(LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_yaml_is_built_and_explains_itself(label):
    scheduler = make(label)
    assert scheduler.info in INFO_CLASSES
    assert scheduler.cadence == "trace"
    if "name" in (knobs := stated("scheduler", label)):  # no family explains its keys
        lines = (CONF / "scheduler" / f"{label}.yaml").read_text(encoding="utf-8").splitlines()
        assert all(lines[lines.index(f"{key}: {value}") - 1].startswith("# ") for key, value in knobs.items())


@dataclass(frozen=True)
class Mine:
    """A scheduler of the user's own."""

    server: Annotated[int, Field(ge=0)]
    info = "static"
    cadence = "trace"

    def decide(self, view, rng):
        select = np.zeros((*view.tasks.shape, view.scenario.n_servers), dtype=bool)
        select[..., self.server] = True
        return Decision("given", "static", select=select)


def test_a_class_of_ones_own_needs_no_line_in_the_table():
    mine = build(f"{__name__}:Mine", {"server": 3})
    outcome = run(mine, edge5(), poisson(0.3, 50))
    assert (outcome.share[..., 3] == 1.0).all()


@dataclass(frozen=True)
class Faulty(Mine):
    """One that goes wrong when it is asked."""

    def decide(self, view, rng):
        if self.server == 9:
            return np.zeros(3)
        return np.zeros((1, 4, 5)) + np.zeros((3, 7))


@dataclass(frozen=True)
class Unasked(Mine):
    """One that is asked at a moment that does not exist."""

    cadence = "tracee"


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        (Faulty(1), rf"ValueError: operands could not .* \({__name__}:Faulty, test_schedulers\.py, line \d+\)"),
        (Faulty(9), rf"scheduler\.name: decide must answer a Decision, got .* \({__name__}:Faulty\)"),
        (Unasked(1), r"scheduler\.cadence: expected one of trace, epoch, arrival, got 'tracee' .*Unasked"),
    ],
)
def test_what_goes_wrong_in_a_class_of_ones_own_is_told_with_its_place(mine, message):
    with pytest.raises(InputError, match=message):
        run(mine, edge5(), poisson(0.3, 50))


@dataclass(frozen=True)
class Writes(Mine):
    """One that writes into what it is shown, after having tried to unlock it."""

    path: str = "tasks.work_gcycle"

    def decide(self, view, rng):
        array = reached(view)[self.path]
        with suppress(ValueError):
            array.setflags(write=True)
        array *= 0.5
        return super().decide(view, rng)


@dataclass(frozen=True)
class Leaves(Mine):
    """One that raises what ends a program."""

    what: str = "SystemExit"
    cadence = "epoch"

    def decide(self, view, rng):
        raise {"SystemExit": SystemExit(0), "KeyboardInterrupt": KeyboardInterrupt(), "GeneratorExit": GeneratorExit()}[
            self.what
        ]


def reached(record, above=""):
    """Every array that can be reached from a record, by its dotted path; what is computed on request too."""
    found = {}
    names = list(record._fields) if isinstance(record, tuple) else [f.name for f in fields(record)]
    names += [name for name, value in vars(type(record)).items() if isinstance(value, property)]
    for name in names:
        value = getattr(record, name)
        if isinstance(value, np.ndarray):
            found[f"{above}{name}"] = value
        elif is_dataclass(value) or hasattr(value, "_fields"):
            found |= reached(value, f"{above}{name}.")
    return found


@pytest.mark.parametrize("cadence", ["trace", "epoch", "arrival"])
@pytest.mark.parametrize("rule", ["clean", "amcoedge"])
def test_no_array_that_a_view_leads_to_can_be_written(cadence, rule):
    views = []

    class Looks(Mine):
        rate_memory_s = 10.0
        info = "tracked"

        def decide(self, view, rng):
            views.append(view)
            return super().decide(view, rng)

    Looks.cadence = cadence
    scenario = edge5(rule=rule) if rule == "clean" else edge5("shared", 0.0, rule=rule)
    tasks = poisson(0.3, 30) if rule == "clean" else slotted()
    run(Looks(1), scenario, tasks)
    arrays = reached(views[-1])
    for path in ("scenario.speed_gcps", "scenario.link_mbps", "tasks.work_gcycle", "tasks.speed_factor", "own_rate"):
        assert path in arrays
    assert ("wait_s" in arrays) == (cadence != "trace")
    made_for_it = {"local", "work_s", "send_s", "scenario.own_server"}  # new ones at every request
    for path, array in arrays.items():
        if path in made_for_it:
            continue
        assert not array.flags.writeable, path
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.setflags(write=True)


@pytest.mark.parametrize("path", ["tasks.work_gcycle", "scenario.speed_gcps", "tasks.arrive_s"])
def test_a_rule_that_writes_into_the_world_is_refused_with_its_line(path):
    scenario, tasks = edge5(), poisson(0.3, 50)
    before = tasks.work_gcycle.copy(), scenario.speed_gcps.copy()
    with pytest.raises(InputError, match=rf"output array is read-only \({__name__}:Writes, test_schedulers\.py, line"):
        run(Writes(1, path), scenario, tasks)
    assert (tasks.work_gcycle == before[0]).all()
    assert (scenario.speed_gcps == before[1]).all()


@pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_a_rule_that_wants_to_end_the_program_fails_alone(what):
    with pytest.raises(InputError, match=rf"^{what}: .*\({__name__}:Leaves, test_schedulers\.py, line \d+\)"):
        run(Leaves(1, what), edge5(), poisson(0.3, 50))


def test_a_signal_that_comes_while_a_rule_decides_still_ends_the_program():
    class Stopping(Mine):
        def decide(self, view, rng):
            raise stopping.Stopped(130)

    with pytest.raises(stopping.Stopped):
        run(Stopping(1), edge5(), poisson(0.3, 50))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rate_memory_s", "long", r"scheduler\.rate_memory_s: expected seconds > 0, got 'long'"),
        ("rate_memory_s", -1.0, r"scheduler\.rate_memory_s: expected seconds > 0, got -1"),
        ("choose_info", "all", r"scheduler\.choose_info: expected one of static, .*, got 'all'"),
        ("info", property(lambda self: 1 / 0), r"ZeroDivisionError: .*test_schedulers\.py"),
    ],
)
def test_what_a_rule_says_of_itself_is_checked(name, value, message):
    with pytest.raises(InputError, match=message):
        run(type("Odd", (Mine,), {name: value, "__module__": __name__})(1), edge5(), poisson(0.3, 50))


def test_a_mistake_of_a_built_in_scheduler_is_ours(monkeypatch):
    def broken(self, view, rng):
        raise ValueError("boom")

    local = make("local")
    monkeypatch.setattr(type(local), "decide", broken)
    with pytest.raises(ValueError, match=r"^boom$") as raised:
        run(local, edge5(), poisson(0.3, 50))
    assert not isinstance(raised.value, InputError)


def test_the_place_is_that_in_ones_own_file(tmp_path, monkeypatch):
    """Even where the error arises in what it calls."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "from dataclasses import dataclass\nfrom ddrl_sched.config import near\n\n@dataclass(frozen=True)\nclass X:\n"
    )
    text += "    info = 'static'\n    cadence = 'trace'\n    def decide(self, view, rng):\n        return near(1, 2)\n"
    (tmp_path / "wrong_call.py").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"TypeError: .* \(wrong_call:X, wrong_call\.py, line 9\)$"):
        run(build("wrong_call:X", {}), edge5(), poisson(0.3, 50))
    text = text.replace("    info = 'static'\n", "    sets: list = []\n")
    (tmp_path / "wrong_field.py").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"mutable default .* \(wrong_field\.py, line 4\)$"):
        build("wrong_field:X", {})
    (tmp_path / "nul.py").write_bytes(b"x = 1\0")
    with pytest.raises(InputError, match=r"cannot import 'nul:X': .*null bytes$"):
        build("nul:X", {})


def test_a_module_that_cannot_be_read_is_told_with_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_written.py").write_text("x = 1\ndef f(:\n", encoding="utf-8")
    (tmp_path / "breaks.py").write_text("x = 1\ny = x / 0\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot import 'half_written:X': .*half_written\.py, line 2"):
        build("half_written:X", {})
    with pytest.raises(InputError, match=r"cannot import 'breaks:X': ZeroDivisionError: .*breaks\.py, line 2"):
        build("breaks:X", {})
    (tmp_path / "ends.py").write_text("x = 1\nraise SystemExit(0)\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot import 'ends:X': SystemExit: 0 .*ends\.py, line 2"):
        build("ends:X", {})
    (tmp_path / "around").mkdir()
    (tmp_path / "around" / "__init__.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot import 'around.inside:X': SystemExit: 0"):
        own_source("around.inside:X")


def test_what_making_a_class_of_ones_own_raises_is_told_with_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = "from dataclasses import dataclass\n@dataclass\nclass X:\n    n: int\n    def __post_init__(self):\n"
    text += "        raise SystemExit(3)\n    def decide(self, view, rng): ...\n"
    (tmp_path / "made.py").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"SystemExit: 3 \(made:X, made\.py, line 6\)"):
        build("made:X", {"n": 1})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ddrl_sched.schedulers.table:bild", {}, r"has no 'bild'; did you mean 'build'"),
        ("best_sett", {}, r"scheduler\.name: unknown scheduler 'best_sett'; did you mean 'best_set'"),
        ("no_such_module:X", {}, r"scheduler\.name: cannot import"),
        ("ddrl_sched.schedulers.table:build", {}, r"is not a dataclass with a method `decide`"),
        ("least_of", {"objective": "finish"}, r"scheduler\.info: is missing"),
        ("least_of", {"objective": "finish", "info": "runing"}, r"scheduler\.info: must be .*did you mean 'running'"),
        ("local", {"k": 1}, r"scheduler\.k: unknown key"),
        ("least_of_sample", {"objective": "wait", "sample": 0}, r"scheduler\.sample: must be >= 1, got 0"),
        ("least_of_sample", {"objective": "wait", "sample": 2.0}, r"scheduler\.sample: must be a whole number"),
        ("priced_slotted", {"split": "cwa", "info": "own", "price": np.nan}, r"scheduler\.price: must be a finite"),
    ],
)
def test_wrong_settings_are_named(name, settings, message):
    with pytest.raises(InputError, match=message):
        build(name, settings)


@pytest.mark.parametrize(
    ("label", "changes", "message"),
    [
        ("best_3", {"k": 6}, r"scheduler\.k: exactly_k needs a k of 1 to 5"),
        ("best_3", {"k": None}, r"scheduler\.k: exactly_k needs"),
        ("best_set", {"k": 2}, r"scheduler\.k: only actions: exactly_k takes a number"),
        ("jsq2", {"sample": 6}, r"scheduler\.sample: at most 5"),
    ],
)
def test_settings_that_do_not_fit_the_world_are_named(label, changes, message):
    with pytest.raises(InputError, match=message):
        make(label, **changes).decide(view_of(edge5(), poisson(0.3, 5)), stream(0))


def test_priced_slotted_refuses_a_workload_without_slots():
    with pytest.raises(InputError, match="priced_slotted needs a slotted workload"):
        run(make("priced_slotted"), edge5(), poisson(0.3, 5), slot_tasks=None)


def test_many_servers_compare_prefixes_instead_of_all_sets():
    assert candidate_sets("any_subset", make_scenario([1.0] * 12), None).shape == (12, 4095, 12)
    assert candidate_sets("any_subset", make_scenario([1.0] * 13), None) is None
    assert candidate_sets("exactly_k", make_scenario([1.0] * 25), 3).shape == (25, 2300, 25)  # karen
    with pytest.raises(InputError, match=r"scheduler\.k: 4 of 20 servers make 4845 sets, at most 2300"):
        candidate_sets("exactly_k", make_scenario([1.0] * 20), 4)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_round_robin_begins_at_home_and_counts_for_each_station_alone():
    tasks = make_tasks([0.0, 1.0, 2.0, 3.0, 4.0], origin=[0, 1, 1, 0, 1], n_servers=3)
    select = make("round_robin").decide(view_of(make_scenario([1.0, 1.0, 1.0]), tasks), stream(0)).select
    assert select[0].argmax(-1).tolist() == [0, 1, 2, 1, 0]


def test_weighted_round_robin_by_own_work():
    """Least (placed + 1) / speed, speeds 1 and 2: 1 : 1/2, then the tie 1 : 1 to server 0, then 2 : 1, 2 : 3/2, ..."""
    tasks = make_tasks(np.arange(6.0), origin=0, work_gcycle=1.0, n_servers=2)
    share = run(make("wrr_own"), make_scenario([1.0, 2.0]), tasks).share
    assert share[0].argmax(-1).tolist() == [1, 0, 1, 1, 0, 1]


def test_weighted_round_robin_by_quota():
    """Server 1 (speed 2) announces 20 s of work at 10 s, server 0 none: the next 10 s of both fill them up to 70/3 s.

    So the quotas are 70/3 and 2 x 10/3 Gcycle; unit tasks: 1, 2, 3 in 70/3 are less than 1 in 20/3, 4 are more.
    """
    work = [[60.0, 1.0, 1.0, 1.0, 1.0]]
    tasks = make_tasks([0.0, 10.0, 10.0, 10.0, 10.0], origin=0, work_gcycle=work, n_servers=2)
    share = run(make("wrr_quota"), make_scenario([1.0, 2.0], announce_s=10.0), tasks).share
    assert share[0].argmax(-1).tolist() == [1, 0, 0, 0, 1]


def test_split_capacity_shares_are_speeds():
    tasks = make_tasks([0.0], n_servers=2)
    decision = make("split_capacity").decide(view_of(make_scenario([1.0, 3.0]), tasks), stream(0))
    assert decision.share.tolist() == [[[0.25, 0.75]]]


def test_capacity_proportional_draws_by_speed_and_random_does_not():
    scenario, tasks = make_scenario([1.0, 4.0]), make_tasks(np.arange(4000.0), n_servers=2)
    for label, expected in (("capacity_proportional", 0.8), ("random", 0.5)):
        select = make(label).decide(view_of(scenario, tasks), stream(0, label)).select
        assert abs(select[..., 1].mean() - expected) < 4 * np.sqrt(0.25 / 4000)


def test_jsq_counts_seconds_that_wait_and_sed_the_task_itself():
    """Server 0 is fast and busy for 1 s, server 1 slow and idle; the task takes 1 s on server 0, 3 s on server 1."""
    scenario = make_scenario([3.0, 1.0], announce_s=0.5)
    tasks = make_tasks([0.0, 0.5], origin=0, work_gcycle=[[4.5, 3.0]], n_servers=2)
    assert run(make("jsq"), scenario, tasks).share[0, 1].tolist() == [0.0, 1.0]
    for label in ("eft", "sed_announced", "sed_tracked", "sed_own", "sed_probed", "best_1"):
        assert run(make(label), scenario, tasks).share[0, 1].tolist() == [1.0, 0.0]


def test_information_decides_who_sees_whose_work():
    """Station 1 filled server 1 after the last announcement; station 0 then sends a task: only some classes know."""
    scenario = make_scenario([1.0, 2.0], announce_s=100.0)
    tasks = make_tasks([1.0, 1.0], origin=[1, 0], work_gcycle=[[20.0, 2.0]], n_servers=2)
    seen = {"eft": True, "sed_probed": True, "sed_tracked": False, "sed_announced": False, "sed_own": False}
    for label, knows in seen.items():
        outcome = run(make(label), scenario, tasks)
        assert outcome.share[0, 0].tolist() == [0.0, 1.0]
        assert outcome.share[0, 1].tolist() == ([1.0, 0.0] if knows else [0.0, 1.0]), label


def test_best_two_takes_the_idle_server():
    """Three equal servers: the first task takes two for 0.5 s, the second {0, 2}: T = 0.75 against 1.0 on {0, 1}."""
    tasks = make_tasks([0.0, 0.0], work_gcycle=1.0, n_servers=3)
    outcome = run(make("best_3_running", k=2), make_scenario([1.0, 1.0, 1.0]), tasks)
    assert outcome.share[0].tolist() == [[0.5, 0.5, 0.0], [0.25, 0.0, 0.75]]
    assert outcome.delay_s[0].tolist() == [0.5, 0.75]


@pytest.mark.parametrize("label", ["best_set", "best_set_tracked", "priced", "priced_running", "optimal"])
def test_thirteen_servers_share_a_task_by_prefixes(label):
    """Equal idle servers without links: all 13 get the same; the price of 13 x kappa x 0 overhead is nothing."""
    outcome = run(make(label), make_scenario(np.ones(13)), make_tasks([0.0], work_gcycle=13.0, n_servers=13))
    assert np.allclose(outcome.share, 1 / 13)
    assert outcome.delay_s[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize(("kappa", "n_used"), [(0.0, 2), (1.0, 2), (1.9, 2), (2.1, 1), (3.0, 1)])
def test_congestion_price_by_hand(kappa, n_used):
    """Overhead 1, work 2, two servers of speed 1: alone 3 s, both 2 s; a used one costs kappa / 2: even at 2."""
    tasks = make_tasks([0.0], work_gcycle=2.0, overhead_gcycle=1.0, n_servers=2)
    for label in ("priced_running", "priced"):
        outcome = run(make(label, congestion=kappa), make_scenario([1.0, 1.0]), tasks)
        assert (outcome.share > 0).sum() == n_used


def test_backlog_raises_the_price_of_a_used_server():
    """Kappa 1, one task of 20 before: a used server costs 1/2 (1 + backlog / mean work)."""
    tasks = make_tasks([0.0, 0.0], work_gcycle=[[20.0, 2.0]], overhead_gcycle=1.0, n_servers=2)
    for mean_work_gcycle, n_used in ((1e9, 2), (1.0, 1)):
        traces = Traces(make_scenario([1.0, 1.0]), tasks, mean_work_gcycle, None, True)
        outcome = list(rollout(traces, make("priced_running"), stream(0)))[-1].outcome
        assert (outcome.share[0] > 0).sum(-1).tolist() == [2, n_used]


def test_rand_coedge_sees_the_backlog_of_the_drawn_server():
    """Station 1 keeps 20 Gcycle; station 0 then gives nothing to server 1 whenever it draws it."""
    tasks = make_tasks(np.repeat([1.0], 9), origin=[1] + 8 * [0], work_gcycle=[[1000.0] + 8 * [2.0]], n_servers=2)
    outcome = run(make("rand_coedge"), make_scenario([1.0, 2.0], announce_s=100.0), tasks)
    assert outcome.probes[0, 1:].tolist().count(1) > 0
    assert outcome.share[0, 1:, 0].tolist() == 8 * [1.0]


def test_probing_sets_choose_by_what_they_know_before_they_ask():
    for label in ("best_3", "local_plus_best", "priced"):
        decision = make(label).decide(view_of(edge5(), poisson(0.3, 5)), stream(0))
        assert (decision.info, decision.split_info, decision.probe_selected) == ("tracked", "probed", True)


def test_only_full_information_counts_the_tasks_of_all_stations():
    """Three tasks of station 0 before the first of station 1: who sees them expects less to come."""
    tasks = make_tasks(np.zeros(4), origin=[0, 0, 0, 1], input_mbit=0.0, work_gcycle=1.0, n_servers=2)
    view = view_of(make_scenario([1.0, 1.0]), tasks, np.array([2.0]))
    price = {x: make("priced_slotted", info=x).decide(view, stream(0)).price_s[0, 3, 0] for x in ("running", "tracked")}
    assert 0 < price["running"] < price["tracked"]


def test_priced_slotted_without_a_price_is_equal_finish():
    scenario = edge5("shared", 0.0)
    free, myopic, priced = (
        run(scheduler, scenario, slotted()).delay_s
        for scheduler in (make("priced_slotted", price=0.0), make("equal_finish"), make("priced_slotted"))
    )
    assert np.allclose(free, myopic, rtol=0.05)
    assert free.mean() == pytest.approx(myopic.mean(), rel=0.01)
    assert not np.allclose(priced, myopic, rtol=0.05)


def test_probes_are_those_of_the_rule():
    """Own servers are never asked. All of 5: 4; the power of two: both or the other one; a set: its other members."""
    tasks = poisson(0.3, 200)
    probes = {label: run(make(label), edge5(), tasks).probes for label in LABELS}
    assert (probes["sed_probed"] == 4).all()
    assert (probes["equal_finish_probed"] == 4).all()
    assert set(probes["jsq2"].ravel()) == {1, 2}
    assert set(probes["best_3"].ravel()) <= {2, 3}
    assert set(probes["local_plus_best"].ravel()) <= {0, 1}
    assert set(probes["rand_coedge"].ravel()) == {0, 1}
    assert all(probes[label].max() == 0 for label in LABELS if make(label).info != "probed")


def test_externality_by_hand():
    """F = 4. Task of station 0: d 6, w 12. Port: N_0 d/R (1 - 1/4) = 2 x 3 x 0.75; servers: N_s w / f_s."""
    tasks = make_tasks([0.0], origin=0, input_mbit=6.0, work_gcycle=12.0, n_servers=2)
    view = view_of(make_scenario([1.0, 3.0], link_mbps=2.0), tasks)
    assert externality_s(view, np.array([[[2.0, 5.0]]])).tolist() == [[[24.0, 4.5 + 20.0]]]


def test_tasks_still_to_come_in_station_order():
    tasks = make_tasks([0.0, 0.0, 0.0], origin=[0, 1, 2], index=[1, 0, 2], n_servers=3)
    view = view_of(make_scenario([1.0, 1.0, 1.0]), tasks, drawn_order=False)
    coming = still_to_come(view, np.array([0.5, 0.25, 0.125]), see_all=True)
    assert coming.tolist() == [[[0.125, 0.875, 0.875], [0.0, 0.375, 0.875], [0.0, 0.0, 0.0]]]


def test_tasks_decided_before_a_task():
    tasks = make_tasks([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], origin=[0, 1, 0, 1, 1, 0], n_servers=2)
    earlier = earlier_tasks(tasks, 2)
    assert earlier.own.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert earlier.own_now.tolist() == [[0, 0, 1, 0, 1, 0]]
    assert earlier.all_now.tolist() == [[0, 1, 2, 0, 1, 2]]


@pytest.mark.parametrize(("see_all", "watched"), [(True, 2), (False, 1)])
def test_tasks_still_to_come_in_drawn_order_against_an_integral(see_all, watched):
    """Given k tasks before, the position u has the density u^k exp(-m u) on (0, 1), m = expected tasks watched."""
    tasks = make_tasks(np.zeros(4), origin=0, n_servers=2)
    coming = still_to_come(view_of(make_scenario([1.0, 1.0]), tasks), np.array([2.0, 1.5]), see_all)
    u = (np.arange(200_000) + 0.5) / 200_000
    for k in range(4):
        density = u**k * np.exp(-3.5 * watched * u)
        expected = 3.5 * (1.0 - (u * density).sum() / density.sum())
        assert coming[0, k] == pytest.approx([expected, expected], rel=1e-6)


def test_tasks_still_to_come_when_far_more_came_than_expected():
    tasks = make_tasks(np.zeros(400), origin=0, n_servers=2)
    coming = still_to_come(view_of(make_scenario([1.0, 1.0]), tasks), np.array([0.5]), see_all=True)
    assert np.isfinite(coming).all()
    assert (np.diff(coming[0, :, 0]) < 0).all()
    assert coming[0, -1, 0] == pytest.approx(0.5 / 401, rel=1e-2)


# ---- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", LABELS)
def test_decisions_have_the_promised_shapes(label):
    scenario, tasks = edge5(), poisson(0.3, 40)
    decision = make(label).decide(view_of(scenario, tasks), stream(0, label))
    shape = (*tasks.shape, scenario.n_servers)
    for name in ("select", "probe", "share", "price_s"):
        array = getattr(decision, name)
        assert array is None or array.shape == shape
    if decision.choice == "given":
        assert decision.select.any(-1).all()
    if decision.share is not None:
        assert np.allclose(decision.share.sum(-1), 1.0)
    if decision.candidates is not None:
        assert decision.candidates.shape[::2] == (5, 5)
    if decision.price_s is not None:
        assert (decision.price_s >= 0.0).all()


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("port", ["shared", "per_link"])
def test_runs_end_to_end_in_the_clean_world(label, port):
    scenario, tasks = edge5(port, probe_s=0.0005), poisson(0.6, 150, 0.05)
    outcome = run(make(label), scenario, tasks)
    assert np.allclose(outcome.share.sum(-1), 1.0)
    least_s = tasks.work_gcycle / sum(SPEED_GCPS)
    assert (outcome.delay_s >= least_s).all()
    if label in SINGLE:
        assert ((outcome.share > 0).sum(-1) == 1).all()


@pytest.mark.parametrize("label", LABELS)
def test_runs_end_to_end_under_the_published_rules(label):
    outcome = run(make(label), edge5("shared", 0.0, rule="amcoedge"), slotted(), drawn_order=False)
    assert np.isfinite(outcome.delay_s).all()
    assert np.allclose(outcome.share.sum(-1), 1.0)


@pytest.mark.parametrize("label", SINGLE)
def test_single_server_schedulers_run_under_the_single_server_rules(label):
    outcome = run(make(label), edge5("shared", 0.0, rule="dedgeai"), slotted(), drawn_order=False)
    assert np.isfinite(outcome.delay_s).all()
    assert ((outcome.share == 1.0).sum(-1) == 1).all()


def test_units_stay_whole():
    base = poisson(0.3, 60)
    tasks = make_tasks(base.arrive_s, base.origin, base.input_mbit, 0.0, base.work_gcycle, units=4, n_servers=5)
    for label in ("split_capacity", "equal_finish", "best_3", "priced", "local"):
        share = run(make(label), edge5(), tasks).share
        assert np.allclose(4 * share, np.round(4 * share)), label


def test_random_schedulers_depend_on_the_given_stream_alone():
    view = view_of(edge5(), poisson(0.3, 60))
    for label in ("random", "capacity_proportional", "rand_coedge", "jsq2"):
        first, again, other = (make(label).decide(view, stream(seed, label)).select for seed in (0, 0, 1))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_price_of_zero_is_the_myopic_choice():
    myopic = run(make("best_set"), edge5(), poisson(0.6, 150, 0.05))
    free = run(make("priced_running", congestion=0.0), edge5(), poisson(0.6, 150, 0.05))
    assert np.array_equal(myopic.delay_s, free.delay_s)


# ---- orderings known from measurements -------------------------------------------------------------------------------


def mean_delay(label, port, load, overhead_gcycle=0.0, **changes):
    return run(make(label, **changes), edge5(port), poisson(load, 6000, overhead_gcycle)).delay_s.mean()


@pytest.mark.parametrize("port", ["shared", "per_link"])
def test_without_overhead_more_servers_are_better(port):
    labels = ["equal_finish", "best_3_running", "local_plus_best_running", "eft", "capacity_proportional"]
    means = [mean_delay(label, port, 0.36) for label in labels]
    assert means == sorted(means)
    assert means[0] < 0.93 * means[1]
    assert means[0] < 0.8 * means[2]


def test_with_overhead_the_myopic_choice_collapses_and_a_price_mends_it():
    mean = {
        label: mean_delay(label, "per_link", 0.8, 0.05)
        for label in ("equal_finish", "best_3_running", "priced_running")
    }
    assert mean["priced_running"] < 0.7 * mean["best_3_running"]
    assert mean["best_3_running"] < 0.5 * mean["equal_finish"]
    dear = mean_delay("priced_running", "per_link", 0.8, 0.05, congestion=3.0)
    assert dear < mean["priced_running"]


def test_weighted_round_robin_beats_random_and_stale_queues_herd():
    mean = {x: mean_delay(x, "per_link", 0.8) for x in ("wrr_own", "capacity_proportional", "sed_tracked", "eft")}
    assert mean["eft"] < mean["wrr_own"] < mean["capacity_proportional"] < mean["sed_tracked"]


def test_externality_beats_the_greedy_optimum_in_station_order():
    """About -9 % at p = 0.3 and 50 indices: station 0 is served first, and leaving servers to the others pays."""
    rng, p, n = stream(0, "bernoulli"), 0.3, 50
    density = rng.uniform(0.1024, 0.3072, n)
    slot, station, index = (x[None] for x in np.nonzero(rng.random((40, 5, n)) < p))
    size = rng.uniform(2, 5, slot.shape)
    more = {"work_gcycle": size * density[index], "index": index, "n_servers": 5}
    tasks = make_tasks(slot, origin=station, input_mbit=size, **more)
    scenario = edge5("shared", 0.0, rule="optimal")
    greedy, priced = (
        run(make(label), scenario, tasks, np.full(n, p), drawn_order=False).delay_s.mean()
        for label in ("optimal", "priced_slotted")
    )
    assert 0.86 < priced / greedy < 0.95


def test_what_a_view_tells_of_whole_tasks_by_hand():
    """Station 1 of two servers of 10 and 20 Gcycle/s, a task of 4 Gcycle and 5 Mbit, links of 100 Mbit/s."""
    scenario = make_scenario([10.0, 20.0], link_mbps=100.0)
    tasks = make_tasks([0.0], origin=1, work_gcycle=4.0, overhead_gcycle=1.0, input_mbit=5.0)
    view = View(scenario, tasks, None, None, 4.0, None, False)
    assert view.local.tolist() == [[[False, True]]]
    assert view.work_s.tolist() == [[[0.4, 0.2]]]
    assert view.send_s.tolist() == [[[0.05, 0.0]]]
