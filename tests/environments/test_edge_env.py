"""Edge-v0: what it sees and pays is what our learners see and are paid; a vector is its single environments, faster."""

import subprocess
import sys
import time
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import ddrl_sched.environments  # noqa: F401
from ddrl_sched.config import InputError
from ddrl_sched.edge.session import Session
from ddrl_sched.edge.types import Decision
from ddrl_sched.environments.registration import EDGE
from ddrl_sched.environments.settings import edge_settings
from ddrl_sched.run.reward import reward_of
from ddrl_sched.run.rollout import rollout
from ddrl_sched.schedulers.observation import observe_tasks
from ddrl_sched.schedulers.price_policy import PricePolicy
from tests.test_guides import PACKAGE, blocks

SHORT = {"load": 0.7, "episode_slots": 1, "train__episode_tasks": 60}


def edge(**settings):
    return gymnasium.make(EDGE, **{**SHORT, **settings}).unwrapped


def play(env, seed, actions=None):
    """(observations, rewards, infos) of an episode; actions drawn unless they are given."""
    env.action_space.seed(seed)
    seen, rewards, infos = [env.reset(seed=seed)[0]], [], []
    ended = False
    while not ended:
        action = env.action_space.sample() if actions is None else actions
        observation, reward, terminated, ended, info = env.step(action)
        assert not terminated
        seen.append(observation)
        rewards.append(reward)
        infos.append(info)
    return np.array(seen), np.array(rewards), infos


def without_last(traces, station=None):
    """The traces without what comes after the decisions of an episode: from the agent's last task on."""
    mine = traces.tasks.valid[0] & (True if station is None else traces.tasks.origin[0] == station)
    return without_round(traces, np.flatnonzero(mine)[-1])


def without_round(traces, begin):
    """The traces without task `begin` and what comes after it."""
    valid = traces.tasks.valid & (np.arange(traces.tasks.shape[1]) < begin)
    return replace(traces, tasks=traces.tasks._replace(valid=valid))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"actions": "single", "station": 0, "reward": "team"},
        {"actions": "gates"},
        {"actions": "continuous"},
        {"learner": "tuned/ddrl_ats", "actions": "single", "workload": "bursty"},
    ],
)
def test_gymnasium_finds_nothing_to_complain_about(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(edge(**settings), skip_render_check=True)


def test_it_sees_and_is_paid_what_our_learners_are():
    settings = edge_settings(load=0.7, episode_slots=1, settings={"train__episode_tasks": 60})
    seen, rewards, infos = play(edge(), 3)
    traces = without_last(settings.trace(3, 0))
    share = np.array([info["share"] for info in infos])
    chosen = Session(traces, "arrival", "tracked")
    begin = 0
    while (view := chosen.look()) is not None:  # the same sets, window by window
        width = view.tasks.shape[1]
        np.testing.assert_array_equal(observe_tasks(view, settings.learner)[0], seen[begin : begin + width])
        select = share[None, begin : begin + width] > 0
        split = {"split": "equal_finish", "split_info": "probed", "probe_selected": True}
        outcome = chosen.act(Decision("given", "tracked", select=select, **split))
        begin += width
    assert begin == len(rewards) == len(seen) - 1
    paid, known = reward_of(settings.learner.learning, traces, outcome, ~np.isnan(outcome.delay_s))
    assert rewards.sum() == pytest.approx(paid[known].sum(), rel=1e-12)
    assert infos[-1]["delay_s"] == outcome.delay_s[0, len(rewards) - 1]


@pytest.mark.parametrize("reward", ["own", "team"])
def test_one_station_is_paid_for_its_tasks_while_a_rule_decides_the_others(reward):
    keys = {"scheduler__info": "tracked", "train__episode_tasks": 60}  # nobody is asked: shares tell all
    settings = edge_settings(load=0.7, episode_slots=1, reward=reward, settings=keys)
    env = edge(station=2, others="equal_finish", reward=reward, scheduler__info="tracked")
    _, rewards, infos = play(env, 5)
    traces = without_last(settings.trace(5, 0), 2)
    n = int(traces.tasks.valid.sum())
    placed = env._replicas.simulation.outcome.share[0, :n]
    assert {info["station"] for info in infos} == {2}
    mine = traces.tasks.origin[0, :n] == 2
    np.testing.assert_array_equal(placed[mine], [info["share"] for info in infos])
    last = np.flatnonzero(mine)[-1] + 1  # others are decided up to the window of the last task, maybe not in it
    n = max(last, int((placed.sum(1) > 0).sum()))
    valid = np.arange(traces.tasks.valid.shape[1]) < n
    traces = replace(traces, tasks=traces.tasks._replace(valid=valid[None]))
    session = Session(traces, "trace")
    session.look()
    whole = np.zeros((1, traces.tasks.shape[1], 5))
    whole[0, :, 0] = 1.0
    whole[0, :n] = placed[:n]
    outcome = session.act(Decision("given", "running", split="given", share=whole))
    paid, known = reward_of(settings.learner.learning, traces, outcome, ~np.isnan(outcome.delay_s))
    mine = known[0] & (traces.tasks.origin[0] == 2)
    assert len(rewards) == mine.sum()
    assert rewards.sum() == pytest.approx(paid[0, mine].sum(), rel=1e-12)


def test_a_seed_brings_the_same_episode_again_beside_a_rule_that_draws():
    env = edge(station=1, others="random")
    once, again = (play(env, 5) for _ in range(2))
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])


def test_prices_of_zero_are_the_rule_that_a_price_policy_starts_from():
    env = edge(actions="continuous")
    _, _, infos = play(env, 1, np.zeros(env.action_space.shape, np.float32))
    settings = edge_settings(load=0.7, actions="continuous", episode_slots=1, settings={"train__episode_tasks": 60})
    traces = without_last(settings.trace(1, 0))
    policy = PricePolicy(settings.learner, traces.scenario, 1, [np.random.default_rng(0)])
    for step in rollout(traces, policy, np.random.default_rng(0)):
        share = step.outcome.share
    np.testing.assert_array_equal(share[0, : len(infos)], [info["share"] for info in infos])


def test_an_episode_is_a_training_trace_and_loads_take_turns():
    settings = edge_settings(load=[0.4, 0.8], episode_slots=1)
    low, high = settings.problems
    expected = high.training(7, range(1), 0, 1, 200)[0].tasks.arrive_s
    np.testing.assert_array_equal(settings.trace(7, 0).tasks.arrive_s, expected)
    assert settings.trace(7, 1).scenario.horizon_s == low.training_s(1, 200)
    held_out = low.evaluation(range(3), 1)[0].tasks.arrive_s
    drawn = settings.trace(low.eval_seed, 0).tasks.arrive_s  # even with their seed
    assert not np.isin(drawn, held_out[held_out < low.scenario.horizon_s]).any()


def vectors(n, mode, **settings):
    """(ours, Gymnasium's loop over single environments)."""
    words = {**SHORT, **settings}
    ours = gymnasium.make_vec(
        EDGE, num_envs=n, vectorization_mode="vector_entry_point", autoreset_mode=mode.value, **words
    )
    loop = gymnasium.make_vec(
        EDGE, num_envs=n, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **words
    )
    return ours, loop


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("settings", [{"load": [0.4, 0.8]}, {"station": 1, "reward": "team", "actions": "continuous"}])
def test_a_vector_is_its_single_environments(mode, settings):
    both = vectors(3, mode, **settings)
    assert both[0].single_observation_space == both[1].single_observation_space
    for a, b in zip(*(vector.reset(seed=4)[:1] for vector in both), strict=True):
        np.testing.assert_array_equal(a, b)
    both[0].action_space.seed(0)
    ends = 0
    for _ in range(150):
        action = both[0].action_space.sample()
        (*ours, told), (*loop, other) = (vector.step(action) for vector in both)
        for a, b in zip(ours, loop, strict=True):
            np.testing.assert_array_equal(a, b)
        ends += int(ours[3].sum())
        if "final_obs" in other:
            np.testing.assert_array_equal(other["_final_obs"], told["_final_obs"])
            for i in np.flatnonzero(told["_final_obs"]):
                np.testing.assert_array_equal(told["final_obs"][i], other["final_obs"][i])
        elif "delay_s" in other:
            np.testing.assert_array_equal(told["delay_s"][other["_delay_s"]], other["delay_s"][other["_delay_s"]])
    assert ends > 0


def test_a_vector_of_sixteen_is_much_faster():
    ours, loop = vectors(16, AutoresetMode.NEXT_STEP)
    spent = []
    for vector in (ours, loop):
        vector.reset(seed=0)
        action = np.zeros(16, np.int64)
        vector.step(action)
        began = time.process_time()
        for _ in range(50):
            vector.step(action)
        spent.append(time.process_time() - began)
    assert spent[0] < 0.4 * spent[1]


REWARDS_V0 = [
    -1.3176684576063622,
    -0.17540599084852737,
    -0.5407487780891839,
    -0.3465492665949043,
    -0.1794100715521903,
    -0.4252160236792417,
    -0.2693230871713455,
    -0.3349529968607335,
]


def test_version_0_pays_what_it_paid():
    """Another number here means another id: Edge-v1 (ddrl_sched/environments/registration.py)."""
    assert EDGE.endswith("-v0")
    env = edge()
    env.reset(seed=0)
    rewards = [env.step(action)[1] for action in (0, 30, 7, 15, 22, 3, 28, 11)]
    np.testing.assert_allclose(rewards, REWARDS_V0, rtol=1e-9)


def test_importing_the_package_is_light_and_its_module_registers():
    light = "import sys, ddrl_sched; print('gymnasium' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True).stdout == "False\n"
    make = "import gymnasium; print(gymnasium.make('ddrl_sched.environments:ddrl_sched/Edge-v0').spec.id)"
    done = subprocess.run([sys.executable, "-c", make], capture_output=True, text=True, check=False)
    assert done.stdout == "ddrl_sched/Edge-v0\n", done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"station": 5}, "station: a number from 0 to 4, or None, expected, got 5"),
        ({"station": 0, "others": "wrong"}, "wrong"),
        ({"station": 0, "others": "tuned/dqn_ts"}, "needs trained weights"),
        ({"actions": "pairs"}, "scheduler.actions.name: must be"),
        ({"actions": "top_k", "scheduler__actions__k": 2}, "actions: expected one of"),
        ({"actions": "continuous", "learner": "tuned/amcoedge"}, "does not go with the learner"),
        ({"load": -1}, "workload.load: must be > 0"),
        ({"load": [0.5, 20.0]}, "load: numbers in"),
        ({"env": "published_multi", "workload": "published_multi"}, "env.rule: environments are of clean physics"),
        ({"scheduler__infos": "tracked"}, "scheduler.infos"),
    ],
)
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(InputError, match=said):
        edge(**settings)


def test_the_example_of_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = [text for text in blocks(PACKAGE / "README.md", "python") if "gymnasium" in text]
    assert len(example.splitlines()) <= 15
    exec(example, {})
