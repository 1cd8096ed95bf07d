"""One job from settings to run folder, and what of it can be taken up again."""

import json

import pandas as pd
import pytest
import yaml

from ddrl_sched.config import InputError
from ddrl_sched.run import records
from ddrl_sched.run.job import plan_job, run_job
from ddrl_sched.schedulers.learned import learned_settings
from tests.conf_files import CONF, names, plain

NO_OPTIONS = {"debug": True}


def settings(tmp_path, scheduler="eft", **change):
    """A small composed config as launch.py makes it."""
    data = {
        "name": "jobs",
        "seed": 0,
        "seeds": 2,
        "env": plain("env", "edge5"),
        "workload": plain("workload", "poisson"),
        "scheduler": plain("scheduler", scheduler),
        "train": plain("train", "tiny") | {"episode_slots": 6, "episode_tasks": 0},
        "evaluate": {"seed": 1, "traces": 3, "policy_seeds": 2, "replay_rule": None},
        "baselines": [],
        "label": scheduler,
        "overrides": [],
        "runs_dir": str(tmp_path),
    }
    data["env"]["clock"]["horizon_s"] = 6.0
    data["workload"]["load"] = 0.3
    return data | change


def table_of(tmp_path, data, command="sweep", options=NO_OPTIONS):
    """(state, eval.parquet) of a job."""
    job_id = plan_job(data, command, options)["job_id"]
    state = run_job(data, command, options)
    return state, pd.read_parquet(tmp_path / "jobs" / job_id / "eval.parquet")


def test_a_rule_is_evaluated_once_per_trace_and_skipped_the_second_time(tmp_path):
    data = settings(tmp_path)
    state, rows = table_of(tmp_path, data)
    assert state == "done"
    assert list(rows.trace) == [0, 1, 2]
    parts = rows.wait_s + rows.transfer_s + rows.compute_s + rows.return_s
    assert parts.to_numpy() == pytest.approx(rows.mean_delay_s.to_numpy())
    assert run_job(data, "sweep", NO_OPTIONS) == "skipped"


def test_every_scheduler_meets_the_same_tasks_under_one_hash(tmp_path):
    tables = [table_of(tmp_path, settings(tmp_path, name))[1] for name in ("eft", "random", "best_2")]
    assert len({table.scenario_hash[0] for table in tables}) == 1
    assert len({tuple(table.n_tasks[:3]) for table in tables}) == 1
    assert list(tables[1].seed) == [0, 0, 0, 1, 1, 1]
    other = settings(tmp_path)
    other["workload"]["load"] = 0.4
    assert table_of(tmp_path, other)[1].scenario_hash[0] != tables[0].scenario_hash[0]


def learned(name):
    """A learned scheduler's yaml with its agent in place, as Hydra composes it."""
    scheduler = yaml.safe_load((CONF / "scheduler" / f"{name}.yaml").read_text(encoding="utf-8"))
    agent = scheduler.pop("defaults")[0]["/agent@agent"]
    return scheduler | {"agent": plain("agent", agent) | scheduler.get("agent", {})}


@pytest.mark.parametrize("name", ["ddrl_amsa_tuned", "lad_ts", "smcoedge"])
def test_weights_evaluate_as_they_did_when_they_were_trained(tmp_path, name):
    data = settings(tmp_path) | {"scheduler": learned(name), "label": name}
    state, rows = table_of(tmp_path, data)
    assert state == "done"
    assert list(rows.seed) == [0, 0, 0, 1, 1, 1]
    folder = tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"]
    assert json.loads((folder / "job.json").read_text())["status"] == "done"
    assert records.is_done(folder)
    again = table_of(tmp_path, data, "eval", NO_OPTIONS | {"run": str(folder)})[1]
    assert again.mean_delay_s.tolist() == rows.mean_delay_s.tolist()


LEARNED = [name for name in names("scheduler") if "name: learned" in (CONF / f"scheduler/{name}.yaml").read_text()]


@pytest.mark.parametrize("name", LEARNED)
def test_every_yaml_of_a_learned_scheduler_is_valid(name):
    data = learned(name)
    assert learned_settings(data).actions.name == data["actions"]["name"]
    with pytest.raises(InputError, match=r"scheduler\.learning\.batch"):
        learned_settings(data | {"learning": data["learning"] | {"batch": 0}})


def test_wrong_settings_name_their_key(tmp_path):
    with pytest.raises(InputError, match="seeds"):
        run_job(settings(tmp_path, seeds=0), "sweep", NO_OPTIONS)
    with pytest.raises(InputError, match="does not learn"):
        run_job(settings(tmp_path), "train", NO_OPTIONS)
    data = settings(tmp_path)
    data["evaluate"]["replay_rule"] = "amcoedge"
    with pytest.raises(InputError, match=r"evaluate\.replay_rule"):
        run_job(data, "sweep", NO_OPTIONS)


def test_one_training_serves_all_loads_it_was_made_for(tmp_path, monkeypatch):
    data = settings(tmp_path, "ddrl_amsa_price")
    data["train"]["loads"] = [0.2, 0.4]
    data["scheduler"]["evolution"]["pairs"] = 2
    first = plan_job(data, "sweep", NO_OPTIONS)["job_id"]
    assert run_job(data, "sweep", NO_OPTIONS) == "done"
    again = {**data, "workload": {**data["workload"], "load": 0.5}}
    second = plan_job(again, "sweep", NO_OPTIONS)["job_id"]
    other_loads = {**again, "train": {**again["train"], "loads": [0.5]}}
    monkeypatch.setattr("ddrl_sched.run.job._train", lambda *_: pytest.fail("trained again"))
    assert run_job(again, "sweep", NO_OPTIONS) == "done"
    for name in ("weights.safetensors", "curves.parquet"):
        one, other = (records.file_hash(tmp_path / "jobs" / job_id / name) for job_id in (first, second))
        assert one == other
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        run_job(other_loads, "sweep", NO_OPTIONS)


def test_a_damaged_training_is_not_taken_over(tmp_path, monkeypatch):
    data = settings(tmp_path, "ddrl_amsa_price")
    data["train"]["loads"] = [0.2]
    data["scheduler"]["evolution"]["pairs"] = 1
    assert run_job(data, "sweep", NO_OPTIONS) == "done"
    weights = tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"] / "weights.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(bytes(damaged))
    monkeypatch.setattr("ddrl_sched.run.job._train", lambda *_: pytest.fail("trained again"))
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        run_job({**data, "workload": {**data["workload"], "load": 0.5}}, "sweep", NO_OPTIONS)
