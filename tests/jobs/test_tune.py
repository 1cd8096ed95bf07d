"""The search for settings: tiny studies of one short episode."""

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from ddrl_sched import fingerprint
from ddrl_sched.config import InputError
from ddrl_sched.jobs import records, scheduling
from ddrl_sched.jobs import resolve as scheduling_settings
from ddrl_sched.jobs import tune as tune_module
from ddrl_sched.jobs.request import Flags
from ddrl_sched.jobs.search_space import Choices, check_ends
from ddrl_sched.jobs.tune_study import next_trial, open_study
from ddrl_sched.launch import launch
from ddrl_sched.schedulers.learned_settings import learned_settings
from tests.conf_files import merged, plain
from tests.jobs.test_scheduling_job import learned, settings
from tests.jobs_by_hand import plan_tune, request_of, tune
from tests.paths import REPOSITORY
from tests.resume_jobs import child, status_of
from tests.robustness.test_failed_training import never_finishes

optuna = pytest.importorskip("optuna")

SPACE = {
    "all": {"learning": {"gamma": {"low": 0.1, "high": 0.9}}},
    "dqn": {"agent": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "hidden": {"choices": [[8], [16, 16]]}}},
}
TUNE = {"n_trials": 3, "evaluate_seed": 9, "seed": 0, "startup_trials": 2, "pruner": None, "space": SPACE}


def study(folder, change=None, **tuning):
    """A composed config with a search as launch.py makes it: one seed, one episode of three slots."""
    data = settings(folder, seeds=1, tune=TUNE | tuning) | {"label": "tuned/drlcoedge"}
    data["scheduler"] = learned("tuned/drlcoedge")
    small = {"train": {"episodes": 1, "episode_slots": 3}, "evaluate": {"traces": 1}}
    small |= {"env": {"clock": {"horizon_s": 2.0}}, "scheduler": {"learning": {"start_slots": 0, "batch": 16}}}
    return merged(merged(data, small), change or {})


def table(folder):
    with open(folder / "jobs/trials/tuned_drlcoedge.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def n_runs(folder):
    return sum(records.is_done(path) for path in (folder / "jobs").iterdir())


def test_a_study_taken_up_again_goes_on_as_if_it_had_never_stopped(tmp_path):
    again, once = tmp_path / "again", tmp_path / "once"
    assert tune(study(again), {}) == "done"
    assert len(table(again)) == n_runs(again) == 3
    assert tune(study(again, n_trials=4), {}) == "done"
    assert tune(study(once, n_trials=4), {}) == "done"
    assert table(again) == table(once)
    assert len({row["agent.lr"] for row in table(once)}) == 4
    assert tune(study(again, n_trials=4), {}) == "skipped"
    assert len(table(again)) == n_runs(again) == 4


def test_the_best_settings_are_a_choice_of_the_scheduler_group(tmp_path):
    tune(study(tmp_path), {})
    best = min(table(tmp_path), key=lambda row: float(row["mean_delay_s"]))
    file = tmp_path / "jobs/best/scheduler/tuned_drlcoedge_best.yaml"
    text = file.read_text(encoding="utf-8")
    assert f"mean delay {float(best['mean_delay_s']):.5g} s on the traces of the search" in text
    data = yaml.safe_load(text)
    chosen = {"world": "edge5", "seed": 9, "workload": "poisson", "loads": [0.3], "traces": 1}
    assert data.pop("chosen_on") == [chosen]
    assert data == merged(
        study(tmp_path)["scheduler"],
        {
            "learning": {"gamma": float(best["learning.gamma"])},
            "agent": {"lr": float(best["agent.lr"]), "hidden": yaml.safe_load(best["agent.hidden"])},
        },
    )
    assert learned_settings(data)
    flags = ["--config-dir", str(tmp_path / "jobs/best"), "--cfg", "job"]
    assert launch("sweep", ["scheduler=tuned_drlcoedge_best"], flags, Flags(), multirun=True) == 0
    run = records.read_job(tmp_path / "jobs" / best["job_id"])
    assert run["settings"]["evaluate"]["seed"] == 9
    assert run["scheduler"].startswith("tuned/drlcoedge(hidden=")


def test_a_trial_that_was_done_before_is_skipped(tmp_path):
    one = {"space": {"dqn": {"agent": {"hidden": {"choices": [[8]]}}}}}
    assert tune(study(tmp_path, **one), {}) == "done"
    assert len(table(tmp_path)) == 3
    assert n_runs(tmp_path) == 1


def test_trials_that_learn_badly_end_early(tmp_path):
    bad = {"space": {"dqn": {"agent": {"lr": {"low": 1e-5, "high": 0.5, "log": True}}}}}
    bad["pruner"] = {"kind": "median", "startup_trials": 1, "warm_up_episodes": 0}
    data = study(tmp_path, {"train": {"episodes": 2}}, n_trials=5, **bad)
    tune(data, {})
    states = [row["state"] for row in table(tmp_path)]
    assert len(states) == 5
    assert "pruned" in states
    assert n_runs(tmp_path) == states.count("complete")
    assert all(row["note"].startswith("pruned after") for row in table(tmp_path) if row["state"] == "pruned")


def test_a_trial_whose_process_died_is_repeated_and_one_of_a_living_process_is_not(tmp_path):
    data = study(tmp_path, n_trials=2)
    search = tune_module._search(request_of(data))
    begun = open_study(search.file, accept_code=False)
    (died, claim), (_, living) = [next_trial(begun, search.file) for _ in range(2)]
    claim.release()
    assert tune(data, {}) == "done"
    (row,) = table(tmp_path)
    assert float(row["learning.gamma"]) == pytest.approx(died.params["learning.gamma"], rel=0.01)
    living.release()
    assert tune(data, {}) == "done"
    assert len(table(tmp_path)) == 2


PRUNED = {  # a study in which some trials end early
    "space": {"dqn": {"agent": {"lr": {"low": 1e-5, "high": 0.5, "log": True}, "hidden": {"choices": [[6], [8]]}}}},
    "pruner": {"kind": "median", "startup_trials": 1, "warm_up_episodes": 0},
}


def dies_writing(number, data):
    """A process that works on a study until, within the `number`-th line (from 0) that it writes, it is killed."""

    def act():
        backend = optuna.storages.journal.JournalFileBackend
        append, written = backend.append_logs, iter(range(1 << 60))

        def append_or_die(self, logs):
            if next(written) == number:
                with open(self._file_path, "ab") as file:
                    file.write(b'{"op_code":8,"worker_id":"')
                os.kill(os.getpid(), signal.SIGKILL)
            append(self, logs)

        backend.append_logs = append_or_die
        tune(data, {})

    return child(act)


def test_a_study_killed_at_any_moment_is_the_one_that_nobody_killed(tmp_path):
    """Killed while trials are proposed, within trainings and between; trials are pruned as if nothing had been."""

    def data(where):
        change = {"train": {"episodes": 3, "checkpoint_s": 0.0}, "scheduler": {"learning": {"memory": 32}}}
        return study(tmp_path / where, change, n_trials=4, **PRUNED)

    def rows(where):
        return [{key: value for key, value in row.items() if key != "trial"} for row in table(tmp_path / where)]

    assert tune(data("once"), {}) == "done"
    states = [row["state"] for row in rows("once")]
    assert {*states} == {"complete", "pruned"}
    n_killed = 0
    while (status := status_of(dies_writing(5 + 3 * n_killed % 7, data("killed")))) == -signal.SIGKILL:
        n_killed += 1
    print(f"{n_killed} times killed, {len(states)} trials, {states.count('pruned')} pruned")
    assert status == 0
    assert n_killed >= 4
    assert rows("killed") == rows("once")
    assert n_runs(tmp_path / "killed") == n_runs(tmp_path / "once")


def test_a_line_that_was_not_ended_spoils_no_study(tmp_path):
    tune(study(tmp_path, n_trials=1), {})
    (journal,) = (tmp_path / "jobs/studies").glob("*.journal")
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[:-30].rpartition(b"\n")[2])
    assert plan_tune(study(tmp_path, n_trials=2), {})["state"] == "1 of 2 trials"
    assert tune(study(tmp_path, n_trials=2), {}) == "done"
    assert len(table(tmp_path)) == 2
    assert journal.read_bytes().startswith(whole + b"{")
    assert journal.read_bytes().endswith(b"\n")


def test_a_trial_that_fails_counts_and_says_why(tmp_path, monkeypatch, capsys):
    def run(*_):
        raise FloatingPointError("overflow")

    monkeypatch.setattr(scheduling, "run", run)
    with pytest.raises(RuntimeError, match="no trial of tuned/drlcoedge finished"):
        tune(study(tmp_path), {})
    assert [(row["state"], row["note"]) for row in table(tmp_path)] == [("fail", "FloatingPointError: overflow")] * 3
    assert capsys.readouterr().err.count("overflow") == 3


REFUSED = {"space": {"all": {"learning": {"batch": {"choices": [16, 300_000]}}}}}  # more than the memory holds


def test_a_trial_that_is_refused_counts_and_the_study_goes_on(tmp_path, capsys):
    data = study(tmp_path, n_trials=6, **REFUSED)
    assert tune(data, {}) == "done"
    rows = table(tmp_path)
    assert {(row["learning.batch"], row["state"], row["job_id"] != "") for row in rows} == {
        ("16", "complete", True),
        ("300000", "fail", False),
    }
    notes = {row["note"] for row in rows if row["state"] == "fail"}
    assert len(notes) == 1
    assert notes.pop().startswith("InputError: scheduler.learning.batch: at most scheduler.learning.memory")
    assert "scheduler.learning.batch: at most" in capsys.readouterr().err
    assert len(rows) == 6
    assert tune(data, {}) == "skipped"


def test_a_trial_with_a_task_that_has_no_delay_fails(tmp_path, monkeypatch):
    never_finishes(monkeypatch)
    with pytest.raises(RuntimeError, match="no trial of tuned/drlcoedge finished"):
        tune(study(tmp_path, n_trials=2), {})
    assert [row["state"] for row in table(tmp_path)] == ["fail", "fail"]
    assert all("was never finished" in row["note"] for row in table(tmp_path))


@pytest.mark.parametrize("gone", [True, False])
def test_a_job_that_is_refused_whatever_is_proposed_ends_no_trial(tmp_path, monkeypatch, gone):
    """An input file is gone, or another one than the study was begun with."""
    data = study(tmp_path, n_trials=2)
    search = tune_module._search(request_of(data))
    begun = open_study(search.file, accept_code=False)
    trial, claim = next_trial(begun, search.file)

    def refused(*_):
        raise InputError("env.network.file: not as it was")

    real = scheduling_settings.resolve

    def changed(request):
        if gone:
            refused()
        return replace(real(request), job_id="other")

    with monkeypatch.context() as patch:
        patch.setattr(scheduling, "run", refused)
        patch.setattr(scheduling_settings, "resolve", changed)
        with pytest.raises(InputError, match=r"env\.network\.file"):
            tune_module._run(begun, trial, search)
    claim.release()
    assert tune(data, {}) == "done"
    assert [row["state"] for row in table(tmp_path)] == ["complete", "complete"]


def test_a_space_up_to_what_a_key_can_have_is_searched_within_its_ends(tmp_path):
    gamma = {"low": 0.99991, "high": 0.99993}  # of three digits it would be 1
    assert tune(study(tmp_path, space={"all": {"learning": {"gamma": gamma}}}), {}) == "done"
    assert {(row["state"], row["learning.gamma"]) for row in table(tmp_path)} == {("complete", "0.99993")}


def test_ends_that_other_keys_may_suit_are_left_to_the_trials():
    tuned = learned("tuned/sac_ts")
    check_ends({"actions.name": Choices(choices=["single", "exactly_k"])}, tuned)
    check_ends({"actions.k": Choices(choices=[None, 2])}, tuned)
    with pytest.raises(InputError, match=r"tune\.space: scheduler\.actions\.name: must be .* got 'some'"):
        check_ends({"actions.name": Choices(choices=["single", "some"])}, tuned)


def test_a_plan_counts_the_trials_and_writes_nothing(tmp_path):
    plan = plan_tune(study(tmp_path), {})
    assert (plan["state"], plan["label"]) == ("to do", "tuned/drlcoedge")
    assert not (tmp_path / "jobs").exists()
    tune(study(tmp_path), {})
    plan = plan_tune(study(tmp_path, n_trials=5), {})
    assert plan["state"] == "3 of 5 trials"
    assert plan["estimate_s"] > 0
    assert plan_tune(study(tmp_path), {})["state"] == "done"


def test_a_study_of_another_code_version_is_not_continued_silently(tmp_path, monkeypatch):
    tune(study(tmp_path, n_trials=1), {})
    monkeypatch.setattr(fingerprint, "code_version", lambda: "0" * 64)
    with pytest.raises(InputError, match="another version of the code"):
        tune(study(tmp_path), {})
    assert tune(study(tmp_path), {"accept_code": True}) == "done"
    assert len(table(tmp_path)) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tune": {"evaluate_seed": 1}}, r"tune\.evaluate_seed: must differ from evaluate\.seed"),
        ({"tune": {"n_trials": 0}}, r"tune\.n_trials: must be >= 1"),
        ({"tune": {"pruner": {"kind": "luck"}}}, r"tune\.pruner\.kind: must be one of"),
        ({"tune": {"space": {"dqn": {"agent": {"lrr": {"low": 1, "high": 2}}}}}}, r"space\.dqn\.agent\.lrr: .*no key"),
        ({"tune": {"space": {"dqn": {"agent": {"lr": {"low": 2, "high": 1}}}}}}, r"agent\.lr\.high: must be > low"),
        ({"tune": {"space": {"dqn": {"agent": {"greedy_to": {"low": 0.5}}}}}}, r"greedy_to\.high: is missing"),
        ({"tune": {"space": {"dqn": {"agent": {"lr": 3}}}}}, r"agent\.lr: low and high, or choices"),
        (
            {"tune": {"space": {"all": {"learning": {"gamma": {"low": 2.0, "high": 3.0}}}}}},
            r"tune\.space: scheduler\.learning\.gamma: must be < 1, got 2",
        ),
        ({"tune": {"space": {"all": {"learning": {"gamma": {"high": 1.0}}}}}}, r"learning\.gamma: must be < 1, got 1"),
        ({"tune": {"space": {"dqn": {"agent": {"hidden": {"choices": [[8], []]}}}}}}, r"scheduler\.agent\.hidden"),
        (
            {"tune": {"space": {"all": {"learning": {"batch": {"low": 8.0, "high": 16}}}}}},
            r"scheduler\.learning\.batch: must be a whole number, got 8",
        ),
        ({"workload": plain("workload", "azure_conv")}, "held out"),
    ],
)
def test_wrong_settings_name_their_key(tmp_path, change, message):
    data = study(tmp_path)
    if "workload" in change:
        data["workload"] = change.pop("workload") | {"load": 0.3}
    with pytest.raises(InputError, match=message):
        tune(merged(data, change), {})


def test_a_scheduler_about_which_nothing_is_varied_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to vary about dqn"):
        tune(study(tmp_path, space={"sac": {"agent": {"tau": {"low": 0.1, "high": 0.2}}}}), {})


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match="tune needs the extra 'optuna'"):
        tune(study(tmp_path), {})


def test_only_a_sweep_searches(capsys):
    assert launch("train", ["experiment=tune/edge5", "scheduler=tuned/drlcoedge"], [], Flags()) == 2
    assert "tune: belongs to a search, which is ddrl sweep" in capsys.readouterr().err


def test_every_learned_tuned_scheduler_has_a_space_and_the_same_budget(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert launch("sweep", ["experiment=tune/edge5"], [], Flags(), multirun=True, dry_run=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[-3] for line in lines if " edge5 " in line} == {
        "tuned/drlcoedge", "tuned/smcoedge", "tuned/amcoedge", "tuned/ddrl_amsa",
        "tuned/dqn_ts", "tuned/sac_ts", "tuned/ddrl_ats",
    }  # fmt: skip


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path):
    words = ["experiment=tune/edge5", "scheduler=tuned/drlcoedge", "train=tiny", "train.episode_slots=3", "seeds=1"]
    words += ["evaluate.traces=1", "env.clock.horizon_s=2", "tune.n_trials=10", "name=jobs", "tune.pruner=null"]
    code = "from ddrl_sched.cli import main; main()"
    command = [sys.executable, "-c", code, "sweep", *words]
    pair = [
        subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) for _ in range(2)
    ]
    assert [process.wait(300) for process in pair] == [0, 0]
    rows = table(tmp_path / "runs")
    assert [row["state"] for row in rows] == ["complete"] * 10
    assert n_runs(tmp_path / "runs") == 10
