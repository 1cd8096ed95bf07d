"""One decision at a time: whoever is asked task by task decides as when asked once."""

import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge.session import Session
from ddrl_sched.edge.types import Decision
from ddrl_sched.run.problem import build_problem
from ddrl_sched.run.rollout import rollout
from ddrl_sched.schedulers.table import SCHEDULERS, build
from ddrl_sched.seeding import stream
from tests.conf_files import env, names, plain, workload

MANDATORY = {"best_k": {"k": 2}}


def kind_of(name):
    return plain("scheduler", name)["name"]


RULES = [name for name in names("scheduler") if kind_of(name) in SCHEDULERS]
SINGLE = {"local", "random", "round_robin", "capacity_proportional", "eft", "jsq", "jsq2", "best_1"}
SINGLE |= {"sed_announced", "sed_own", "sed_tracked", "sed_probed", "wrr_own", "wrr_quota"}
WORLDS = {
    "edge5": ("poisson", {}),
    "slotted": ("slotted", {}),
    "edge5_links": ("bursty", {}),
    "published_multi": ("published_multi", {}),
    "published_single": ("published_single", {}),
}

OFTEN_ALIKE = ("edge5_links", "published_single")  # whose kernels the other worlds run too


def traces_of(world):
    name = "edge5" if world == "slotted" else world
    settings = env(name, clock={"horizon_s": 12.0})
    return build_problem(settings, workload(WORLDS[world][0]), 3).evaluation(range(1), 1)[0]


def rule(name):
    settings = plain("scheduler", name) | MANDATORY.get(name, {})
    return build(settings.pop("name"), settings)


def last(traces, name, cadence):
    *_, step = rollout(traces, rule(name), stream(0, "test"), cadence=cadence)
    return step


@pytest.mark.parametrize(
    "world", [pytest.param(world, marks=[pytest.mark.slow] * (world in OFTEN_ALIKE)) for world in WORLDS]
)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_asked_task_by_task_decides_as_in_the_batch(name, world):
    if world == "published_single" and name not in SINGLE:
        pytest.skip("single-server rules send tasks whole")
    if name == "priced_slotted" and world not in ("slotted", "published_multi"):
        pytest.skip("needs a slotted workload")
    traces = traces_of(world)
    batch = last(traces, name, "trace").outcome
    for cadence in ("epoch", "arrival"):
        asked = last(traces, name, cadence)
        assert asked.n_windows > 1
        for field, a, b in zip(batch._fields, batch, asked.outcome, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{field} at cadence {cadence}")


def test_there_is_a_rule_of_every_kind():
    assert {kind_of(name) for name in RULES} == set(SCHEDULERS)


def test_look_and_act_by_hand():
    traces = traces_of("edge5")
    session = Session(traces, "arrival", "running")
    view = session.look()
    assert view.tasks.shape[0] == 1
    assert view.wait_s.shape == (*view.tasks.shape, 5)
    everyone = np.ones((*view.tasks.shape, 5), bool)
    outcome = session.act(Decision("given", "running", split="equal_finish", select=everyone))
    decided = view.tasks.shape[1]
    np.testing.assert_allclose(outcome.share[0, :decided].sum(-1), 1.0)
    assert session.n_windows == 1
    assert np.isnan(outcome.delay_s[0, decided:]).all()


def test_acting_comes_after_looking():
    session = Session(traces_of("edge5"), "arrival")
    with pytest.raises(ValueError, match="act follows look"):
        session.act(Decision("given", "static"))


def test_one_look_is_acted_on_once():
    session = Session(traces_of("edge5"), "epoch", "own")
    session.look()
    session.act(Decision("best", "own", split="equal_finish"))
    with pytest.raises(ValueError, match="act follows look"):
        session.act(Decision("best", "own", split="equal_finish"))


def test_a_session_ends_with_the_last_task():
    traces = traces_of("edge5")
    session, n = Session(traces, "epoch", "own"), 0
    while (view := session.look()) is not None:
        n += int(view.tasks.valid.sum())
        session.act(Decision("best", "own", split="equal_finish"))
    assert n == traces.tasks.valid.sum()
    assert not np.isnan(session.outcome.delay_s[traces.tasks.valid]).any()
    with pytest.raises(ValueError, match="act follows look"):
        session.act(Decision("best", "own"))


@pytest.mark.parametrize("key", ["info", "cadence", "choose_info"])
def test_what_a_class_says_of_itself_is_read_once_and_blamed_on_it(key, tmp_path, monkeypatch):
    source = f"""
from dataclasses import dataclass
from ddrl_sched.edge.types import Decision

@dataclass(frozen=True)
class Tired:
    info = "static"
    cadence = "trace"

    def decide(self, view, rng):
        return Decision("best", "static")

def _{key}(self):
    raise SystemExit(0)

Tired.{key} = property(_{key})
"""
    (tmp_path / f"tired_{key}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    scheduler = build(f"tired_{key}:Tired", {})
    with pytest.raises(InputError, match=rf"SystemExit: 0 \(tired_{key}:Tired, tired_{key}.py, line 14\)"):
        next(rollout(traces_of("edge5"), scheduler, stream(0, "x")))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("split", "['x']", r"scheduler.split: expected a word, got \['x'\]"),
        ("info", "['static']", r"scheduler.info: expected a word"),
        ("split_info", "3", "scheduler.split_info: expected a word or None, got 3"),
        ("mean_work_gcycle", "'x'", "scheduler.mean_work_gcycle: expected a number > 0, got 'x'"),
        (
            "price_s",
            "np.ma.masked_invalid(np.full((*view.tasks.shape, 5), np.nan))",
            "scheduler.price_s: .*MaskedArray",
        ),
        ("probe_selected", "np.ones(3)", "scheduler.probe_selected: expected True or False"),
    ],
)
def test_a_decision_of_odd_types_is_named(field, value, text, tmp_path, monkeypatch):
    source = f"""
import numpy as np
from dataclasses import dataclass, replace
from ddrl_sched.edge.types import Decision

@dataclass(frozen=True)
class Odd:
    info = "running"
    cadence = "trace"

    def decide(self, view, rng):
        return replace(Decision("best", "running", split="equal_finish"), {field}={value})
"""
    (tmp_path / f"odd_{field}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=text + rf".*\(odd_{field}:Odd\)"):
        next(rollout(traces_of("edge5"), build(f"odd_{field}:Odd", {}), stream(0, "x")))
