"""Folders that want to run, overwrite, connect or read: a report, eval --run and a sweep over them do nothing."""

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest

from ddrl_sched.jobs import checkpoint, records
from ddrl_sched.jobs.request import Flags
from ddrl_sched.launch import plan
from tests.paths import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "data" / "runs_v2"
CODE = [  # what Hydra's own list of forbidden targets lets pass, and what it does not
    {"_target_": "os.system", "command": "touch PWNED"},
    {"_target_": "pandas.read_pickle", "filepath_or_buffer": "PWNED.pkl"},
    {"_target_": "numpy.load", "file": "PWNED.pkl", "allow_pickle": True},
    {"_target_": "torch.load", "f": "PWNED.pkl", "weights_only": False},
    {"_target_": "torch.hub.load", "repo_or_dir": "PWNED", "model": "x", "source": "local"},
    {"_target_": "numpy.savetxt", "fname": "SECRET", "X": [1]},
    {"_target_": "urllib.request.urlopen", "url": "http://127.0.0.1:9/"},
    {"name": "os:system", "command": "touch PWNED"},
    {"name": "subprocess:Popen", "args": ["touch", "PWNED"]},
    {"name": "learned", "agent": {"_target_": "os.system", "name": "os:system"}},
]


class Payload:
    """A pickle that leaves a file behind."""

    def __reduce__(self):
        return os.system, ("touch PWNED",)


def signed(folder, **change):
    """job.json with other values, signed again as a stranger can."""
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, **change}))
    records.write_manifest(folder)


def settings_of(folder):
    return json.loads((folder / "job.json").read_text())["settings"]


def with_file(name, data):
    def change(folder, secret):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(data)
        records.write_manifest(folder)

    return change


def with_link(name):
    def change(folder, secret):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(secret)

    return change


def with_scheduler(code):
    return lambda folder, secret: signed(folder, settings=settings_of(folder) | {"scheduler": code})


def naming_a_file(group, key):
    def change(folder, secret):
        settings = settings_of(folder)
        settings[group] = settings[group] | (
            {key: str(secret)}
            if group == "workload"
            else {"network": settings[group]["network"] | {"kind": "graph", key: str(secret)}}
        )
        signed(folder, settings=settings)

    return change


def torch_pickle():
    import torch

    file = io.BytesIO()
    torch.save(Payload(), file)
    return file.getvalue()


def signed_state(data):
    return hashlib.sha256(data).hexdigest().encode() + b"\n" + data


MALICE = {f"code {number}": with_scheduler(code) for number, code in enumerate(CODE)} | {
    "environment": lambda folder, secret: signed(folder, settings=settings_of(folder) | {"name": "${oc.env:TOKEN}"}),
    "label": lambda folder, secret: signed(folder, scheduler="\x1b]0;${oc.env:TOKEN}\x07"),
    "up": lambda folder, secret: signed(folder, settings=settings_of(folder) | {"name": "../../up"}),
    "weights pickle": with_file("weights.safetensors", pickle.dumps(Payload())),
    "weights torch": with_file("weights.safetensors", torch_pickle()),
    "eval pickle": with_file("eval.parquet", pickle.dumps(Payload())),
    "job pickle": with_file("job.json", pickle.dumps(Payload())),
    "job yaml": with_file("job.json", b"!!python/object/apply:os.system ['touch PWNED']"),
    "job aliases": with_file("job.json", b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n" * 20),
    "resume pickle": with_file("resume/state.pt", signed_state(torch_pickle())),
    "resume link": lambda folder, secret: (folder / "resume").symlink_to(secret.parent),
    "claim link": with_link(".claim"),
    "job link": with_link("job.json"),
    "eval link": with_link("eval.parquet"),
    "weights link": with_link("weights.safetensors"),
    "log link": with_link("run.log"),
    "leftover link": with_link(".job.json.1.ab.tmp"),
    "folder link": lambda folder, secret: (shutil.rmtree(folder), folder.symlink_to(secret.parent)),
    "names a trace": naming_a_file("workload", "path"),
    "names a graph": naming_a_file("env", "file"),
}


REFUSED = {"folder link": 2, "resume link": 2, "claim link": 4, "weights link": 4}  # sweeps that write nothing there
QUICK = ["code 0", "code 7", "label", "weights torch", "job link", "leftover link", "folder link", "names a trace"]
# Weights and settings are as they were.
HARMLESS = {"label", "eval pickle", "resume pickle", "resume link", "claim link", "log link", "leftover link"}
WORLD = ["scheduler=eft", "env.clock.horizon_s=3", "workload.load=0.3", "evaluate.traces=1", "runs_dir=runs"]
EVIL = """
import dataclasses, os, socket, subprocess, typing

@dataclasses.dataclass(frozen=True)
class Evil:
    objective: str
    info: str
    cadence: typing.ClassVar[str] = "trace"

    def decide(self, view, rng):
        os.system("true")
        subprocess.run(["true"])
        open(os.environ["SECRET"]).close()
        open(os.environ["SECRET"] + ".new", "w").close()
        os.remove(os.environ["SECRET"] + ".new")
        try:
            socket.create_connection(("127.0.0.1", 9), 0.1)
        except OSError:
            pass
        raise ValueError("caught")
"""


def audited(work, secret, commands):
    """[exit status, events] of each command, run one after the other in `work` under the audit hook."""
    friendly = [["report", str(GOLDEN)], ["eval", "--run", str(GOLDEN / "smcoedge"), "name=friend", "runs_dir=runs"]]
    friendly += [["sweep", "name=friend", *WORLD], ["sweep", "name=friend", "--accept-code", *WORLD]]
    (work / "tmp").mkdir()
    environment = {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(work / "tmp"), "SECRET": str(secret), "TOKEN": "hush"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile_audit", str(work), str(secret)]
        + ["\x1f".join(words) for words in [*friendly, ["HOSTILE"], *commands]],
        capture_output=True,
        text=True,
        cwd=work,
        check=False,
        env=os.environ | environment | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def home(tmp_path):
    """(a folder to work in, a file outside it that nobody may touch)."""
    secret = tmp_path / "home" / "secret.csv"
    for folder in ("work", "home"):
        (tmp_path / folder).mkdir()
    secret.write_text("TOKEN\n1\n2\n")
    return tmp_path / "work", secret


def check_malice(tmp_path, kinds):
    """Three commands over each folder: received from somebody, and found where the job of a sweep belongs.

    The last command is a class of the user's own that does what the folders want: the hook sees all of it.
    """
    work, secret = home(tmp_path)
    (planned,) = plan("sweep", WORLD, [], Flags())
    commands = {}
    for kind in kinds:
        folder = shutil.copytree(GOLDEN / "smcoedge", work / "received" / kind)
        own = shutil.copytree(GOLDEN / "smcoedge", work / "runs" / kind.replace(" ", "_") / planned.spec.job_id)
        for place in (folder, own):
            MALICE[kind](place, secret)
        commands[kind, "report"] = ["report", str(folder), "--out", "out"]
        commands[kind, "eval"] = ["eval", "--run", str(folder), "runs_dir=runs"]
        commands[kind, "sweep"] = ["sweep", f"name={own.parent.name}", *WORLD, "--accept-code", "--retry-failed"]
    (work / "evil.py").write_text(EVIL)
    control = ["eval", "scheduler.name=evil:Evil", *WORLD]
    *answers, (_, noticed) = audited(work, secret, [*commands.values(), control])
    assert {"os.system", "subprocess.Popen", "socket.connect", "open", "os.remove", "read"} <= {e[0] for e in noticed}
    found = dict(zip(commands, answers, strict=True))
    assert {where: events for where, (_, events) in found.items() if events} == {}
    assert not list(tmp_path.rglob("PWNED*"))
    assert os.listdir(secret.parent) == [secret.name]
    assert secret.read_text() == "TOKEN\n1\n2\n"
    written = [file for file in work.rglob("*") if file.is_file() and not file.is_symlink()]
    assert not any(b"hush" in file.read_bytes() for file in written)
    status = {where: code for where, (code, _) in found.items()}
    assert set(status.values()) <= {0, 2, 4}
    assert {kind for kind in kinds if status[kind, "eval"] == 0} == HARMLESS.intersection(kinds)
    refused = {kind: status[kind, "sweep"] for kind in kinds if status[kind, "sweep"] != 0}
    assert refused == {kind: code for kind, code in REFUSED.items() if kind in kinds}
    print(f"\n{len(found)} commands over {len(kinds)} malicious folders: nothing run, connected, or opened outside")


def test_a_malicious_folder_is_data(tmp_path):
    check_malice(tmp_path, QUICK)


@pytest.mark.slow
def test_every_malicious_folder_is_data(tmp_path):
    check_malice(tmp_path, list(MALICE))


def test_a_saved_state_is_read_as_data(tmp_path, monkeypatch):
    """Also where the environment asks torch for the unsafe way."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "state.pt").write_bytes(signed_state(torch_pickle()))
    with pytest.raises(ValueError, match=r"state\.pt holds no state of a training"):
        checkpoint.load(tmp_path, {}, {})
    assert os.listdir(tmp_path) == ["resume"]
