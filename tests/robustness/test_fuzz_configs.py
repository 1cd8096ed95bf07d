"""Ten thousand damaged configs: each is taken, or refused with exit status 2 and a message that names its keys."""

import copy
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter

import pytest
from typer.testing import CliRunner

from ddrl_sched import fingerprint
from ddrl_sched.cli import app
from ddrl_sched.failures import BAD_INPUT, DONE, explain
from tests.conf_files import names, plain
from tests.jobs.test_scheduling_job import learned, settings
from tests.jobs_by_hand import prepare
from tests.paths import REPOSITORY

GROUPS = "name|seeds?|env|workload|scheduler|train|evaluate|baselines"
NAMES_A_KEY = re.compile(rf"^({GROUPS})[.:\[,]|^\S+: unknown key|^ddrl (train|eval): ")
VALUES = [
    None, True, False, 0, -1, 1, 2, 3, 20, 1000, 10**9, 2**63, 10**400, -0.0, 0.5, 1.0, 1e-12, 1e9, 1e308,
    float("nan"), float("inf"), -float("inf"), "", "x", "nan", "1e400", "clean", "own", "amcoedge", "dsac", "graph",
    "learned", "exactly_k", "${oc.env:HOME}", "\x1b[31m", "a\nb", "../..", "/dev/zero", "package:nothing", "\ud800",
    "e\u0301" * 100, "x" * 100_000, [], [1], [2, 1], [1.0, 1e9], [float("nan")], [[1]], {}, {"a": 1}, {1: 2},
    {"kind": "x"},
]  # fmt: skip


def bases(tmp_path):
    """Composed configs of every kind of world, workload and scheduler."""
    rules = [name for name in names("scheduler") if "/" not in name and "agent" not in plain("scheduler", name)]
    worlds = ["edge5", "edge20", "testbed5", "kreonet", "edge5_links"]
    flows = ["poisson", "bursty", "slotted", "azure_code"]
    pairs = [(world, flow) for world in worlds for flow in flows if (world, flow) != ("kreonet", "azure_code")]
    pairs += [("published_multi", "published_multi"), ("published_single", "published_single")]
    schedulers = [*rules, "tuned/ddrl_amsa", "smcoedge", "lad_ts", "tuned/dqn_ts", "ddrl_ats"]
    for number, scheduler in enumerate(schedulers):
        world, flow = pairs[number % len(pairs)]
        data = settings(tmp_path, scheduler) if scheduler in rules else settings(tmp_path)
        data |= {"env": plain("env", world), "workload": plain("workload", flow), "label": scheduler}
        if scheduler not in rules:
            data["scheduler"] = learned(scheduler)
        if verdict(data)[0] == DONE:
            yield data


def places(data, path=()):
    """Paths of all keys and list entries below the groups that a user writes."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in list(items):
        if path or key not in ("label", "overrides", "runs_dir"):
            yield (*path, key)
            yield from places(value, (*path, key))


def damage(data, rng):
    """Change one to three places: another value, a key lost, a key misspelt, a key more."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        *groups, last = rng.choice(list(places(data)))
        here = data
        for key in groups:
            here = here[key]
        kind = rng.choice(["value", "value", "value", "value", "lost", "misspelt", "more"])
        if kind == "value" or isinstance(here, list):
            here[last] = copy.deepcopy(rng.choice(VALUES))
        elif kind == "lost":
            del here[last]
        elif kind == "misspelt":
            here[str(last)[:-1] + rng.choice("xyz")] = here.pop(last)
        else:
            here[rng.choice(["_target_", "kk", "\x1b]0;x", "a.b", ""])] = rng.choice(VALUES)
    return data


def verdict(data, command="sweep"):
    """(exit status, message) as the command line gives them."""
    try:
        prepare(data, command, {})
    except Exception as error:
        return explain(error)
    return DONE, ""


def fuzz(tmp_path, monkeypatch, count):
    version = fingerprint.code_version()
    monkeypatch.setattr(fingerprint, "code_version", lambda: version)
    whole = list(bases(tmp_path))
    assert len(whole) > 30
    rng, counts, slowest_s = random.Random(20_26), Counter(), 0.0
    for number in range(count):
        data = damage(whole[number % len(whole)], rng)
        began = time.process_time()
        code, message = verdict(data)
        slowest_s = max(slowest_s, time.process_time() - began)
        counts[code] += 1
        assert code in (DONE, BAD_INPUT), (number, message)
        lines = message.split("\n") if message else []
        assert all(line.isprintable() and NAMES_A_KEY.match(line) for line in lines), (number, message)
        assert (code == DONE) == (not lines)
    print(f"\n{count} configs: {dict(counts)}, slowest {1000 * slowest_s:.0f} ms of CPU")
    assert counts[BAD_INPUT] > count / 2
    assert counts[DONE] > 0


def test_a_damaged_config_is_taken_or_its_key_named(tmp_path, monkeypatch):
    fuzz(tmp_path, monkeypatch, 1000)


@pytest.mark.slow
def test_ten_thousand_damaged_configs(tmp_path, monkeypatch):
    fuzz(tmp_path, monkeypatch, 10_000)


# --- the same through the command line

WORDS = [
    "seeds=0", "seeds=1.5", "seeds=[1", "seeds=1e400", "seed=-1", "env=moon", "env.clock.slot_s=nan",
    "env.clock.slot_s=0", "env.servers.speed_gcps=[10,20]", "env.servers.speed_gcps=[]", "env.clok.slot_s=1",
    "+env.kk=1", "~env.clock.slot_s", "env.tasks.size_mbit=[5,2]", "env.network.port=shard", "workload.load=inf",
    "workload.load=1e308", "workload.load=-1", "workload=trace workload.path=/dev/zero",
    "workload=trace workload.path=nowhere.csv", "scheduler=best_k scheduler.k=9", "scheduler=jsq2 scheduler.sample=6",
    "scheduler=priced_slotted", "scheduler.name=os:system", "scheduler.name=gredy",
    "scheduler=smcoedge scheduler.actions.k=7", "scheduler=ddrl_amsa scheduler.agent.hidden=[1000000]",
    "scheduler=ddrl_amsa scheduler.learning.memory=100000000000", "name=../up", "baselines=3", "runs_dir=3", "=1",
    "a b=3", "env.name=${oc.env:HOME}", "evaluate.replay_rule=amcoedge", "train.episodes=0", "train=none",
    "env.rule=amcoedg",
]  # fmt: skip


def refused(words, code, stderr):
    assert code == BAD_INPUT, (words, stderr)
    assert stderr.startswith("error: "), (words, stderr)
    assert "Traceback" not in stderr
    assert all(line.isprintable() for line in stderr.splitlines())


@pytest.mark.parametrize("words", WORDS[::4])
def test_the_command_line_refuses_a_wrong_word(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["sweep", "--dry-run", "scheduler=eft", *words.split(" ")])
    refused(words, done.exit_code, done.stderr)


@pytest.mark.slow
def test_thirty_wrong_words_through_the_program(tmp_path):
    command = [sys.executable, "-c", "from ddrl_sched.cli import main; main()", "sweep", "--dry-run", "scheduler=eft"]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    for words in WORDS:
        done = subprocess.run(
            [*command, *words.split(" ")], capture_output=True, text=True, cwd=tmp_path, env=env, check=False
        )
        refused(words, done.returncode, done.stderr)
    print(f"\n{len(WORDS)} command lines, all refused with exit status {BAD_INPUT}")
    assert os.listdir(tmp_path) == []
