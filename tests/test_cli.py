"""The command line as users meet it: help, lists, exit statuses, signals, installed files."""

import importlib
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import sysconfig
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ddrl_sched import launch as launch_module
from ddrl_sched.cli import app
from ddrl_sched.conf_folder import GROUPS, conf_dir
from ddrl_sched.failures import ExplainedError, explain
from ddrl_sched.fingerprint import code_version
from ddrl_sched.jobs.request import Flags
from ddrl_sched.listing import first_comment, listing, options
from tests.paths import REPOSITORY

HEAVY = ("torch", "numpy", "numba", "scipy", "pandas", "pyarrow", "hydra", "omegaconf", "pydantic", "yaml", "rich")


def ddrl(*words):
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def asked(monkeypatch):
    """What launch() was asked for; it answers 7, or raises what stands in `error`."""
    calls = types.SimpleNamespace(error=None, args=None)

    def launch(*args, **how):
        calls.args = (*args, how)
        if calls.error:
            raise calls.error
        return 7

    monkeypatch.setattr(launch_module, "launch", launch)
    return calls


@pytest.fixture
def module(monkeypatch):
    """Put a stub in place of a module of the package."""

    def put(name, **functions):
        stub = types.ModuleType(name)
        stub.__dict__.update(functions)
        monkeypatch.setitem(sys.modules, name, stub)

    return put


def test_help_imports_nothing_heavy():
    code = "import sys\nfrom ddrl_sched.cli import app\ntry: app(['--help'])\n"
    code += f"finally: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stderr.strip() == "[]"
    for command in ("train", "eval", "sweep", "report", "list", "replay"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("between", [[], ["--"]])
def test_overrides_are_plain_words_before_or_after_a_double_dash(asked, between):
    assert ddrl("sweep", *between, "experiment=azure", "train=fast").exit_code == 7
    command, overrides, flags, options, how = asked.args
    assert (command, overrides, flags) == ("sweep", ["experiment=azure", "train=fast"], [])
    assert options == Flags()
    assert how == {"multirun": True, "dry_run": False}


def test_flags_stand_anywhere(asked):
    ddrl("sweep", "--dry-run", "a=1", "--retry-failed", "b=2", "--accept-code", "~c")
    assert asked.args[1] == ["a=1", "b=2", "~c"]
    assert asked.args[3] == Flags(accept_code=True, retry_failed=True)
    assert asked.args[4] == {"multirun": True, "dry_run": True}


@pytest.mark.parametrize("command", ["train", "eval", "sweep"])
def test_flags_of_hydra_are_handed_on(asked, command):
    ddrl(command, "-c", "job", "--resolve", "-p", "env", "--config-dir", "own", "--info", "defaults", "--hydra-help")
    given = ["--cfg", "job", "--package", "env", "--info", "defaults", "--config-dir", "own"]
    assert asked.args[2] == [*given, "--resolve", "--hydra-help"]


def test_eval_takes_a_run_folder(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ddrl("eval", "--run", "runs/a", "--multirun")
    assert asked.args[3] == Flags(run=tmp_path / "runs" / "a")
    assert asked.args[4] == {"multirun": True}


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("workload.load: too large"), 2, "error: workload.load: too large\n"),
        (OSError("runs/a: no space left"), 4, "error: runs/a: no space left\n"),
        (KeyError("x"), 1, "error: KeyError: 'x' (test_cli.py, line N; --debug shows more)\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_an_error_is_one_message_and_an_exit_status(asked, error, status, message):
    asked.error = error
    done = ddrl("train")
    assert (done.exit_code, re.sub(r"line \d+", "line N", done.stderr)) == (status, message)
    assert "Traceback" in ddrl("train", "--debug").stderr


def test_records_errors_exit_with_4(asked):
    from ddrl_sched.jobs.records import RecordsError

    asked.error = RecordsError("runs/a/job.json: manifest does not match")
    assert ddrl("train").exit_code == 4


def test_unknown_options_exit_with_2(asked):
    assert ddrl("train", "--nope").exit_code == 2
    assert ddrl("train", "--cfg", "nope").exit_code == 2
    assert asked.args is None


def test_an_unknown_choice_of_our_own_conf_is_named_with_its_neighbour():
    done = ddrl("train", "env=edge6")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: env: there is no 'edge6'; did you mean 'edge5")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "key"), [(["workload=trace"], "workload.path"), (["scheduler=best_k"], "scheduler.k")]
)
@pytest.mark.parametrize("command", ["eval", "sweep"])
def test_what_only_the_user_can_know_must_be_given(command, words, key, tmp_path):
    done = ddrl(command, "scheduler=eft", *words, f"runs_dir={tmp_path}")
    assert done.exit_code == 2
    assert f"error: {key}: must be given, as {key}=VALUE\n" in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_version_names_the_code():
    done = ddrl("--version")
    assert done.exit_code == 0
    assert done.stdout == f"ddrl {importlib.metadata.version('ddrl-sched')}, code {code_version()[:16]}\n"


def test_report_hands_its_arguments_on(module):
    seen = []
    importlib.import_module("ddrl_sched.report.table")
    module("ddrl_sched.report.tables", main=lambda *args, **how: seen.append((*args, how)) or 3)
    words = ["runs/a", "runs/b", "--baseline", "x", "--baseline", "y", "--format", "latex", "--out", "o", "--strict"]
    assert ddrl("report", *words).exit_code == 3
    assert ddrl("report").exit_code == 2
    assert seen == [
        ([Path("runs/a"), Path("runs/b")], ["x", "y"], "latex", Path("o"), True, {"wide": False, "kind": "results"})
    ]


def test_wide_is_refused_where_nothing_is_cut_to_a_width():
    said = ddrl("report", "runs", "--wide", "--format", "csv")
    assert (said.exit_code, "--wide: not with --format csv" in said.stderr) == (2, True)


def test_a_mistake_is_placed_outside_of_libraries():
    for mistake in (lambda: sysconfig.get_path("no such path"), lambda: np.take([1], 5)):  # KeyError, IndexError
        with pytest.raises(LookupError) as caught:
            mistake()
        assert re.search(r"\(test_cli\.py, line \d+;", explain(caught.value)[1])
    assert explain(ExplainedError("told")) == (1, "told")


def test_replay_hands_its_files_on(module):
    seen = []
    module("ddrl_sched.edge.golden_replay", replay=lambda *args: seen.append(args))
    done = ddrl("replay", "in.npz", "--out", "out.npz")
    assert (done.exit_code, done.stdout) == (0, "written: out.npz\n")
    assert seen == [(Path("in.npz"), Path("out.npz"))]


def test_list_shows_name_and_first_comment(tmp_path):
    own = tmp_path / "scheduler"
    own.mkdir()
    (own / "mine.yaml").write_text("# @package _global_\n\n#  What it does \nname: mine\n# more\n", encoding="utf-8")
    done = ddrl("list", "--config-dir", tmp_path)
    assert done.exit_code == 0
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert ["mine", "What it does"] in lines
    assert [title for line in lines if line for title in line[:1] if line[-1].startswith("(")] == [
        "schedulers",
        "scenarios",
        "workloads",
        "budgets",
        "launchers",
        "experiments",
        "studies",
        "agents",
        "families",
        "capacities",
    ]


def test_list_of_an_empty_folder_says_so(tmp_path):
    assert listing([tmp_path]).count("\n  none") == 10


@pytest.mark.parametrize("group", ["env", "ENV", "envs", "scenarios", "scenario"])
def test_list_of_one_group(group):
    done = ddrl("list", group)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "scenarios (env=NAME)"
    assert [line.split()[0] for line in lines[1:]] == sorted(file.stem for file in (conf_dir() / "env").glob("*.yaml"))


def test_list_finds_words_in_names_and_comments_and_in_sub_folders():
    out = ddrl("list", "scheduler", "PRICE", "mlp").stdout
    assert out.splitlines()[0] == "schedulers in ablation (scheduler=ablation/NAME)"
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["price_mlp"]
    assert "none with 'zzz' in its name or description" in ddrl("list", "scheduler", "zzz").stdout


def test_list_of_an_unknown_group_names_its_neighbour():
    done = ddrl("list", "schedulr")
    assert (done.exit_code, done.stderr.count("did you mean 'scheduler'?")) == (2, 1)
    assert (
        "known: scheduler, env, workload, train, launcher, experiment, study, agent, family"
        in ddrl("list", "zzz").stderr
    )


def test_list_leaves_out_what_cannot_be_used_and_says_why(tmp_path):
    own = tmp_path / "env"
    own.mkdir()
    (own / "good.yaml").write_text("# Good\nname: good\n", encoding="utf-8")
    (own / "latin.yaml").write_bytes("# F\xfcnf\nname: x\n".encode("latin-1"))
    (own / "folder.yaml").mkdir()
    (own / "gone.yaml").symlink_to("nowhere")
    done = ddrl("list", "env", "--config-dir", tmp_path)
    assert done.exit_code == 0
    assert re.search(r"^  good +Good$", done.stdout, re.MULTILINE)
    assert "latin" not in done.stdout
    assert sorted(re.findall(r"^left out: .*/(\w+)\.yaml", done.stderr, re.MULTILINE)) == ["folder", "gone", "latin"]
    assert ddrl("list", "--config-dir", tmp_path / "none").exit_code == 2


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_list_fits_the_terminal_and_breaks_no_word(columns, monkeypatch):
    wide = ddrl("list", "scheduler").stdout
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = ddrl("list", "scheduler").stdout
    assert narrow.split() == wide.split()
    longest = max(map(len, narrow.split())) + 6
    assert max(map(len, narrow.splitlines())) <= max(columns, longest)
    assert max(map(len, wide.splitlines())) > columns


@pytest.mark.parametrize("columns", [80, 120])
def test_list_of_everything_takes_one_line_each(columns, monkeypatch):
    whole = ddrl("list").stdout.splitlines()
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = ddrl("list").stdout.splitlines()
    assert lines[-2:] == ["", "descriptions in full: ddrl list GROUP [TEXT]"]
    assert [line.split()[:1] for line in lines[:-2]] == [line.split()[:1] for line in whole]
    assert max(map(len, lines)) <= columns
    assert "schedulers in tuned (scheduler=tuned/NAME)" in lines


def test_the_first_folder_wins(tmp_path):
    for folder, text in (("a", "# first"), ("b", "# second")):
        (tmp_path / folder / "env").mkdir(parents=True)
        (tmp_path / folder / "env" / "x.yaml").write_text(f"{text}\nname: x\n", encoding="utf-8")
    assert options("env", [tmp_path / "a", tmp_path / "b"]) == {"x": "first"}


@pytest.mark.parametrize("group", GROUPS.values())
def test_every_choice_of_ours_says_what_it_is(group):
    files = sorted((conf_dir() / group).rglob("*.yaml"))
    assert files
    assert [file.name for file in files if not first_comment(file)] == []


# --- signals


def wait_in(folder: Path, package: str) -> dict[str, str]:
    """An environment in which importing `package` (instead of the real one) says "ready" and then hangs."""
    (folder / package).mkdir()
    text = "import time\nprint('ready', flush=True)\ntime.sleep(300)\n"
    (folder / package / "__init__.py").write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"}


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR2, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_during_a_heavy_import_ends_quietly(tmp_path, number, status):
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # ignored where the tests run under nohup
    command = [sys.executable, "-c", f"{code}from ddrl_sched.cli import main; main()", "train"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=wait_in(tmp_path, "hydra"), cwd=tmp_path
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == status
    assert errors == ""


# --- installed files


def test_the_wheel_carries_conf_and_data(tmp_path):
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("conf", "ddrl_sched/conf"), ("ddrl_sched/data", "ddrl_sched/data")):
        files = [
            file for file in (REPOSITORY / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts
        ]
        assert files
        missing = {f"{inside}/{file.relative_to(REPOSITORY / folder)}" for file in files} - names
        assert missing == set()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = "from ddrl_sched.conf_folder import conf_dir; print(conf_dir())"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == tmp_path / "installed" / "ddrl_sched" / "conf"


@pytest.mark.parametrize("words", [["list"], ["report", "tests/data/runs_v2", "--wide"]])
def test_a_reader_that_has_seen_enough_is_no_error(words):
    """As of `ddrl list | head`: the pipe is closed before anything is read."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "ddrl_sched", *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=REPOSITORY, check=False)
    os.close(write)
    assert done.returncode == 141
    assert b"rror" not in done.stderr
