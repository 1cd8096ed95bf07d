"""Composition, labels, sweeps and error messages, with `jobs.kinds` replaced by a stub at its boundary."""

import json
import re
import shutil
import sys
import types
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ddrl_sched import compose, composing_errors
from ddrl_sched import launch as launch_module
from ddrl_sched.conf_folder import conf_dir
from ddrl_sched.config import InputError, Settings
from ddrl_sched.display import duration
from ddrl_sched.dry_run import plan_table
from ddrl_sched.jobs import kinds
from ddrl_sched.jobs.request import Flags, JobSpec, Plan, Result, World
from ddrl_sched.labels import label
from ddrl_sched.launch import launch
from ddrl_sched.overrides import canonical, n_values, parsed
from ddrl_sched.yaml_files import check

TOY = {  # a small world of choices beside our own base.yaml, train.yaml, eval.yaml, sweep.yaml and launcher/
    "env/edge5": "# Five servers\nname: edge5\nspeed_gcps: [1.0, 2.0]\n",
    "workload/poisson": "# Poisson\nname: poisson\nload: 0.3\n",
    "scheduler/ddrl_amsa": "# Learned\ndefaults:\n  - _self_\n  - /agent@agent: dsac\nname: ddrl_amsa\n",
    "scheduler/best_k": "# Best k\nname: best_k\nk: 3\n",
    "scheduler/best_of": "# Best of some\nname: best_of\nk: 4\nof: null\n",
    "train/default": "# Long\nlr: 0.1\n",
    "train/fast": "# Short\nlr: 0.2\n",
    "agent/dsac": "# Diffusion\nname: dsac\nlr: 0.001\n",
    "agent/sac": "# Gaussian\nname: sac\nlr: 0.002\n",
    "experiment/study": """# @package _global_
# A study
defaults:
  - override /scheduler: best_k
name: study
seeds: 2
workload:
  load: 0.5
hydra:
  sweeper:
    params:
      scheduler: best_k,ddrl_amsa
      workload.load: 0.3,0.6
""",
}


def write_conf(folder: Path) -> Path:
    """Our own root files and launchers with the toy choices."""
    conf = folder / "conf"
    shutil.copytree(conf_dir() / "launcher", conf / "launcher")
    for root in ("base", "train", "eval", "sweep"):
        shutil.copy(conf_dir() / f"{root}.yaml", conf)
    for name, text in TOY.items():
        (conf / name).parent.mkdir(exist_ok=True)
        (conf / f"{name}.yaml").write_text(text, encoding="utf-8")
    return conf


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """The data of every job that ran. A load of 0.6 fails, a load of 0 is bad input, seed 7 was done before."""
    seen = []

    def resolve(request):
        load = request.data["workload"]["load"]
        world = World(request.data["env"]["name"], load if type(load) in (int, float) else None, "hash")
        folder = Path("runs/adhoc/a1b2")
        return JobSpec("toy", request, Toy(), request.label, request.overrides, "a1b2", folder, {}, world=world)

    def run(spec):
        request = spec.request
        check_load(request.data)
        if request.data["workload"]["load"] == 0.6:
            raise RuntimeError("out of luck")
        beside = {"label": spec.label, "overrides": spec.overrides, "runs_dir": str(request.runs_dir)}
        seen.append({**request.data, **beside, "command": spec.command, "flags": spec.flags})
        return Result("skipped" if request.data["seed"] == 7 else "done")

    def plan(spec):
        data = spec.request.data
        check_load(data)
        state = "done" if data["seed"] == 7 else "to do"
        return Plan("a1b2", state, spec.label, data["env"]["name"], data["workload"]["load"], 50.0 * data["seeds"])

    for function in (resolve, run, plan):
        monkeypatch.setattr(kinds, function.__name__, function)
    monkeypatch.setattr(launch_module, "done_folder", lambda spec: spec.folder)
    summary = types.ModuleType("ddrl_sched.report.summary")
    summary.summary = lambda folder: f"results: {folder}"
    monkeypatch.setitem(sys.modules, summary.__name__, summary)
    conf = write_conf(tmp_path)
    for module in (compose, composing_errors):
        monkeypatch.setattr(module, "conf_dir", lambda: conf)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return seen


class Toy(Settings):
    """Settings of a toy job: none."""


def check_load(data):
    if data["workload"]["load"] == 0:
        raise InputError("workload.load: greater than 0 expected, got 0")


def start(command, *words, flags=(), **options):
    """launch() as the command line calls it."""
    how = {key: options.pop(key) for key in ("multirun", "dry_run") if key in options}
    how = {"multirun": command == "sweep", **how}
    return launch(command, list(words), list(flags), Flags(**options), **how)


# --- one job


def test_a_job_gets_the_composed_config_as_plain_data(jobs):
    assert start("train", "seeds=2", "scheduler.agent.lr=0.5", run="/somewhere") == 0
    (job,) = jobs
    assert job["env"] == {"name": "edge5", "speed_gcps": [1.0, 2.0]}
    assert job["scheduler"] == {"name": "ddrl_amsa", "agent": {"name": "dsac", "lr": 0.5}}
    assert (job["seeds"], job["seed"], job["name"], job["train"]) == (2, 0, "adhoc", {"lr": 0.1})
    assert job["overrides"] == ["seeds=2", "scheduler.agent.lr=0.5"]
    assert (job["command"], job["flags"]) == ("train", Flags(run="/somewhere"))
    assert job["runs_dir"] == str(Path.cwd() / "runs")
    assert "launcher" not in job
    assert "hydra" not in job
    json.dumps({key: value for key, value in job.items() if key != "flags"})


def test_an_experiment_is_above_the_defaults_and_below_the_command_line(jobs):
    start("eval", "experiment=study")
    start("eval", "experiment=study", "workload.load=0.9", "scheduler=ddrl_amsa", "train=fast")
    assert [job["scheduler"]["name"] for job in jobs] == ["best_k", "ddrl_amsa"]
    assert [job["workload"]["load"] for job in jobs] == [0.5, 0.9]
    assert [job["train"]["lr"] for job in jobs] == [0.1, 0.2]
    assert [job["name"] for job in jobs] == ["study", "study"]


def test_an_evaluation_of_a_run_folder_is_reported_under_its_name(jobs, capsys):
    start("eval", "seed=3", run="/runs/a1")
    assert capsys.readouterr().out == "done  /runs/a1  seed=3\nresults: runs/adhoc/a1b2\n"


def test_hydra_leaves_nothing_behind(jobs):
    start("train")
    start("sweep", "scheduler=best_k")
    start("sweep", "scheduler=best_k", dry_run=True)
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_of_the_user_adds_choices(jobs, tmp_path):
    own = tmp_path / "own" / "scheduler"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# Mine\nname: mine:Greedy\n", encoding="utf-8")
    assert start("eval", "scheduler=mine", flags=["--config-dir", str(tmp_path / "own")]) == 0
    assert jobs[0]["scheduler"] == {"name": "mine:Greedy"}
    assert jobs[0]["label"] == "mine"


def test_a_class_of_the_user_passes_through_as_data(jobs):
    start("eval", "scheduler=best_k", "scheduler.name=my_module:Greedy")
    assert jobs[0]["scheduler"] == {"name": "my_module:Greedy", "k": 3}


def test_cfg_shows_the_config_and_runs_nothing(jobs, capsys):
    assert start("sweep", "experiment=study", flags=["--cfg", "job"]) == 0
    assert OmegaConf.create(capsys.readouterr().out)["workload"]["load"] == 0.5
    assert jobs == []


def test_a_key_of_a_group_is_found_without_the_group(jobs):
    with pytest.raises(InputError, match=r"unknown key 'load'; did you mean 'workload\.load'\?"):
        start("eval", "load=0.5")
    with pytest.raises(InputError, match=r"unknown key 'defaults'; known: "):
        start("eval", "defaults=0.5")


def test_a_failing_job_says_why_on_stderr(jobs, capsys):
    assert start("train", "workload.load=0.6") == 1
    said = re.sub(r"line \d+", "line N", capsys.readouterr().err)
    assert said == "error: RuntimeError: out of luck (test_launch.py, line N; --debug shows more)\n"


# --- many jobs


def test_a_sweep_runs_every_combination(jobs):
    assert start("sweep", "scheduler=best_k,ddrl_amsa", "workload.load=0.1,0.2") == 0
    pairs = [(job["scheduler"]["name"], job["workload"]["load"]) for job in jobs]
    assert pairs == [("best_k", 0.1), ("best_k", 0.2), ("ddrl_amsa", 0.1), ("ddrl_amsa", 0.2)]


def test_a_sweep_goes_on_after_a_failing_job_and_names_it(jobs, capsys):
    assert start("sweep", "experiment=study", "scheduler=best_k", "workload.load=0.6,0.3") == 1
    assert [job["workload"]["load"] for job in jobs] == [0.3]
    out = capsys.readouterr().out
    assert "2 jobs: 1 done, 0 skipped, 1 failed" in out
    assert "failed  best_k  scheduler=best_k  workload.load=0.6" in out.split("2 jobs:")[0]
    assert "failed  best_k  scheduler=best_k  workload.load=0.6" in out.split("2 jobs:")[1]
    assert "out of luck" in out.split("2 jobs:")[1]
    assert out.count("out of luck") == 1


def test_the_command_line_wins_over_the_combinations_of_an_experiment(jobs):
    start("sweep", "experiment=study", "scheduler=best_k", "workload.load=0.4")
    assert [(job["scheduler"]["name"], job["workload"]["load"]) for job in jobs] == [("best_k", 0.4)]


def test_skipped_jobs_are_counted(jobs, capsys):
    assert start("sweep", "seed=7,8") == 0
    assert "2 jobs: 1 done, 1 skipped, 0 failed" in capsys.readouterr().out


def test_a_sweep_of_bad_input_alone_exits_with_2_and_a_mixed_one_with_1(jobs):
    assert start("sweep", "workload.load=0,0.1") == 2
    assert start("sweep", "workload.load=0,0.6") == 1


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("scheduler.k=2", "k", 2),
        ("scheduler.k=[1,2]", "k", [1, 2]),
        ("+scheduler.own=1", "own", 1),
        ("+scheduler.own='a, b'", "own", "a, b"),
        ("+scheduler.own='7'", "own", "7"),
        ("+scheduler.own=null", "own", None),
    ],
)
def test_one_value_goes_to_all_schedulers_of_a_sweep_though_the_default_one_has_no_such_key(jobs, word, key, value):
    assert start("sweep", "scheduler=best_k,best_of", word) == 0
    assert [(job["scheduler"]["name"], job["scheduler"][key]) for job in jobs] == [
        ("best_k", value),
        ("best_of", value),
    ]
    assert all(job["overrides"][1] == word for job in jobs) or "'" in word


def test_one_value_goes_to_the_schedulers_of_an_experiment(jobs):
    assert start("sweep", "experiment=study", "scheduler=best_k,best_of", "scheduler.k=2", "workload.load=0.3") == 0
    assert [job["scheduler"]["k"] for job in jobs] == [2, 2]


def test_a_key_that_one_of_the_schedulers_lacks_is_named_before_any_job(jobs):
    with pytest.raises(InputError, match=r"unknown key 'scheduler\.of'; known: k, name"):
        start("sweep", "scheduler=best_of,best_k", "scheduler.of=2")
    assert jobs == []


def test_train_takes_several_values_with_multirun(jobs):
    assert start("train", "seed=1,2", multirun=True) == 0
    assert [job["seed"] for job in jobs] == [1, 2]


def test_dry_run_lists_the_jobs_and_their_time(jobs, capsys):
    assert start("sweep", "scheduler=best_k", "scheduler.k=1,2", "seed=7,8", "launcher=processes", dry_run=True) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["job", "state", "time", "scheduler", "scenario", "load", "also"]
    assert sorted(line.split()[-4] for line in out[1:5]) == ["best_k(k=1)"] * 2 + ["best_k(k=2)"] * 2
    assert out[-1] == "4 jobs: 2 done, 2 to do; one at a time: 8 min"
    assert jobs == []


def test_dry_run_checks_every_job(jobs, capsys):
    with pytest.raises(InputError, match=r"workload\.load: greater than 0"):
        start("sweep", "workload.load=0.1,0", dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["to", "refused"]
    assert lines[2].split()[-1] == "workload.load=0"
    assert lines[-1].startswith("2 jobs: 1 to do, 1 refused; ")
    with pytest.raises(InputError, match=r"workload\.load: greater than 0"):
        start("sweep", "workload.load=0,0.0", dry_run=True)
    assert capsys.readouterr().out == ""


def test_hydras_own_launchers_are_refused(jobs):
    with pytest.raises(InputError, match="launcher=NAME"):
        start("sweep", "hydra/launcher=joblib")


def test_all_jobs_go_the_same_way(jobs):
    with pytest.raises(InputError, match="launcher: must be the same for all jobs"):
        start("sweep", "seed=1", "launcher=processes,ray")


def test_one_job_can_be_sent_away_too(jobs, monkeypatch, capsys):
    def dispatch(tasks, launcher):
        assert launcher == {"name": "processes", "n_jobs": 1}
        (task,) = tasks
        assert (task.spec.request.data["seed"], task.spec.command, task.cwd) == (4, "train", str(Path.cwd()))
        yield Result("failed", 4, "disk full", said="hello\n")

    monkeypatch.setattr(launch_module, "dispatch", dispatch)
    assert start("train", "seed=4", "launcher=processes", "launcher.n_jobs=1") == 4
    assert capsys.readouterr().err == "hello\nerror: disk full\n"


def test_what_several_jobs_have_to_say_is_said_once_below_their_names(jobs, capsys):
    assert start("sweep", "scheduler=best_k,ddrl_amsa", "workload.load=0,0.1") == 2
    captured = capsys.readouterr()
    assert captured.out.split("failed\n")[1].splitlines() == [
        "failed  best_k  scheduler=best_k  workload.load=0",
        "failed  ddrl_amsa  scheduler=ddrl_amsa  workload.load=0",
        "  error: workload.load: greater than 0 expected, got 0",
    ]
    assert captured.err == ""


def sent_with(monkeypatch, *words, flags=()):
    """What jobs of a sweep are given to the launcher with, and as what they are known."""
    seen = []

    def dispatch(tasks, launcher):
        seen.append((launcher, [task.spec.overrides for task in tasks]))
        yield from (Result("done", number=task.number) for task in tasks)

    monkeypatch.setattr(launch_module, "dispatch", dispatch)
    assert start("sweep", "scheduler=best_k", *words, flags=flags) == 0
    ((launcher, [overrides]),) = seen
    return launcher, overrides


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("launcher.options={qos:low}", {"qos": "low"}),
        ("launcher.options={qos: low}", {"qos": "low"}),
        ("launcher.options={qos: low, mem-per-cpu: 2}", {"qos": "low", "mem-per-cpu": 2}),
        ("launcher.options.qos=low", {"qos": "low"}),
        ("+launcher.options.qos=low", {"qos": "low"}),
        ("++launcher.options.qos=low", {"qos": "low"}),
        ("launcher.options={}", {}),
    ],
)
def test_options_of_sbatch_are_taken_in_any_form_and_name_no_job(jobs, monkeypatch, word, options):
    launcher, overrides = sent_with(monkeypatch, "launcher=slurm", word)
    assert launcher["options"] == options
    assert overrides == ["scheduler=best_k"]


def test_options_of_sbatch_are_taken_from_yamls_and_merged_with_those_of_the_command(jobs, monkeypatch, tmp_path):
    own = tmp_path / "own"
    for name, text in {
        "launcher/mine": "defaults: [slurm, _self_]\noptions: {qos: low}\n",
        "experiment/far": "# @package _global_\ndefaults: [override /launcher: mine]\nlauncher: {options: {nice: 5}}\n",
    }.items():
        (own / name).parent.mkdir(parents=True)
        (own / f"{name}.yaml").write_text(text, encoding="utf-8")
    launcher, _ = sent_with(
        monkeypatch, "experiment=far", "launcher.options.comment=x", flags=["--config-dir", str(own)]
    )
    assert launcher["options"] == {"qos": "low", "nice": 5, "comment": "x"}


def test_a_mistyped_key_beside_an_open_mapping_is_named(jobs):
    with pytest.raises(InputError, match=r"unknown key 'launcher\.option'; did you mean 'launcher\.options'"):
        start("sweep", "scheduler=best_k", "launcher=slurm", "launcher.option={qos:low}")
    with pytest.raises(InputError, match=r"launcher\.options: unknown key"):
        start("sweep", "scheduler=best_k", "launcher.options.qos=low")


NOTE = "note: workload.load=1.2: overload, queues grow as long as a trace lasts\n"


@pytest.mark.parametrize("how", [{}, {"dry_run": True}])
def test_an_overload_is_announced_once_for_each_load(jobs, capsys, how):
    start("sweep", "scheduler=best_k,ddrl_amsa", "workload.load=0.99,1.2,1.20", **how)
    assert capsys.readouterr().err == NOTE
    start("sweep", "workload.load=1,2", **how)
    assert [line.split(":")[1] for line in capsys.readouterr().err.splitlines()] == [
        " workload.load=1", " workload.load=2",
    ]  # fmt: skip
    start("sweep", "scheduler=best_k", "workload.load=0.99", **how)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["eval", "train"])
def test_a_single_job_announces_its_overload_too(jobs, capsys, command):
    start(command, "workload.load=1.2")
    assert capsys.readouterr().err == NOTE


def test_worlds_of_an_overload_are_named_where_there_are_several(jobs, capsys, tmp_path):
    (tmp_path / "conf/env/edge9.yaml").write_text("# Nine\nname: edge9\n", encoding="utf-8")
    start("sweep", "env=edge5,edge9", "workload.load=1.2")
    err = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in err] == ["workload.load=1.2 in edge5", "workload.load=1.2 in edge9"]


# --- labels


@pytest.mark.parametrize(
    ("overrides", "command", "expected"),
    [
        ([], "train", "x"),
        (["seeds=2", "env=edge20", "scheduler=x"], "train", "x"),
        (["scheduler.k=2"], "train", "x(k=2)"),
        (["+scheduler.k=2", "++scheduler.a=1"], "sweep", "x(a=1,k=2)"),
        (["agent@scheduler.agent=sac"], "eval", "x(agent=sac)"),
        (["scheduler.agent.lr=0.1", "train.tasks=5"], "train", "x(lr=0.1,tasks=5)"),
        (["train.checkpoint_s=5", "train.lr=5"], "train", "x(lr=5)"),
        (["scheduler.agent.lr=0.1", "train.lr=5"], "train", "x(agent.lr=0.1,train.lr=5)"),
        (["scheduler.agent.lr=0.1", "train.lr=5", "train=fast"], "sweep", "x(lr=0.1)"),
        (["scheduler.lr=1", "scheduler.agent.lr=2"], "sweep", "x(agent.lr=2,scheduler.lr=1)"),
        (["scheduler.actor.hidden.0=12", "scheduler.k=2"], "sweep", "x(hidden.0=12,k=2)"),
        (["scheduler.actions.name=gates", "scheduler.k=2"], "sweep", "x(actions=gates,k=2)"),
        (["scheduler.name=my:Rule"], "sweep", "x(name=my:Rule)"),
        (["scheduler.a.name=u", "scheduler.a.kind=v"], "sweep", "x(kind=v,name=u)"),
        (["agent@scheduler.agent=sac", "scheduler.agent.name=dqn"], "sweep", "x(agent=sac,name=dqn)"),
    ],
)
def test_label_tells_what_was_changed_about_the_scheduler(overrides, command, expected):
    assert label("x", overrides, command) == expected


def test_label_is_that_of_the_yaml_file_and_ignores_the_base_of_an_experiment(jobs):
    start("sweep", "experiment=study", "scheduler=best_k", "scheduler.k=2", "workload.load=0.3")
    assert jobs[0]["label"] == "best_k(k=2)"
    start("train", "experiment=study")
    assert jobs[1]["label"] == "best_k"


def test_budgets_of_a_learned_scheduler_that_a_sweep_varies_are_part_of_its_name(jobs, tmp_path):
    scheduler = tmp_path / "conf/scheduler/ddrl_amsa.yaml"
    scheduler.write_text(scheduler.read_text().replace("name: ddrl_amsa", "name: learned"), encoding="utf-8")

    def labels(*words):
        jobs.clear()
        start("sweep", *words)
        return [job["label"] for job in jobs]

    assert labels("scheduler=ddrl_amsa", "train=default,fast") == ["ddrl_amsa(train=default)", "ddrl_amsa(train=fast)"]
    assert labels("scheduler=ddrl_amsa", "train.lr=1,2", "train=fast") == ["ddrl_amsa(lr=1)", "ddrl_amsa(lr=2)"]
    assert labels("scheduler=ddrl_amsa", "train.lr=1", "train=fast", "seed=1,2") == ["ddrl_amsa"] * 2
    assert labels("scheduler=ddrl_amsa", "+train.checkpoint_s=1,2") == ["ddrl_amsa"] * 2
    assert labels("scheduler=best_k", "train=default,fast") == ["best_k"] * 2
    assert labels("scheduler=ddrl_amsa", "train=glob(*)") == ["ddrl_amsa(train=default)", "ddrl_amsa(train=fast)"]
    assert labels("scheduler=ddrl_amsa", "+train.x=1,2") == ["ddrl_amsa(x=1)", "ddrl_amsa(x=2)"]
    of_experiment = tmp_path / "conf/experiment/study.yaml"
    text = (
        of_experiment.read_text().replace("best_k,ddrl_amsa", "ddrl_amsa")
        + "      train.lr: 3,4\n      +train.x: 5,6\n"
    )
    of_experiment.write_text(text, encoding="utf-8")
    given = ("experiment=study", "workload.load=0.3")
    assert labels(*given)[::3] == ["ddrl_amsa(lr=3,x=5)", "ddrl_amsa(lr=4,x=6)"]
    assert labels(*given, "train.lr=3") == ["ddrl_amsa(x=5)", "ddrl_amsa(x=6)"]
    scheduler.write_text(scheduler.read_text().replace("name: learned", "name: gym_agent"), encoding="utf-8")
    assert labels("scheduler=ddrl_amsa", "train.lr=1,2") == ["ddrl_amsa(lr=1)", "ddrl_amsa(lr=2)"]


# --- what the user hears


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scheduler=best_kk"], "scheduler: there is no 'best_kk'; did you mean 'best_k'?"),
        (["env=moon"], "env: there is no 'moon'; known: edge5"),
        (["schedular=best_k"], "unknown key 'schedular'; did you mean 'scheduler'?"),
        (["scheduler=best_k", "scheduler.kk=1"], "unknown key 'scheduler.kk'; did you mean 'scheduler.k'?"),
        (["scheduler.agent.zzz=1"], "unknown key 'scheduler.agent.zzz'; known: lr, name"),
        (["seeds"], "cannot read 'seeds': KEY=VALUE expected"),
        (["seeds=[1"], "cannot read 'seeds=[1': KEY=VALUE expected (no viable alternative at input '[1')"),
        (["seeds=1,2"], "Ambiguous value for argument 'seeds=1,2': several values need `ddrl sweep` or --multirun"),
        (["scheduler=3"], "Config group override must be a string or a list. Got int (in scheduler=3)"),
    ],
)
def test_a_config_that_cannot_be_composed_is_bad_input(jobs, words, message):
    with pytest.raises(InputError) as error:
        start("train", *words)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seeds=${nope}", "error: seeds: Interpolation key 'nope' not found\n"),
        ("seeds=???", "error: seeds: must be given, as seeds=VALUE\n"),
        ("runs_dir=3", "error: runs_dir: a folder expected, got 3\n"),
    ],
)
def test_a_value_that_cannot_be_read_is_bad_input(jobs, capsys, word, message):
    assert start("train", word) == 2
    assert capsys.readouterr().err == message


def test_one_bad_choice_stops_a_sweep_before_any_job(jobs):
    with pytest.raises(InputError, match="there is no 'best_x'"):
        start("sweep", "scheduler=best_k,best_x")
    assert jobs == []


def test_broken_yaml_is_named(jobs, tmp_path):
    (tmp_path / "conf" / "env" / "broken.yaml").write_text("name: [1\nother: }", encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.yaml, line 2: cannot read yaml: "):
        start("train", "env=broken")


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "?"), (0.2, "0 s"), (99, "99 s"), (150, "2 min"), (5400, "90 min"), (9000, "2.5 h")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_plan_table_shows_what_else_tells_jobs_apart():
    one = Plan("x", "to do", "l", "e", 0.5, 1.0)
    common = ["scheduler=l", "env=e", "seeds=2", "workload.load=0.5"]
    table = plan_table([one, one], [[*common, f"workload={w}", "train=fast"] for w in ("conv", "code")])
    assert [line.split()[-1] for line in table.splitlines()[:3]] == ["also", "workload=conv", "workload=code"]
    assert "seeds" not in table


def test_plan_table_with_an_unknown_time():
    one = Plan("x", "to do", "l", "e", None)
    assert plan_table([one], [[]]).endswith("1 job: 1 to do; one at a time: 0 s")


# --- one spelling for each value


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("k=2", "k=2"),
        ("k=2.0", "k=2"),
        ("k=2e0", "k=2"),
        ("k=-0.0", "k=0"),
        ("k=0.50", "k=0.5"),
        ("k=1e-3", "k=0.001"),
        ("k=1_000", "k=1000"),
        ("k=1e300", "k=1e+300"),
        ("k=True", "k=true"),
        ("k=NULL", "k=null"),
        ("k='eft'", "k=eft"),
        ('k="a b"', "k=a b"),
        ("k='7'", "k='7'"),
        ("k='true'", "k='true'"),
        ("k='a, b'", "k='a, b'"),
        ("k=010", "k=010"),
        ("k=[1, 2.0]", "k=[1,2]"),
        ("k={b: 2.0, a: [x, 'y']}", "k={a:[x,y],b:2}"),
        ("+k=2.0", "+k=2"),
        ("agent@scheduler.agent='sac'", "agent@scheduler.agent=sac"),
        ("~k", "~k"),
        ("k=0.30,6e-1", "k=0.3,0.6"),
        ("k=glob(*)", "k=glob(*)"),
        ("no word", "no word"),
    ],
)
def test_a_value_has_one_spelling(word, expected):
    assert canonical(word) == expected
    assert canonical(expected) == expected


def test_labels_and_stored_words_come_from_the_value(jobs):
    for value in ("2", "2.0", "2e0"):
        start("eval", "scheduler=best_k", f"scheduler.k={value}")
    start("sweep", "scheduler=best_k", "scheduler.k=2.0,2e0")
    assert [job["label"] for job in jobs] == ["best_k(k=2)"] * 5
    assert {tuple(job["overrides"]) for job in jobs} == {("scheduler=best_k", "scheduler.k=2")}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("range(0.1,0.5,0.1)", [0.1, 0.2, 0.3, 0.4]),
        ("range(0.3,0.9,0.3)", [0.3, 0.6]),  # of binary numbers three
        ("range(0.9,0.3,-0.3)", [0.9, 0.6]),
        ("range(1,4)", [1, 2, 3]),
    ],
)
@pytest.mark.parametrize("where", ["words", "experiment"])
def test_a_range_has_the_decimals_that_were_meant(jobs, tmp_path, monkeypatch, given, expected, where):
    loads = []

    def run(spec):
        loads.append(spec.request.data["workload"]["load"])
        return Result("done")

    monkeypatch.setattr(kinds, "run", run)
    if where == "words":
        start("sweep", "scheduler=best_k", f"workload.load={given}")
    else:
        study = tmp_path / "conf/experiment/study.yaml"
        study.write_text(study.read_text().replace("workload.load: 0.3,0.6", f"workload.load: {given}"))
        start("sweep", "experiment=study", "scheduler=best_k")
    assert loads == expected


def test_a_default_that_is_stated_changes_no_name():
    words = ["env.clock.horizon_s=5", "evaluate.traces=2"]
    plans = [
        launch_module.plan("eval", ["scheduler=priced", *change, *words], [], Flags(try_out=False))[0].plan
        for change in ([], ["scheduler.congestion=1"], ["scheduler.congestion=1.0"], ["scheduler.congestion=2"])
    ]
    assert [plan.label for plan in plans] == ["priced", "priced", "priced", "priced(congestion=2)"]
    assert len({plan.job_id for plan in plans}) == 2


@pytest.mark.parametrize("word", ["seed=1_0", "env.clock.horizon_s=1_0", "workload.load=0.3,1_0", "seed=[1,2_0]"])
def test_a_number_with_a_line_in_it_is_refused(jobs, word):
    with pytest.raises(InputError, match=rf"{word.partition('=')[0]}: ._0 is .0 in yaml: write the number without _"):
        start("sweep", "scheduler=best_k", word)


@pytest.mark.parametrize("given", ["range(0.1,0.9,1e-9)", "range(0,inf,0.1)", "range(0.5,0.9,0)"])
def test_a_range_without_an_end_is_refused(jobs, given):
    with pytest.raises(InputError, match=r"range|workload\.load: 800,000,000 values"):
        start("sweep", "scheduler=best_k", f"workload.load={given}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=range(0,100000000)"], "seed: 100,000,000 values make 100,000,000 jobs, a sweep has at most 20,000"),
        (["seed=range(0,9000000000000000000000)"], "seed: 9,000,000,000,000,000,000,000 values make"),
        (["seed=range(-1e8,1e8,0.5)"], "seed: 400,000,000 values make 400,000,000 jobs"),
        (["seed=shuffle(range(100000000,0,-3))"], "seed: 33,333,334 values make 33,333,334 jobs"),
        (["seed=range(0,20000)", "seeds=1,2"], "seed, seeds: 20,000 x 2 values make 40,000 jobs"),
        (["+scheduler.new=range(0,20001)", "scheduler=best_k"], "scheduler.new: 20,001 values make 20,001 jobs"),
        (
            ["scheduler.name=range(0,20001)", "experiment=study"],
            "scheduler, workload.load, scheduler.name: 2 x 2 x 20,001 values",
        ),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_the_jobs_of_a_sweep_are_counted_before_they_are_listed(jobs, words, said, dry_run):
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        start("sweep", *words, dry_run=dry_run)
    assert jobs == []


def test_a_range_is_counted_as_it_is_listed():
    for word in ("range(1,7)", "range(7,1,-2)", "range(1,1)", "range(5,1)", "range(0.1,0.5,0.1)", "range(9,0.3,-0.3)"):
        override = parsed(f"k={word}")
        assert n_values(override) == len(list(override.sweep_iterator())), word
    assert [n_values(parsed(word)) for word in ("k=1", "k=1,2,3", "k=[1,2]", "~k", "k=choice(a,b)")] == [1, 3, 1, 1, 2]


# --- words that the shell has split, and sweeps of nothing


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["env.speed_gcps=[10,", "20]"], "env.speed_gcps=[10,20]"),
        (["env.speed_gcps=[10,", "20.0,", "30]"], "env.speed_gcps=[10,20,30]"),
        (["workload.load", "=", "0.6"], "workload.load=0.6"),
        (["workload.load=", "0.6"], "workload.load=0.6"),
        (["workload.load", "=0.6"], "workload.load=0.6"),
        (["scheduler=best_k,", "best_of"], "scheduler=best_k,best_of"),
        (["scheduler=best_k", ",best_of"], "scheduler=best_k,best_of"),
        (["launcher.options={qos:", "low}"], "launcher.options={qos:low}"),
        (["launcher.options={qos:", "low,", "a:", "1}"], "launcher.options={a:1,qos:low}"),
        (["launcher.options=qos:low", "launcher.options=time:5"], "launcher.options={qos:low,time:5}"),
    ],
)
def test_words_split_by_the_shell_get_the_form_in_quotes(jobs, words, meant):
    with pytest.raises(InputError, match=re.escape(f"'{meant}'")):
        start("eval", "seeds=2", *words, "name=x")


def test_a_sweep_of_nothing_asks_for_a_scheduler(jobs):
    for words in ([], ["seeds=2"], ["env=edge5", "workload.load=0.5"]):
        with pytest.raises(InputError, match=r"no scheduler named; for example `ddrl sweep scheduler=eft,jsq"):
            start("sweep", *words)
    assert start("sweep", "scheduler=best_k") == start("sweep", "seed=1,2") == 0


# --- yaml files of the user


WRONG = {  # name of a yaml in env/: text, what is said
    "itself": ("defaults: [itself]\n", r"circle: .*env/itself\.yaml -> .*env/itself\.yaml"),
    "ping": ("defaults: [pong]\n", r"circle: .*p([io])ng\.yaml -> .*p(?!\1)[io]ng\.yaml -> .*p\1ng\.yaml"),
    "pong": ("defaults: [ping]\n", r"circle: "),
    "below": ("defaults: [other, below]\nname: x\n", r"circle: .*below\.yaml -> .*below\.yaml"),
    "a_list": ("- a\n", r"a_list\.yaml, line 1: a group of keys .* got a list"),
    "text": ("# x\nhello\n", r"text\.yaml, line 2: a group of keys .* got a single value"),
    "empty": ("", r"empty\.yaml: no keys in it"),
    "comments": ("# x\n", r"comments\.yaml: no keys in it"),
    "defaults": ("name: x\ndefaults: edge5\n", r"defaults\.yaml, line 2: defaults: a list of names"),
    "numbers": ("defaults: [5]\n", r"numbers\.yaml, line 1: defaults: a list of names"),
    "unknown": ("defaults:\n  - edge6\n", r"there is no 'edge6'; did you mean 'edge5'\? .*unknown\.yaml, line 2"),
    "twice": ("name: x\nname: y\n", r"twice\.yaml, line 2: .*duplicate key name"),
    "tab": ("name: x\nservers:\n\tn: 5\n", r"tab\.yaml, line 3: cannot read yaml: "),
    "python": ("name: x\nrun: !!python/name:os.system ''\n", r"python\.yaml, line 2: a tag, .*not allowed"),
    "own_alias": ("name: &a [*a]\n", r"own_alias\.yaml, line 1: \*a refers to nothing before it, or to itself"),
    "deep": ("a: " + "{a: " * 3000 + "1" + "}" * 3000, r"deep\.yaml, line 1: "),
    "two": ("name: x\n---\nname: y\n", r"two\.yaml, line 2: .*single document"),
    "cycle": ("name: ${env.other}\nother: ${env.name}\n", r"env\.(name|other): .*cycle\.yaml, line [12]"),
    "must": ("name: ???\n", r"env\.name: must be given, as env\.name=VALUE"),
}
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{now}: &{now} [{','.join([f'*{before}'] * 9)}]\n" for before, now in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture
def own(tmp_path):
    """A folder of the user with all that is wrong; what is not chosen hurts nobody."""
    folder = tmp_path / "own" / "env"
    folder.mkdir(parents=True)
    for name, (text, _) in WRONG.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "bomb.yaml").write_text(BOMB, encoding="utf-8")
    (folder / "other.yaml").write_text("# Good\nname: other\n", encoding="utf-8")
    (folder / "latin.yaml").write_bytes("name: x\n# f\xfcnf\n".encode("latin-1"))
    (folder / "folder.yaml").mkdir()
    (folder / "gone.yaml").symlink_to("nowhere")
    return folder.parent


def refusal(own, *words):
    """What is said of words with the user's folder: by an error, or by a job."""
    try:
        code = start("eval", "scheduler=best_k", *words, flags=["--config-dir", str(own)])
    except InputError as error:
        return str(error)
    assert code == 2
    return None


@pytest.mark.parametrize("name", WRONG)
def test_a_yaml_that_cannot_be_composed_is_named(jobs, own, capsys, name):
    said = refusal(own, f"env={name}") or capsys.readouterr().err
    assert re.search(WRONG[name][1], said)
    assert jobs == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bomb", r"bomb\.yaml: more than 1,000,000 values"),
        ("latin", r"latin\.yaml, line 2: not UTF-8 text \(byte 0xfc\)"),
        ("folder", r"folder\.yaml: a yaml file expected, this is a folder"),
        ("gone", r"gone\.yaml: a yaml file expected, this is a link to nothing"),
    ],
)
def test_what_is_no_yaml_is_named(jobs, own, name, message):
    assert re.search(message, refusal(own, f"env={name}", "env.clock=1"))


def test_a_broken_yaml_that_is_not_chosen_stops_no_job(jobs, own):
    assert start("eval", "scheduler=best_k", "env=other", flags=["--config-dir", str(own)]) == 0


@pytest.mark.parametrize(("name", "what"), [("nowhere", "no such folder"), ("env/other.yaml", "not a folder")])
def test_a_config_dir_must_be_a_folder(jobs, own, name, what):
    assert re.fullmatch(rf"--config-dir .*{name}: .*{what}", refusal(own / name, "seeds=2"))


@pytest.mark.parametrize(
    "word",
    ["010", "-010", "0_7", "00", "1:30", "-1:30", "1:30.5", "190:20:30", "yes", "No", "ON", "off", "1_5", "1_", "0x_1"],
)
@pytest.mark.parametrize("text", ["name: x\nk: [5, {}]\n", "name: x\nk: {}\n", "name: x\n{}: 5\n"])
def test_what_yaml_reads_as_something_else_is_refused_with_its_line(tmp_path, word, text):
    file = tmp_path / "x.yaml"
    file.write_text(text.format(word), encoding="utf-8")
    with pytest.raises(InputError, match=rf"x\.yaml, line 2: {re.escape(word)} is "):
        check(file)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("10", 10), ("0", 0), ("-0", 0), ("1_000", 1000), ("0x10", 16), ("1e3", 1000.0), ("0.5", 0.5), ("08", "08"),
        ("true", True), ("y", "y"), ("'010'", "010"), ('"no"', "no"), ("0:30", "0:30"), ("1_a", "1_a"),
        ("2024-05-10", "2024-05-10"), ("~", None), ("!!str 010", "010"),
    ],
)  # fmt: skip
def test_what_yaml_reads_as_it_was_meant_is_taken(tmp_path, word, value):
    file = tmp_path / "x.yaml"
    file.write_text(f"k: {word}\nl: 1\n", encoding="utf-8")
    check(file)
    assert OmegaConf.load(file).k == value


def test_aliases_and_merged_keys_are_allowed(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n", encoding="utf-8")
    check(file)


def test_all_yaml_files_of_ours_pass_the_check():
    files = list(conf_dir().rglob("*.yaml"))
    assert len(files) > 100
    for file in files:
        check(file)
