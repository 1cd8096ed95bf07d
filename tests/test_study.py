"""Studies: lists of sweeps and evaluations as data, run by `ddrl sweep study=NAME`."""

import json
import re
import shlex

import pytest
import yaml
from typer.testing import CliRunner

from ddrl_sched import study as module
from ddrl_sched.cli import app
from ddrl_sched.config import InputError
from ddrl_sched.study import read_study, trained, with_words
from tests.conf_files import CONF, names, stated

SMALL = ["env.clock.horizon_s=5", "evaluate.traces=2"]
STUDY = {
    "name": "small",
    "evaluate_seed": 99,
    "steps": [
        {"about": "rules", "cpu_minutes": 0.1, "sweep": ["scheduler=eft,jsq2", *SMALL]},
        {
            "about": "points",
            "cpu_minutes": 0.1,
            "sweep": ["scheduler=best_k", *SMALL],
            "each": ["scheduler.k=1", "scheduler.k=2 workload.load=0.2"],
        },
        {"about": "a policy", "cpu_minutes": 0.1, "sweep": ["scheduler=tuned/dqn_ts", "train=tiny", "seeds=1", *SMALL]},
        {
            "about": "the policy elsewhere",
            "cpu_minutes": 0.1,
            "eval": ["workload=bursty", "workload.load=null", *SMALL],
            "trained_in": "small",
        },
    ],
    "reports": [[], ["--by-seed"]],
}


def ddrl(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def own(tmp_path):
    """Writes a study into a folder of yaml files and tells the words of a sweep that runs it."""

    def write(study=STUDY, name="mine", *words):
        file = tmp_path / "own" / "study" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(study if isinstance(study, str) else yaml.safe_dump(study), encoding="utf-8")
        return ["sweep", f"study={name}", "--config-dir", file.parents[1], f"runs_dir={tmp_path / 'runs'}", *words]

    return write


def changed(*path_and_value):
    """STUDY with another value at a path, or without what stands there."""
    study = json.loads(json.dumps(STUDY))
    *path, key, value = path_and_value
    here = study
    for part in path:
        here = here[part]
    if value is None:
        del here[key]
    else:
        here[key] = value
    return study


# ---- the studies of ours ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("study"))
def test_every_study_is_valid_and_its_words_name_what_there_is(name):
    study = read_study(name, [CONF])
    assert study.name == name
    for step in study.steps:
        for word in [*(step.sweep or []), *(step.eval or []), *" ".join(step.each or []).split()]:
            key, _, values = word.partition("=")
            if key in ("experiment", "scheduler", "env", "workload", "train"):
                assert set(values.split(",")) <= set(names(key)), word


def test_the_points_of_the_cartpole_search_are_those_of_its_table():
    study = read_study("tune_cartpole", [CONF])
    assert [len(step.each) for step in study.steps] == [24, 8] * 4


def test_every_experiment_and_study_names_the_seed_of_its_held_out_traces():
    for name in names("experiment"):
        if "cartpole" not in name:  # where training is what is judged
            states = [name, *(entry for entry in stated("experiment", name)["defaults"] if isinstance(entry, str))]
            of = [stated("experiment", one).get("evaluate", {}) for one in states if one in names("experiment")]
            assert any("seed" in group for group in of), name
    assert [name for name in names("study") if read_study(name, [CONF]).evaluate_seed is None] == ["tune_cartpole"]


def test_the_seed_of_a_study_is_that_of_its_jobs(own, tmp_path):
    study = {**STUDY, "steps": STUDY["steps"][:1]}
    assert ddrl(*own(study)).stderr == ""
    jobs = [json.loads(file.read_text()) for file in tmp_path.glob("runs/small/*/job.json")]
    assert [job["settings"]["evaluate"]["seed"] for job in jobs] == [99, 99]
    other = ddrl(*own(study, "mine", "evaluate.seed=7", "--dry-run"))
    assert "evaluate.seed=7: the held-out traces of study small are those of evaluate.seed=99" in other.stderr


# ---- running one -----------------------------------------------------------------------------------------------------


def test_a_study_runs_its_steps_and_skips_what_is_done(own, tmp_path):
    done = ddrl(*own())
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if line.startswith("step")] == [
        f"step {n} of 4: {step['about']} (about 6 s of CPU)" for n, step in enumerate(STUDY["steps"], 1)
    ]
    assert "study small: 5 commands, 0 failed; about 24 s of CPU in all" in done.stdout
    assert f"tables: ddrl report {tmp_path / 'runs/small'} --by-seed" in done.stdout
    labels = [json.loads(file.read_text())["scheduler"] for file in tmp_path.glob("runs/small/*/job.json")]
    assert sorted(labels) == ["best_k(k=1)", "best_k(k=2)", "eft", "jsq2", "tuned/dqn_ts", "tuned/dqn_ts"]
    again = ddrl(*own())
    assert again.exit_code == 0
    assert "2 skipped" in again.stdout
    assert len(list(tmp_path.glob("runs/small/*/job.json"))) == 6


def test_words_of_the_command_line_hold_for_every_step(own, tmp_path):
    study = {**STUDY, "steps": STUDY["steps"][:2]}
    done = ddrl(*own(study, "mine", "name=other", "evaluate.traces=1"))
    assert done.exit_code == 0, done.output
    jobs = [json.loads(file.read_text()) for file in tmp_path.glob("runs/other/*/job.json")]
    assert [job["settings"]["evaluate"]["traces"] for job in jobs] == [1] * 4
    assert f"ddrl report {tmp_path / 'runs/other'}" in done.stdout


def test_a_dry_run_lists_the_jobs_and_runs_nothing(own, tmp_path):
    study = {**STUDY, "steps": STUDY["steps"][:2]}
    done = ddrl(*own(study, "mine", "--dry-run"))
    assert done.exit_code == 0, done.output
    assert done.stdout.count("to do") == 4 + 3  # jobs and totals
    assert not (tmp_path / "runs" / "small").exists()


def test_the_commands_that_are_printed_can_be_typed(own):
    done = ddrl(*own({**STUDY, "steps": STUDY["steps"][:1]}, "mine", "--dry-run"))
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ddrl sweep")]
    assert ddrl(*shlex.split(line)[1:], "--dry-run").exit_code == 0


def test_a_failing_step_does_not_stop_the_others(own, tmp_path):
    study = changed("steps", 0, "sweep", ["scheduler=eft", "nonsense=1"])
    study["steps"] = study["steps"][:2]
    done = ddrl(*own(study))
    assert done.exit_code == 2
    assert "unknown key 'nonsense'" in done.stderr
    assert "3 commands, 1 failed" in done.stdout
    assert len(list(tmp_path.glob("runs/small/*/job.json"))) == 2


def test_failures_of_several_kinds_have_one_status(monkeypatch, own):
    answers = iter([0, 2, 4])
    monkeypatch.setattr(module, "launch", lambda *_, **__: next(answers))
    assert ddrl(*own({**STUDY, "steps": STUDY["steps"][:2]})).exit_code == 1


def test_what_was_not_trained_cannot_be_evaluated(own, tmp_path):
    study = {**STUDY, "steps": [STUDY["steps"][3] | {"trained_in": "amsa"}]}
    done = ddrl(*own(study))
    assert done.exit_code == 2
    runs = tmp_path / "runs"
    said = f"{runs / 'amsa'}: no trained scheduler; run `ddrl sweep study=amsa runs_dir={runs}` first"
    assert said in done.stderr.replace("\n", " ")
    assert done.stdout == ""  # told before the first step


def test_trained_leaves_out_what_is_no_job(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "job.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="no trained scheduler"):
        trained(tmp_path)


def test_a_given_word_replaces_that_of_its_key():
    assert with_words(["a=1", "+b.c=2"], ["b.c=3", "d=4"]) == ["a=1", "b.c=3", "d=4"]


# ---- what is wrong is said -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study=ams"], "study: there is no 'ams'; did you mean 'amsa'?"),
        (["study=zzz"], "study: there is no 'zzz'; known: ablation, amsa, "),
        (["study=ats"], "study: there is no 'ats'; `ddrl sweep experiment=ats` is one sweep"),
        (["study=amsa", "study=asking"], "study: given 2 times"),
        (["study=amsa", "name=a,b"], "name: one value expected with study, got 'name=a,b'"),
        (["study=amsa", "runs_dir=a,b"], "runs_dir: one value expected with study, got 'runs_dir=a,b'"),
        (["study=amsa", "--cfg", "job"], "--cfg: not with study"),
        (["+study=zzz"], "study: there is no 'zzz'"),
        (["study=amsa", "experiment=ats"], "experiment: not with study, whose steps name their experiments"),
    ],
)
def test_a_study_that_cannot_be_meant(words, message):
    done = ddrl("sweep", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_an_installation_without_published_results_says_that_they_come_with_the_repository(tmp_path, monkeypatch):
    study = read_study("quickstart", [CONF])
    monkeypatch.setattr(module, "conf_dir", lambda: tmp_path / "conf")
    with pytest.raises(InputError, match="come with the repository"):
        study.steps[1].trained_folders(tmp_path / "runs")


def test_only_a_sweep_runs_a_study():
    done = ddrl("eval", "study=amsa")
    assert done.exit_code == 2
    assert "study: only `ddrl sweep study=NAME` runs one" in done.stderr


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("steps", 0, "sweep", "scheduler=eft"), r"steps\[0\]\.sweep: must be a list, got 'scheduler=eft'"),
        (("steps", 0, "sweep", ["eft"]), r"steps\[0\]\.sweep\[0\]: must be KEY=VALUE, got 'eft'"),
        (("steps", 0, "sweep", None), r"steps\[0\]: one of sweep and eval must be given"),
        (("steps", 3, "trained_in", None), r"steps\[3\]\.trained_in: it or shipped must be given with eval"),
        (("steps", 1, "each", ["--help"]), r"steps\[1\]\.each\[0\]: must be KEY=VALUE, got '--help'"),
        (("steps", 3, "shipped", "amsa"), r"steps\[3\]\.shipped: not beside trained_in"),
        (("steps", 1, "cpu_minuts", 3), r"steps\[1\]\.cpu_minuts: unknown key; did you mean 'cpu_minutes'\?"),
        (("steps", []), r"steps: must have at least 1 entries"),
        (("name", "../x/y"), r"name: must be 1-64 letters"),
    ],
)
def test_a_wrong_yaml_is_named_with_its_key(own, path, message):
    done = ddrl(*own(changed(*path), "wrong"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.search(rf"own/study/wrong\.yaml: {message}", done.stderr), done.stderr


def test_what_is_no_yaml_is_named_with_its_line(own):
    done = ddrl(*own("name: x\nsteps: [", "wrong"))
    assert done.exit_code == 2
    assert re.search(r"own/study/wrong\.yaml, line \d: cannot read yaml", done.stderr)
