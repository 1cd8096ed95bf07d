"""One job from settings to run folder, and what of it can be taken up again."""

import importlib
import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from safetensors.torch import load, save
from typer.testing import CliRunner

from ddrl_sched import fingerprint
from ddrl_sched.cli import app
from ddrl_sched.config import InputError
from ddrl_sched.jobs import records, schemas
from ddrl_sched.jobs.earlier_run import MAX_KEPT, _of_world, relabelled
from ddrl_sched.jobs.estimate_training import Pace, training_s
from ddrl_sched.report.load import load as load_runs
from ddrl_sched.report.statistics import delay_sums, mean_delay_s
from ddrl_sched.report.summary import summary
from ddrl_sched.run.evaluate import evaluate
from ddrl_sched.run.settings import MAX_NAME
from ddrl_sched.schedulers.learned_settings import learned_settings
from tests.conf_files import names, plain
from tests.jobs_by_hand import ask, plan_job, prepare, run_job
from tests.paths import DATA

NO_OPTIONS = {"debug": True}
GOLDEN = DATA / "runs_v2"


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
    return plain("scheduler", name)


@pytest.mark.parametrize("name", ["tuned/ddrl_amsa", "lad_ts", "smcoedge"])
def test_weights_evaluate_as_they_did_when_they_were_trained(tmp_path, name):
    data = settings(tmp_path) | {"scheduler": learned(name), "label": name}
    data["scheduler"]["learning"] |= {"start_slots": 3, "every_slots": 1}
    state, rows = table_of(tmp_path, data)
    assert state == "done"
    assert list(rows.seed) == [0, 0, 0, 1, 1, 1]
    folder = tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"]
    assert json.loads((folder / "job.json").read_text())["status"] == "done"
    assert records.is_done(folder)
    again = table_of(tmp_path, data, "eval", NO_OPTIONS | {"run": str(folder)})[1]
    assert again.mean_delay_s.tolist() == rows.mean_delay_s.tolist()


def test_how_trained_weights_decide_may_change(tmp_path):
    data = settings(tmp_path) | {"scheduler": learned("tuned/ddrl_amsa"), "label": "tuned/ddrl_amsa"}
    rows = table_of(tmp_path, data)[1]
    run = NO_OPTIONS | {"run": str(tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"])}
    assert data["scheduler"]["decisions"] == "sample"
    words = ["scheduler.decisions=greedy", "scheduler.agent.eval_start=noise"]
    changed = {
        **data["scheduler"],
        "decisions": "greedy",
        "agent": {**data["scheduler"]["agent"], "eval_start": "noise"},
    }
    seen = {}
    for given in ([], words[:1], words):
        again = table_of(tmp_path, data | {"scheduler": changed, "overrides": given}, "eval", run)[1]
        seen[again.scheduler[0]] = again.mean_delay_s.tolist()
    names_ = [
        "tuned/ddrl_amsa",
        "tuned/ddrl_amsa(decisions=greedy)",
        "tuned/ddrl_amsa(eval_start=noise,decisions=greedy)",
    ]
    assert list(seen) == names_
    again = table_of(tmp_path, data | {"overrides": ["scheduler.decisions=sample"]}, "eval", run)[1]
    assert again.scheduler[0] == names_[0]  # nothing is changed
    assert relabelled("a(k=2,decisions=greedy)", {"scheduler.decisions": "sample"}) == "a(k=2,decisions=sample)"
    assert relabelled("a(decisions=x)", {"scheduler.decisions": r"\1"}) == r"a(decisions=\1)"
    assert seen[names_[0]] == rows.mean_delay_s.tolist()
    assert len({tuple(delays) for delays in seen.values()}) == 3
    with pytest.raises(InputError, match=r"eval_start: has no effect with scheduler.decisions=sample"):
        plan_job(data | {"scheduler": {**changed, "decisions": "sample"}, "overrides": words[1:]}, "eval", run)
    text = (
        r"scheduler\.actions: belongs to the training; .*, name, scheduler\.decisions, scheduler\.agent\.eval_start can"
    )
    with pytest.raises(InputError, match=text):
        plan_job(data | {"overrides": ["scheduler.actions=x"]}, "eval", run)


def test_other_decisions_meet_the_same_random_numbers(tmp_path):
    """Streams go by the name of the training, whatever the rows are called."""
    job = prepare(settings(tmp_path, "random"), "sweep", NO_OPTIONS)

    def delays(label, drawn_as=None):
        rows = evaluate(job.problem, job.scheduler, label, 2, 3, traits=job.traits, drawn_as=drawn_as).rows
        assert {row["scheduler"] for row in rows} == {label}
        return [row["mean_delay_s"] for row in rows]

    assert delays("a") == delays("b", "a") != delays("b")
    data = settings(tmp_path) | {"scheduler": learned("tuned/ddrl_amsa"), "label": "tuned/ddrl_amsa"}
    table_of(tmp_path, data)
    run = NO_OPTIONS | {"run": str(tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"])}
    chain = {**data["scheduler"]["agent"], "eval_start": "noise"}
    given = data | {"scheduler": {**data["scheduler"], "decisions": "greedy", "agent": chain}}
    given["overrides"] = ["scheduler.decisions=greedy", "scheduler.agent.eval_start=noise"]
    rows = table_of(tmp_path, given, "eval", run)[1]
    job = prepare(given, "eval", run)
    about = (job.problem, job.scheduler, rows.scheduler[0], 2, 3)
    same, other = (evaluate(*about, traits=job.traits, drawn_as=name).rows for name in (job.spec.drawn_as, None))
    assert [row["mean_delay_s"] for row in same] == rows.mean_delay_s.tolist()
    assert [row["mean_delay_s"] for row in other] != rows.mean_delay_s.tolist()


def test_trainings_whose_draws_differ_have_jobs_of_their_own(tmp_path):
    """The same weights, evaluated in the same way under the same name, draw by the name of their training."""
    ids = []
    for decisions in ("sample", "greedy"):
        data = settings(tmp_path) | {"scheduler": {**learned("tuned/ddrl_amsa"), "decisions": decisions}}
        data["label"] = f"tuned/ddrl_amsa(decisions={decisions})"
        assert run_job(data, "sweep", NO_OPTIONS) == "done"
        run = NO_OPTIONS | {"run": str(tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"])}
        sampled = data | {"scheduler": {**data["scheduler"], "decisions": "sample"}}
        asked = ask(sampled | {"overrides": ["scheduler.decisions=sample"]}, "eval", run)
        assert asked.label == "tuned/ddrl_amsa(decisions=sample)"
        ids.append(asked.job_id)
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": ["env.clock.probe_s=\ud800"] + 110_000 * ["env."] + 30 * ["env.clock.horizon_s=6.0"]},
        {"overrides": [f"env.{'a' * 100_000}=1"]},
        {"scheduler": "x\ud800"},
    ],
)
def test_text_of_a_run_folder_does_no_harm(tmp_path, change):
    data = settings(tmp_path) | {"scheduler": learned("tuned/ddrl_amsa"), "label": "tuned/ddrl_amsa"}
    table_of(tmp_path, data)
    folder = tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"]
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(job | change, separators=(",", ":")))
    records.write_manifest(folder)
    run = NO_OPTIONS | {"run": str(folder)}
    kept = ask(data, "eval", run).overrides
    assert len(kept) <= MAX_KEPT
    assert all(len(word) <= MAX_NAME and word.isprintable() for word in kept)
    assert len(table_of(tmp_path, data, "eval", run)[1]) == 6
    found = load_runs([tmp_path / "jobs" / plan_job(data, "eval", run)["job_id"]])
    assert len(found.rows) == 6
    assert found.skipped == []


def test_an_evaluated_training_keeps_the_name_of_its_changed_world(tmp_path):
    data = settings(tmp_path) | {"scheduler": learned("tuned/ddrl_amsa"), "label": "tuned/ddrl_amsa"}
    data["env"]["clock"] |= {"probe_s": 0.02, "announce_s": 1.5}
    data["overrides"] = [
        "env.clock.probe_s=0.02",
        "env.clock.announce_s=1.5",
        "workload.load=0.3",
        "train.episodes=1",
    ]
    table_of(tmp_path, data)
    folder = tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"]
    run = NO_OPTIONS | {"run": str(folder)}
    plain_world = settings(tmp_path) | {"scheduler": data["scheduler"], "name": "again"}

    def of(words, env=None):
        given = plain_world | {"env": env or plain_world["env"], "overrides": words}
        assert run_job(given, "eval", run) == "done"
        return load_runs([ask(given, "eval", run).folder]).rows.scenario[0]

    assert _of_world("+env/clock@env.clock=slow") == "env.clock"  # as the report names it
    assert load_runs([folder]).rows.scenario[0] == "edge5(announce_s=1.5,probe_s=0.02)"
    assert of([]) == "edge5(announce_s=1.5,probe_s=0.02)"
    clock = {**plain_world["env"]["clock"], "probe_s": 0.001}
    dearer = of(["env.clock.probe_s=0.001"], plain_world["env"] | {"clock": clock})
    assert dearer == "edge5(announce_s=1.5,probe_s=0.001)"
    assert of(["env=edge5_links"], plain("env", "edge5_links")) == "edge5_links"
    group = plain_world["env"] | {"clock": clock}
    assert of(["env/clock@env.clock=cheap"], group) == "edge5(clock=cheap)"
    faster = {**plain_world["env"]["servers"], "speed_gcps": [12.0, 20.0, 30.0, 40.0, 50.0]}
    asked = ask(
        plain_world | {"env": plain_world["env"] | {"servers": faster}, "overrides": ["env.servers.speed_gcps.0=12"]},
        "eval",
        NO_OPTIONS | {"run": str(changed_at(folder, tmp_path, 1, 25.0))},
    )
    assert asked.settings.env.servers.speed_gcps == [12.0, 25.0, 30.0, 40.0, 50.0]
    shorter = plain_world["env"] | {"servers": {**faster, "speed_gcps": [12.0, 20.0]}}
    given = plain_world | {"env": shorter, "overrides": ["env.servers.speed_gcps.0=12"]}
    with pytest.raises(InputError, match=r"env\.servers\.speed_gcps\.0: .* the training's list has 5 entries, not 2"):
        ask(given, "eval", run)


def changed_at(folder, tmp_path, index, speed):
    """A copy of a run folder whose servers are others."""
    copy = shutil.copytree(folder, tmp_path / "other")
    job = json.loads((copy / "job.json").read_text())
    job["settings"]["env"]["servers"]["speed_gcps"][index] = speed
    (copy / "job.json").write_text(json.dumps(job))
    records.write_manifest(copy)
    return copy


def test_a_wrong_folder_or_world_for_weights_is_named(tmp_path):
    data = settings(tmp_path) | {"scheduler": learned("tuned/ddrl_amsa"), "label": "tuned/ddrl_amsa"}
    table_of(tmp_path, data)
    folder = tmp_path / "jobs" / plan_job(data, "sweep", NO_OPTIONS)["job_id"]
    shutil.copytree(folder, tmp_path / "jobs" / "another")  # of several trainings none is meant
    first = min(folder.name, "another")
    for key, command in (("run", "eval"), ("resume", "train")):
        with pytest.raises(InputError, match=rf"--{key} .*nowhere: there is no such folder"):
            ask(data, command, NO_OPTIONS | {key: str(tmp_path / "nowhere")})
        with pytest.raises(InputError, match=rf"--{key} .*jobs: expected one run folder; this holds 2, {first} for"):
            ask(data, command, NO_OPTIONS | {key: str(tmp_path / "jobs")})
    world = plain("env", "edge5")
    speeds = world["servers"]["speed_gcps"][:4]
    world |= {"name": "lab4", "servers": {**world["servers"], "speed_gcps": speeds}}
    world["network"] |= {"rate_mbps": world["network"]["rate_mbps"][:4]}
    with pytest.raises(InputError, match=r"weight_.* \(env lab4 has 4 servers; most learned .*trained with\)"):
        prepare(data | {"env": world, "overrides": ["env=lab4"]}, "eval", NO_OPTIONS | {"run": str(folder)})


LEARNED = [name for name in names("scheduler") if plain("scheduler", name)["name"] == "learned"]


@pytest.mark.parametrize("name", LEARNED)
def test_every_yaml_of_a_learned_scheduler_is_valid(name):
    data = learned(name)
    assert learned_settings(data).actions.name == data["actions"]["name"]
    with pytest.raises(InputError, match=r"scheduler\.learning\.batch"):
        learned_settings(data | {"learning": data["learning"] | {"batch": 0}})


@pytest.mark.parametrize(
    ("scheduler", "change", "message"),
    [
        ("best_k", {"k": 6}, r"scheduler\.k: exactly_k needs a k of 1 to 5 \(the number of servers\), got 6"),
        ("jsq2", {"sample": 6}, r"scheduler\.sample: at most 5 \(the number of servers\), got 6"),
        ("priced_slotted", {}, r"scheduler: priced_slotted needs a slotted workload"),
    ],
)
def test_what_a_scheduler_cannot_decide_is_found_before_the_job_runs(tmp_path, scheduler, change, message):
    data = settings(tmp_path, scheduler)
    with pytest.raises(InputError, match=message):
        plan_job(data | {"scheduler": data["scheduler"] | change}, "sweep", NO_OPTIONS)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("agent", "hidden"), [65_536] * 16, "scheduler.agent.hidden: for 10 learners it takes"),
        (("learning", "memory"), 10**9, "scheduler.learning.memory: for 10 learners it takes"),
        (("learning", "batch"), 10**9, "scheduler.learning.batch: for 10 learners it takes"),
        (("actions", "k"), 6, "scheduler.actions.k: exactly 6 of 5 cannot be open"),
    ],
)
def test_what_no_memory_holds_is_refused_before_it_is_taken(tmp_path, path, value, message):
    data = settings(tmp_path) | {"scheduler": learned("smcoedge")}
    data["scheduler"][path[0]] = data["scheduler"][path[0]] | {path[1]: value}
    with pytest.raises(InputError) as caught:
        plan_job(data, "sweep", NO_OPTIONS)
    assert message in str(caught.value)


def test_an_episode_that_no_memory_holds_is_refused(tmp_path):
    data = settings(tmp_path) | {"scheduler": learned("smcoedge")}
    data["train"]["episode_slots"] = 10**6
    data["seeds"] = 1000
    with pytest.raises(InputError, match=r"train\.episode_slots, train\.episode_tasks: an episode holds"):
        plan_job(data, "sweep", NO_OPTIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {name: tensor[..., :-1].contiguous() for name, tensor in w.items()}, "is of shape"),
        (lambda w: dict(list(w.items())[1:]), "expected tensors named"),
        (lambda w: {name: tensor.double() for name, tensor in w.items()}, "must hold finite numbers of 32 bits"),
        (lambda w: {name: tensor * float("nan") for name, tensor in w.items()}, "must hold finite numbers of 32 bits"),
        (None, "--run"),
    ],
)
def test_weights_of_another_shape_or_kind_are_refused_without_a_run_folder(tmp_path, change, message):
    folder = shutil.copytree(GOLDEN / "smcoedge", tmp_path / "received")
    file = folder / "weights.safetensors"
    file.write_bytes(b"no tensors" if change is None else save(change(load(file.read_bytes()))))
    records.write_manifest(folder)
    with pytest.raises(InputError, match=message) as caught:
        run_job(settings(tmp_path), "eval", {"run": str(folder)})
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "golden").exists()


@pytest.mark.parametrize(("column", "text"), [("update", "made 0 updates"), ("tasks_seen", "saw no task")])
def test_weights_of_a_seed_that_learnt_nothing_are_not_evaluated(tmp_path, column, text):
    folder = shutil.copytree(GOLDEN / "smcoedge", tmp_path / "received")
    assert plan_job(settings(tmp_path), "eval", {"run": str(folder)})["label"] == "smcoedge"
    curves = pd.read_parquet(folder / "curves.parquet")
    last = curves.seed.max()
    curves.loc[curves.seed == last, column] = 0
    records.write_table(folder / "curves.parquet", curves, schemas.CURVES_SCHEMA)
    records.write_manifest(folder)
    with pytest.raises(InputError, match=f"^--run {folder}: seed {last} {text} in its training"):
        run_job(settings(tmp_path), "eval", {"run": str(folder)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheduler": "\x1b]0;x\x07"}, ""),  # shown without its control characters
        ({"status": "running"}, "the job is still running or was interrupted"),
        ({"error": "x\x1b[2J\nbad", "status": "failed"}, r"the job failed: x\?\[2J\?bad"),
    ],
)
def test_what_a_run_folder_says_never_steers_the_terminal(tmp_path, change, message):
    folder = shutil.copytree(GOLDEN / "smcoedge", tmp_path / "received")
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(job | change))
    records.write_manifest(folder)
    if not message:
        assert plan_job(settings(tmp_path), "eval", {"run": str(folder)})["label"] == "?]0;x?"
        return
    with pytest.raises(InputError, match=message) as caught:
        plan_job(settings(tmp_path), "eval", {"run": str(folder)})
    assert str(caught.value).isprintable()


def test_a_folder_names_no_file_of_the_reader(tmp_path):
    """A trace or a graph that a received folder names is read only if the user names it."""
    folder = shutil.copytree(GOLDEN / "smcoedge", tmp_path / "received")
    trace = plain("workload", "trace") | {"load": 0.3, "path": "/etc/passwd"}
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(job | {"settings": job["settings"] | {"workload": trace}}))
    records.write_manifest(folder)
    with pytest.raises(InputError, match=r"workload\.path: --run .* names the file '/etc/passwd'"):
        plan_job(settings(tmp_path), "eval", {"run": str(folder)})
    data = settings(tmp_path, overrides=["+workload.path=nowhere.csv"])
    data["workload"]["path"] = "nowhere.csv"
    with pytest.raises(InputError, match=r"workload\.path: .*nowhere\.csv: No such file"):
        plan_job(data, "eval", {"run": str(folder)})


def test_nothing_is_written_through_a_link(tmp_path):
    data, outside = settings(tmp_path), tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "jobs").symlink_to(outside)
    with pytest.raises(InputError, match="a symbolic link leads elsewhere"):
        run_job(data, "sweep", NO_OPTIONS)
    assert list(outside.iterdir()) == []


def test_a_finished_folder_of_another_job_is_not_taken_for_this_one(tmp_path):
    data = settings(tmp_path)
    job_id = plan_job(data, "sweep", NO_OPTIONS)["job_id"]
    shutil.copytree(GOLDEN / "eft", tmp_path / "jobs" / job_id)
    assert records.is_done(tmp_path / "jobs" / job_id)
    assert plan_job(data, "sweep", NO_OPTIONS)["state"] == "interrupted"
    assert run_job(data, "sweep", NO_OPTIONS) == "done"


def test_messages_call_a_scheduler_by_its_yaml(tmp_path):
    with pytest.raises(InputError, match=r"^ddrl train: scheduler priced does not learn"):
        ask(settings(tmp_path, "priced"), "train", NO_OPTIONS)
    data = settings(tmp_path) | {"scheduler": learned("lad_ts"), "label": "lad_ts"}
    with pytest.raises(InputError, match=r"^ddrl eval: lad_ts needs trained weights: --run DIR"):
        ask(data, "eval", NO_OPTIONS)


def test_a_scheduler_of_ones_own_is_known_by_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    data = settings(tmp_path) | {"scheduler": {"name": "my_rule:Mine"}}

    def job_id(text):
        (tmp_path / "my_rule.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return ask(data, "sweep", NO_OPTIONS).job_id

    first, other, again = (job_id(text) for text in ("x = 1\n", "x = 2\n", "x = 1\n"))
    assert first == again != other
    with pytest.raises(InputError, match=r"scheduler\.name: cannot import 'no_rule:Mine': there is no such module"):
        ask(data | {"scheduler": {"name": "no_rule:Mine"}}, "sweep", NO_OPTIONS)


def test_a_job_of_other_code_is_accepted_for_the_very_same_input_alone(tmp_path, monkeypatch, capsys):
    """Settings, the trace file and the source of a scheduler of one's own: each makes another job."""
    accept, trace, rule = NO_OPTIONS | {"accept_code": True}, tmp_path / "requests.csv", tmp_path / "own_rule.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "own_rule", None)
    sys.modules.pop("own_rule")
    rule.write_text("from ddrl_sched.schedulers.static import Local as Mine\n", encoding="utf-8")
    data = settings(tmp_path) | {"scheduler": {"name": "own_rule:Mine"}}
    data["workload"] = plain("workload", "trace") | {"path": str(trace), "load": 0.3}

    def write(gap_s):
        trace.write_text("timestamp\n" + "".join(f"{gap_s * k}\n" for k in range(20_000)), encoding="utf-8")

    write(1)
    assert run_job(data, "sweep", accept) == "done"
    assert run_job(data, "sweep", accept) == "skipped"
    assert "accepted" not in capsys.readouterr().err
    monkeypatch.setattr(fingerprint, "code_version", lambda: "0" * 64)
    assert run_job(data, "sweep", accept) == "skipped"
    assert "accepted from code" in capsys.readouterr().err
    assert plan_job(data, "sweep", NO_OPTIONS)["state"] == "to do"
    for change in (
        lambda: write(2),
        lambda: rule.write_text(rule.read_text() + "# another rule\n", encoding="utf-8"),
        lambda: data.update(seed=1),
    ):
        change()
        assert run_job(data, "sweep", accept) == "done"
    assert len(list((tmp_path / "jobs").iterdir())) == 4


def test_an_evaluation_is_told_as_the_report_tells_it(tmp_path):
    folder = tmp_path / "jobs" / ask(settings(tmp_path), "sweep", NO_OPTIONS).job_id
    _, rows = table_of(tmp_path, settings(tmp_path))
    result, place = summary(folder).splitlines()
    mean = mean_delay_s(delay_sums(rows))
    value, lo, hi = (f"{1e3 * seconds:.4g}" for seconds in (mean.value, mean.lo, mean.hi))
    assert result.startswith(f"mean delay {value} ms [{lo}, {hi}] over 3 traces, late ")
    assert place == f"results: {folder}"


def test_a_training_says_how_to_go_on(tmp_path):
    data = settings(tmp_path) | {"scheduler": learned("tuned/ddrl_amsa"), "label": "tuned/ddrl_amsa"}
    folder = ask(data, "train", NO_OPTIONS).folder
    assert run_job(data, "train", NO_OPTIONS) == "done"
    result, place, then = summary(folder).splitlines()
    curves = pd.read_parquet(folder / "curves.parquet").query("metric == 'delay_s'")
    last = curves[curves.tasks_seen == curves.groupby("seed").tasks_seen.transform("max")].value.mean()
    assert result.startswith(f"mean delay of the last episode {1e3 * last:.4g} ms over 2 seeds")
    assert (place, then) == (f"results: {folder}", f"evaluate: ddrl eval --run {folder}")


def test_episodes_before_the_first_update_are_no_fault(tmp_path):
    data = settings(tmp_path) | {"scheduler": learned("tuned/smcoedge"), "label": "tuned/smcoedge"}
    data["scheduler"]["learning"] |= {"start_slots": 8}  # of 12
    folder = ask(data, "train", NO_OPTIONS).folder
    assert run_job(data, "train", NO_OPTIONS) == "done"
    updates = pd.read_parquet(folder / "curves.parquet")["update"].drop_duplicates().tolist()
    assert len(updates) == 2
    assert updates[0] == 0 < updates[1]
    assert summary(folder).startswith("mean delay of the last episode")


@pytest.mark.parametrize("name", ["tuned/smcoedge", "ddrl_amsa_price"])
def test_an_estimate_counts_looks(tmp_path, name):
    scheduler = learned(name) if name != "ddrl_amsa_price" else plain("scheduler", name)
    data = settings(tmp_path) | {"scheduler": scheduler, "label": name}

    def seconds(every):
        looking = data | {"train": data["train"] | {"episodes": 200, "validate_every": every, "loads": [0.1, 0.2, 0.3]}}
        return plan_job(looking, "sweep", NO_OPTIONS)["estimate_s"]

    assert seconds(1) > (1.5 if name == "tuned/smcoedge" else 1.01) * seconds(0)


@pytest.mark.parametrize("name", ["tuned/drlcoedge", "tuned/ddrl_amsa"])
def test_an_estimate_grows_with_the_training_and_touches_nothing(tmp_path, name):
    data = settings(tmp_path) | {"scheduler": learned(name), "label": name}

    def seconds(episodes):
        longer = data | {"train": data["train"] | {"episodes": episodes}}
        return plan_job(longer, "sweep", NO_OPTIONS)["estimate_s"]

    assert seconds(1000) > 10 * seconds(10) > 0
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_counts_the_updates_and_the_slots_of_a_training(tmp_path):
    """At a given pace: 50 episodes of 6 slots, the first of which only fill the memory."""
    data = settings(tmp_path) | {"scheduler": learned("drlcoedge"), "label": "drlcoedge"}
    data["train"] = data["train"] | {"episodes": 50}
    job = prepare(data, "train", NO_OPTIONS)
    learning, rate = job.scheduler.settings.learning, job.problem.plan.demand.tasks_per_s / 5
    spent = [training_s(job.problem, job.scheduler, job.spec.settings, Pace(*pace)) for pace in ((1, 0, 1), (0, 1, 1))]
    updates = learning.updates / learning.every_slots
    assert spent == pytest.approx([300, updates * (300 - max(learning.start_slots, learning.batch / rate))])


SKIP = """import sys
from ddrl_sched.cli import app
try: app(sys.argv[1:])
finally: print([m for m in ("torch", "numba", "pandas", "scipy") if m in sys.modules])
"""


def test_skipping_loads_nothing_heavy(tmp_path):
    words = [
        "sweep",
        "scheduler=eft,tuned/ddrl_amsa",
        "seeds=1",
        "train=tiny",
        "evaluate.traces=2",
        "env.clock.horizon_s=6",
    ]
    words.append(f"runs_dir={tmp_path}")
    assert CliRunner().invoke(app, words).exit_code == 0
    done = subprocess.run([sys.executable, "-c", SKIP, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["2 jobs: 0 done, 2 skipped, 0 failed", "[]"]


def test_wrong_settings_name_their_key(tmp_path):
    with pytest.raises(InputError, match="seeds"):
        run_job(settings(tmp_path, seeds=0), "sweep", NO_OPTIONS)
    with pytest.raises(InputError, match="does not learn"):
        run_job(settings(tmp_path), "train", NO_OPTIONS)
    data = settings(tmp_path)
    data["evaluate"]["replay_rule"] = "amcoedge"
    with pytest.raises(InputError, match=r"evaluate\.replay_rule"):
        run_job(data, "sweep", NO_OPTIONS)


def replayed(tmp_path, scheduler, rule, replay_rule, world="published_multi", **change):
    """(rows of the first rule, of the second) of a job in a published world."""
    data = settings(tmp_path, scheduler) | {group: plain(group, world) for group in ("env", "workload")}
    data["env"]["rule"] = rule
    data["env"]["clock"]["horizon_s"] = 10.0
    data["evaluate"] = data["evaluate"] | {"traces": 2, "replay_rule": replay_rule}
    data["scheduler"] = data["scheduler"] | change
    rows = table_of(tmp_path, data)[1]
    return [rows[rows.rule == name].drop(columns="decide_us").reset_index(drop=True) for name in (rule, replay_rule)]


@pytest.mark.parametrize(
    ("scheduler", "rule", "replay_rule", "world"),
    [
        ("split_capacity", "optimal", "amcoedge", "published_multi"),
        ("equal_finish", "optimal", "amcoedge", "published_multi"),
        ("equal_finish_tracked", "amcoedge", "smcoedge", "published_multi"),
        ("priced_slotted", "optimal", "amcoedge", "published_multi"),
        ("rand_coedge", "randcoedge", "amcoedge", "published_multi"),
        ("round_robin", "amcoedge", "optimal", "published_multi"),
        ("wrr_own", "dedgeai", "opt_ts", "published_single"),
        ("eft", "dedgeai", "opt_ts", "published_single"),
    ],
)
def test_a_replay_is_what_the_scheduler_does_directly_under_that_rule(tmp_path, scheduler, rule, replay_rule, world):
    """For schedulers whose choice of servers does not hang on the rule."""
    first, again = replayed(tmp_path, scheduler, rule, replay_rule, world)
    direct, back = replayed(tmp_path, scheduler, replay_rule, rule, world)
    pd.testing.assert_frame_equal(again, direct)
    pd.testing.assert_frame_equal(back, first)


def test_a_rule_that_does_not_know_the_sets_is_refused_before_the_job_runs(tmp_path):
    with pytest.raises(InputError, match=r"^evaluate\.replay_rule: drlcoedge: task 0 of replica 0 must select its own"):
        replayed(tmp_path, "equal_finish", "amcoedge", "drlcoedge")
    assert not (tmp_path / "jobs").exists()


def test_one_training_serves_all_loads_it_was_made_for(tmp_path, monkeypatch):
    data = settings(tmp_path, "ddrl_amsa_price")
    data["train"]["loads"] = [0.2, 0.4]
    data["scheduler"]["evolution"]["pairs"] = 2
    first = plan_job(data, "sweep", NO_OPTIONS)["job_id"]
    assert run_job(data, "sweep", NO_OPTIONS) == "done"
    again = {**data, "workload": {**data["workload"], "load": 0.5}}
    second = plan_job(again, "sweep", NO_OPTIONS)["job_id"]
    other_loads = {**again, "train": {**again["train"], "loads": [0.5]}}
    monkeypatch.setattr("ddrl_sched.jobs.training._train", lambda *_: pytest.fail("trained again"))
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
    monkeypatch.setattr("ddrl_sched.jobs.training._train", lambda *_: pytest.fail("trained again"))
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        run_job({**data, "workload": {**data["workload"], "load": 0.5}}, "sweep", NO_OPTIONS)


def test_the_only_training_of_a_folder_is_evaluated(tmp_path):
    data = settings(tmp_path) | {"scheduler": learned("tuned/dqn_ts"), "label": "tuned/dqn_ts"}
    data["scheduler"]["learning"] |= {"start_slots": 1, "batch": 4}
    assert run_job(data, "train") == "done"
    assert run_job(data, "eval", {"run": str(tmp_path / "jobs")}) == "done"
    assert run_job(data, "eval", {"run": str(tmp_path / "jobs")}) == "skipped"  # an evaluation beside it has no weights


def test_what_was_published_of_a_scheduler_is_no_part_of_its_job(tmp_path):
    data = settings(tmp_path, "amcoedge") | {"scheduler": learned("tuned/amcoedge")}
    claims = {"published_delay_s": 0.5, "family": "another"}
    one, other = (ask(data | {"scheduler": data["scheduler"] | change}) for change in ({}, claims))
    assert one.job_id == other.job_id
    assert one.settings != other.settings


def test_an_evaluation_says_where_its_weights_come_from(tmp_path):
    source = records.read_job(GOLDEN / "smcoedge")
    data = settings(tmp_path)
    assert run_job(data, "eval", NO_OPTIONS | {"run": str(GOLDEN / "smcoedge")}) == "done"
    (folder,) = (tmp_path / "golden").iterdir()
    kept = ("job_id", "overrides", "created", "cpu_s", "code_version")
    assert records.read_job(folder)["training"] == {key: source[key] for key in kept}
    assert source["training"] is None
