"""Looks at a policy while it trains: they see what an evaluation sees, and training does not notice."""

import numpy as np
import pandas as pd
import pytest
import torch

from ddrl_sched.agents.base import Spaces
from ddrl_sched.agents.distributions import Categorical
from ddrl_sched.jobs.training import AFTER_ALL_EPISODES
from ddrl_sched.run.metrics import VALIDATION_METRIC
from ddrl_sched.run.problem import build_problem
from ddrl_sched.run.rollout import rollout
from ddrl_sched.run.train import Training
from ddrl_sched.run.validation import Validation, is_due
from ddrl_sched.seeding import stream
from tests.agent_builders import build, generators, random_batch
from tests.jobs_by_hand import prepare, run_job
from tests.resume_jobs import NO_OPTIONS, folder_of, tiny, without_time

LOADS = [0.1, 0.4]


def trained(folder, name, every, episodes=3):
    """(curves, bytes of the weights, folder) of a tiny training with looks every so many episodes."""
    data = tiny(folder, name, episodes=episodes)
    data["train"] |= {"validate_every": every, "loads": LOADS}
    assert run_job(data, "train", NO_OPTIONS) == "done"
    place = folder_of(data, "train")
    curves = without_time(pd.read_parquet(place / "curves.parquet"))
    return curves, (place / "weights.safetensors").read_bytes(), data, place


@pytest.mark.parametrize("name", ["lad_ts", "tuned/ddrl_amsa", "tuned/dqn_ts", "ddrl_amsa_price"])
def test_training_does_not_notice_looks(tmp_path, name):
    curves, weights, *_ = trained(tmp_path / "with", name, 1)
    bare_curves, bare_weights, *_ = trained(tmp_path / "without", name, 0)
    assert VALIDATION_METRIC not in set(bare_curves.metric)
    pd.testing.assert_frame_equal(curves[curves.metric != VALIDATION_METRIC].reset_index(drop=True), bare_curves)
    assert weights == bare_weights
    looks = curves[curves.metric == VALIDATION_METRIC]
    assert len(looks) == 3 * 2
    assert (looks.value > 0).all()


@pytest.mark.parametrize("name", ["tuned/smcoedge", "ddrl_amsa_price"])
def test_the_last_look_is_the_delay_of_the_trained_policy(tmp_path, name):
    """Its weights, loaded again, on the same traces: the geometric mean over the loads, one trace per seed."""
    curves, _, data, place = trained(tmp_path, name, 3)
    looks = curves[curves.metric == VALIDATION_METRIC]
    last = looks[looks["update"] == looks["update"].max()].sort_values("seed").value
    log_s = []
    job = prepare(data, "eval", {"run": str(place)})
    budget = job.spec.settings.train
    for load in LOADS:
        problem = build_problem(job.problem.env, job.problem.workload.model_copy(update={"load": load}), 1)
        traces = problem.training(0, range(2), AFTER_ALL_EPISODES, budget.episode_slots, budget.episode_tasks)[0]
        generators = [stream(0, "validation", k) for k in range(job.scheduler.n_learners)]
        job.scheduler.start_evaluation(1, generators)
        *_, step = rollout(traces, job.scheduler, np.random.default_rng(0))
        log_s.append([np.log(step.outcome.delay_s[r, traces.tasks.valid[r]].mean()) for r in range(2)])
    np.testing.assert_allclose(last, np.exp(np.mean(log_s, 0)), rtol=1e-9)


def test_looks_come_every_so_often_and_at_the_end(tmp_path):
    validation = Validation(3, list, list)
    assert [episode for episode in range(8) if is_due(validation, episode, 8)] == [2, 5, 7]
    curves, *_ = trained(tmp_path, "tuned/dqn_ts", 3, episodes=4)
    assert curves[curves.metric == VALIDATION_METRIC].groupby("seed").size().tolist() == [
        2,
        2,
    ]  # after episodes 3 and 4


def test_rates_fall_linearly_to_their_fraction(tmp_path, monkeypatch):
    data = tiny(tmp_path, "tuned/dqn_ts", episodes=3)
    data["scheduler"]["learning"]["lr_final"] = 0.2
    job = prepare(data, "train", NO_OPTIONS)
    traces = job.problem.training(0, range(2), 0, 6, 0)[0]
    update, rates = job.scheduler.agent.update, []
    monkeypatch.setattr(job.scheduler.agent, "update", lambda batch, rate: rates.append(rate) or update(batch, rate))
    for _ in Training(job.scheduler, job.problem.scenario, 3, lambda _: traces):
        pass
    assert list(dict.fromkeys(np.round(rates, 9))) == [1.0, 0.6, 0.2]


@pytest.mark.parametrize("kind", ["dqn", "sac", "dsac"])
def test_a_rate_of_zero_changes_nothing(kind):
    spaces = Spaces(3, Categorical(4), n_latent=6)
    agent = build(kind, spaces, generators(2))
    batch = random_batch(np.random.default_rng(0), spaces, 2, 16)
    first = agent.weights()
    agent.update(batch, 0.0)
    assert all(torch.equal(value, first[name]) for name, value in agent.weights().items())
    agent.update(batch, 0.5)
    assert not all(torch.equal(value, first[name]) for name, value in agent.weights().items())
