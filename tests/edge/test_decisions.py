"""What a world, and the program, refuse of a decision: wrong arrays, wrong numbers, empty sets, too much knowledge."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.config import InputError
from ddrl_sched.edge import physics
from ddrl_sched.edge.session import Traces
from ddrl_sched.edge.types import Decision
from ddrl_sched.run.rollout import check_decision, rollout
from ddrl_sched.schedulers.base import INFO_CLASSES, MAY_USE, traits_of
from tests.builders import make_scenario, make_tasks
from tests.conf_files import names, plain
from tests.jobs_by_hand import prepare
from tests.resume_jobs import SMALL, tiny

E, N = 3, 4
SCENARIO = make_scenario([10.0, 20.0, 30.0], link_mbps=400.0)
TASKS = make_tasks(np.tile(np.arange(N), (2, 1)), n_servers=E)  # two replicas; of the second the last task is padding
TASKS = TASKS._replace(valid=np.array([[True] * N, [True] * (N - 1) + [False]]))
LO, HI = np.zeros(2, np.int64), np.array([N, N - 1])
ALL, THIRDS = np.ones((2, N, E), bool), np.full((2, N, E), 1 / E)
GIVEN = Decision("given", "static", select=ALL)
SHARES = Decision("given", "static", split="given", select=ALL, share=THIRDS)
BEST = Decision("best", "static", candidates=np.repeat(np.eye(E, dtype=bool)[None], E, 0))


def place(decision):
    outcome = physics.empty_outcome(TASKS, E)
    physics.place(SCENARIO, physics.initial_state(SCENARIO, 2), TASKS, decision, lo=LO, hi=HI, outcome=outcome)
    return outcome


def with_value(array, at, value):
    array = array.copy()
    array[at] = value
    return array


PER_TASK = ("use_price_s", "congestion", "unseen_work_factor", "own_work_price", "min_wait_ratio")
LAST, PADDING = (1, 2), (1, 3)  # the last valid task, the one behind it
WRONG = {
    **{f"{key}: expected shape [2, 4, 3], got [2, 1, 3]": {key: ALL[:, :1]} for key in ("select", "probe")},
    "probe: expected shape [2, 4, 3], got [1, 4, 3]": {"probe": ALL[:1]},
    "select: expected shape [2, 4, 3], got [2, 4]": {"select": ALL[..., 0]},
    "select: expected shape [2, 4, 3], got [2, 4, 2]": {"select": ALL[..., :2]},
    "select: expected an array of booleans, got float64": {"select": THIRDS},
    "select: expected an array of booleans, got list": {"select": ALL.tolist()},
    "select: task 2 of replica 1 has no server selected": {"select": with_value(ALL, LAST, False)},
    "price_s: expected shape [2, 4, 3], got [2, 3, 3]": {"price_s": THIRDS[:, :3]},
    "price_s: expected an array of numbers, got bool": {"price_s": ALL},
    "price_s: task 2 of replica 1 has a number that is not finite": {"price_s": with_value(THIRDS, LAST, np.nan)},
    **{f"{key}: expected shape [2, 4], got [2, 4, 3]": {key: THIRDS} for key in PER_TASK},
    **{f"{key}: expected an array of numbers, got object": {key: np.full((2, N), None)} for key in PER_TASK},
    **{
        f"{key}: task 2 of replica 1 has a number that is not finite": {key: with_value(np.ones((2, N)), LAST, np.inf)}
        for key in PER_TASK
    },
    "choice: 'given' needs select, or share": {"select": None},
    "choice: 'all' is none of given, best, wrr": {"choice": "all"},
    "split_info: 'psychic' is none of": {"split_info": "psychic"},
    "objective: 'late' is none of finish, wait": {"objective": "late"},
    "weight: 'equal' is none of own, quota": {"weight": "equal"},
    "mean_work_gcycle: expected a number > 0, got 0.0": {"mean_work_gcycle": 0.0},
    "split: 'given' and share go together": {"share": THIRDS},
}


@pytest.mark.parametrize("message", WRONG)
def test_the_clean_world_names_what_is_wrong_with_a_given_decision(message):
    with pytest.raises(ValueError, match=f"^scheduler.{re.escape(message)}"):
        place(replace(GIVEN, **WRONG[message]))


WRONG_SHARES = "share: task 2 of replica 1 has shares that are not non-negative numbers that sum to one within"
SHARE_CASES = {
    "split: 'given' and share go together": {"share": None},
    "split: 'given' shares need choice 'given', got 'best'": {"choice": "best"},
    "share: expected shape [2, 4, 3], got [1, 1, 3]": {"share": THIRDS[:1, :1]},
    "share: task 2 of replica 1 has a number that is not finite": {"share": with_value(THIRDS, LAST, np.nan)},
    f"{WRONG_SHARES} the selection": {"share": with_value(THIRDS, LAST, [2.0, -1.0, 0.0])},
    f"{WRONG_SHARES} the": {"share": with_value(THIRDS, LAST, [0.5, 0.5, 1e-8])},
    WRONG_SHARES: {"select": with_value(ALL, (*LAST, 0), False)},
}


@pytest.mark.parametrize("message", SHARE_CASES)
def test_the_clean_world_names_what_is_wrong_with_given_shares(message):
    with pytest.raises(ValueError, match=f"^scheduler.{re.escape(message)}"):
        place(replace(SHARES, **SHARE_CASES[message]))


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (np.zeros((E, 0, E), bool), "expected shape [3, S, 3], got [3, 0, 3]"),
        (np.ones((1, 2, E), bool), "expected shape [3, S, 3], got [1, 2, 3]"),
        (np.ones((E, 2, E)), "expected an array of booleans, got float64"),
        (with_value(BEST.candidates, (1, 2), False), "set 2 of station 1 is empty"),
    ],
)
def test_the_clean_world_names_what_is_wrong_with_candidates(candidates, message):
    with pytest.raises(ValueError, match=f"^scheduler.candidates: {re.escape(message)}$"):
        place(replace(BEST, candidates=candidates))


def test_padding_may_hold_anything():
    """Also a selection that is wider than the window, numbers of other types, and shares wrong by rounding."""
    price = with_value(np.zeros((2, N)), PADDING, np.nan)
    for decision in (
        replace(
            GIVEN, select=with_value(ALL, PADDING, False), use_price_s=price, congestion=price, min_wait_ratio=price
        ),
        replace(SHARES, share=with_value(THIRDS, PADDING, -7.0)),
        replace(SHARES, share=np.tile(np.array([1, 0, 0]), (2, N, 1))),
        replace(SHARES, share=THIRDS + 1e-11),
        replace(GIVEN, select=np.ones((2, N + 1, E), bool)),
        BEST,
    ):
        counted = place(decision).share.sum(-1)[TASKS.valid]
        np.testing.assert_allclose(counted, 1.0)


# ---- classes of the user's own, by the command line ------------------------------------------------------------------

RULES = """
from dataclasses import dataclass
import numpy as np
from ddrl_sched.edge.types import Decision


@dataclass(frozen=True)
class Mine:
    what: str
    cadence: str = "trace"
    info = "static"

    def decide(self, view, rng):
        shape = (*view.tasks.shape, view.scenario.n_servers)
        if self.what == "small":
            return Decision("given", "static", select=np.ones((1, 1, shape[2]), bool))
        if self.what == "none":
            return Decision("given", "static", select=np.zeros(shape, bool))
        if self.what == "twice":
            share = np.zeros(shape)
            share[..., :2] = 2.0, -1.0
            return Decision("given", "static", split="given", share=share)
        return Decision("best", "running", split="equal_finish")
"""


@pytest.mark.parametrize("cadence", ["trace", "epoch"])
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("small", "scheduler.select: expected shape ["),
        ("none", "scheduler.select: task 0 of replica 0 has no server selected"),
        ("twice", "scheduler.share: task 0 of replica 0 has shares that are not"),
        ("more", "scheduler.info: static (scheduler.info) does not know what running knows"),
    ],
)
def test_a_class_of_ones_own_is_named_and_ends_the_command_with_2(tmp_path, monkeypatch, what, message, cadence):
    """At cadence trace before the job runs, else in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_wrong_rules.py").write_text(RULES)
    (tmp_path / "scheduler").mkdir()
    keys = f"name: my_wrong_rules:Mine\nwhat: {what}\ncadence: {cadence}\n"
    (tmp_path / "scheduler" / "mine.yaml").write_text(keys)
    words = ["eval", "--config-dir", ".", "scheduler=mine", "evaluate.traces=1", "env.clock.horizon_s=4"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.rstrip().endswith("(my_wrong_rules:Mine)")
    assert (tmp_path / "runs").exists() == (cadence == "epoch")


# ---- information classes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claims:
    """Answers `decision` whatever its class."""

    info: Any
    decision: Decision
    cadence: str = "trace"
    choose_info: str = "static"

    def decide(self, view, rng):
        return self.decision


TRACES = Traces(SCENARIO, TASKS, 1.0, None, drawn_order=True)


def answered(scheduler):
    """Whether both who asks first and who runs it let the scheduler's decision pass; else the reason."""
    reasons = []
    for run in (
        lambda: check_decision(TRACES, scheduler, traits_of(scheduler)),
        lambda: list(rollout(TRACES, scheduler, np.random.default_rng(0))),
    ):
        try:
            run()
        except InputError as error:
            reasons.append(str(error))
    assert len(set(reasons)) <= 1
    assert len(reasons) in (0, 2)
    return reasons[0] if reasons else True


RESTS_ON = {  # class that it takes: decisions
    "static": [GIVEN, SHARES, BEST],
    "announced": [Decision("given", "announced", select=ALL)],
    "own": [
        Decision("given", "own", select=ALL),
        Decision("given", "like_own", select=ALL),
        Decision("given", "static", split_info="own", select=ALL),
        Decision("wrr", "static"),
    ],
    "tracked": [Decision("best", "tracked"), Decision("wrr", "own", weight="quota")],
    "probed": [
        replace(GIVEN, split_info="probed"),
        replace(GIVEN, probe_selected=True),
        replace(GIVEN, probe=ALL),
    ],
    "running": [Decision("best", "running"), replace(GIVEN, split_info="running")],
}


@pytest.mark.parametrize("info", INFO_CLASSES)
def test_a_decision_may_rest_on_what_its_class_knows_and_on_nothing_else(info):
    for needed, decisions in RESTS_ON.items():
        for decision in decisions:
            said = answered(Claims(info, decision))
            if needed in MAY_USE[info]:
                assert said is True
            else:
                assert re.match(rf"scheduler\.\w+: {info} \(scheduler\.info\) does not know what \w+ knows", said)
                assert said.endswith("(tests.edge.test_decisions:Claims)")


def test_the_order_of_the_classes():
    """static < announced, own < tracked < probed < running; announced and own know nothing of each other."""
    above = {(high, low) for high in INFO_CLASSES for low in MAY_USE[high] if high != low}
    chain = ["static", "tracked", "probed", "running"]
    expected = {(high, low) for i, high in enumerate(chain) for low in chain[:i]}
    for middle in ("announced", "own"):
        expected |= {(middle, "static")} | {(high, middle) for high in chain[1:]}
    assert above == expected


def test_own_work_is_not_known_to_a_static_class():
    for decision in (replace(BEST, own_work_price=np.ones((2, N))), replace(BEST, min_wait_ratio=np.ones((2, N)))):
        assert "static (scheduler.info) does not know what own knows" in answered(Claims("static", decision))
        assert answered(Claims("own", decision)) is True


def test_a_class_that_does_not_exist_is_refused_at_every_cadence():
    for info in ("psychic", None, 7):
        for cadence in ("trace", "epoch"):
            assert answered(Claims(info, GIVEN, cadence)).startswith(
                "scheduler.info: expected one of static, announced"
            )


def test_what_a_choice_sees_is_not_above_its_class():
    said = answered(Claims("static", GIVEN, "epoch", choose_info="running"))
    assert said.startswith("scheduler.choose_info: static (scheduler.info) does not know what running knows")


SETTINGS = {label: plain("scheduler", label) for label in names("scheduler") if "cartpole" not in label}


def worlds(label):
    """(env, workload, rule) in which a scheduler is at home; test_schedulers runs those without learning in others."""
    settings = SETTINGS[label]
    slotted = "slotted" in label
    yield "edge5", "slotted" if slotted else "poisson", "clean"
    if "published_rule" in settings:
        kind = "single" if settings["published_rule"] == "dedgeai" else "multi"
        yield f"published_{kind}", f"published_{kind}", settings["published_rule"]
    elif slotted or label in ("optimal", "split_capacity", "equal_finish", "rand_coedge"):
        yield "published_multi", "published_multi", "amcoedge"


def slow_where_it_varies_another(label):
    return pytest.param(label, marks=pytest.mark.slow) if "/" in label else label


@pytest.mark.parametrize("label", [slow_where_it_varies_another(label) for label in SETTINGS])
def test_every_scheduler_keeps_to_its_class(tmp_path, label):
    """Untrained where it learns; a decision that rests on more is refused by rollout."""
    settings = SETTINGS[label] | ({"k": 4} if label == "best_k" else {})
    small = {group: settings[group] | values for group, values in SMALL.items() if group in settings}
    for env, workload, rule in worlds(label):
        data = tiny(tmp_path, "eft") | {"scheduler": settings | small, "label": "it", "seeds": 1}
        data |= {"env": plain("env", env) | {"rule": rule}, "workload": plain("workload", workload)}
        if rule == "clean":
            data["workload"]["load"] = 0.1
        job = prepare(data, "sweep", {})
        traces = job.problem.training(0, range(1), 0, 1, 0)[0]
        outcome = list(rollout(traces, job.scheduler, np.random.default_rng(0)))[-1].outcome
        assert np.isfinite(outcome.delay_s[traces.tasks.valid]).all()
