"""Yamls of schedulers state what differs from their family, and the family explains every key."""

import re

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ddrl_sched.config import InputError
from ddrl_sched.jobs.request import Flags
from ddrl_sched.launch import launch
from tests.conf_files import CONF, inherited, names, plain, stated

FULL = [name for name in names("family") if "defaults" not in stated("family", name)]
INHERITING = [
    (group, name) for group in ("family", "scheduler") for name in names(group) if "defaults" in stated(group, name)
]
KEY = re.compile(r" *[a-z_0-9]+:( |$)")


def same(data, under, path=""):
    """Dotted keys of `data` that have the value they have in `under` anyway."""
    for key, value in data.items():
        if key in under and isinstance(value, dict) and isinstance(under[key], dict) and key != "published_gain_pct":
            yield from same(value, under[key], f"{path}{key}.")
        elif key in under and under[key] == value and isinstance(under[key], bool) == isinstance(value, bool):
            yield path + key


@pytest.mark.parametrize(("group", "name"), INHERITING, ids="/".join)
def test_a_yaml_states_only_what_differs(group, name):
    data = stated(group, name)
    del data["defaults"]
    assert list(same(data, inherited(group, name))) == []


def test_same_finds_a_key_that_is_stated_again():
    under = {"k": 1, "agent": {"lr": 0.1, "double": 1}}
    assert list(same({"k": 1, "agent": {"lr": 0.1, "double": True}, "new": 2}, under)) == ["k", "agent.lr"]


@pytest.mark.parametrize("name", FULL)
def test_a_family_explains_its_keys(name):
    """A comment stands above a key, or above the group or the neighbours that it belongs to."""
    lines = (CONF / "family" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comments = sum(line.strip().startswith("#") for line in lines)
    assert lines[0].startswith("# ")
    assert 2 * comments >= sum(bool(KEY.match(line)) for line in lines)
    assert f"/family/{name}@_here_" in "\n".join(lines)


def test_every_scheduler_is_composed_by_hydra_as_the_tests_read_it():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name in names("scheduler"):
            config = compose(overrides=[f"+scheduler={name}"])
            assert OmegaConf.to_container(config.scheduler, resolve=False) == plain("scheduler", name), name


@pytest.mark.parametrize("base", ["/family/best_set", "/scheduler/priced"])
def test_a_scheduler_of_the_user_inherits_from_ours(tmp_path, capsys, base):
    own = tmp_path / "own" / "scheduler"
    own.mkdir(parents=True)
    keys = "stream: mine\nk: 2\nactions: exactly_k\n"
    (own / "mine.yaml").write_text(f"# Mine\ndefaults: [{base}@_here_, _self_]\n{keys}", encoding="utf-8")
    words = ["scheduler=mine", f"runs_dir={tmp_path}", "env.clock.horizon_s=5", "scheduler.k=2,3"]
    flags = ["--config-dir", str(own.parent)]
    assert launch("sweep", words, flags, Flags(try_out=False), multirun=True, dry_run=True) == 0
    assert {"mine", "mine(k=3)"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("scheduler.congestion=0", "eft2"),
        ("scheduler.congestion=0.5", "eft2(congestion=0.5)"),
    ],
)
def test_a_value_that_the_family_gives_anyway_is_no_change(tmp_path, capsys, word, label):
    own = tmp_path / "own" / "scheduler"
    own.mkdir(parents=True)
    (own / "eft2.yaml").write_text("defaults: [/family/best_set@_here_, _self_]\nk: null\n", encoding="utf-8")
    words = ["scheduler=eft2", f"runs_dir={tmp_path}", "env.clock.horizon_s=5", word]
    assert launch("sweep", words, ["--config-dir", str(own.parent)], Flags(), multirun=True, dry_run=True) == 0
    assert label in capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["scheduler.agent.lr=0.0010"], "dqn_ts"),
        (["scheduler.learning.gamma=0.95"], "dqn_ts"),
        (["scheduler.agent.lr=0.002"], "dqn_ts(lr=0.002)"),
        (["agent@scheduler.agent=mine", "scheduler.agent.lr=0.001"], "dqn_ts(agent=mine,lr=0.001)"),
        (["agent@scheduler.agent=mine", "scheduler.agent.lr=0.5"], "dqn_ts(agent=mine)"),
    ],
)
def test_a_value_that_the_agent_gives_anyway_is_no_change(tmp_path, capsys, words, label):
    own = tmp_path / "own" / "agent"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("defaults: [dqn, _self_]\nlr: 0.5\n", encoding="utf-8")
    words = ["scheduler=dqn_ts", f"runs_dir={tmp_path}", "env.clock.horizon_s=5", "train=tiny", *words]
    assert launch("sweep", words, ["--config-dir", str(own.parent)], Flags(), multirun=True, dry_run=True) == 0
    assert label in capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("scheduler=ddrl_amsa_tuned", "did you mean 'tuned/ddrl_amsa'"),
        ("scheduler=settled", "that is a folder: settled/drlcoedge, settled/smcoedge"),
        ("experiment=amsa", "that is a folder: amsa/edge5, "),
        ("+scheduler.stream=x", "scheduler.stream: has a value already"),
        ("+scheduler.published_rule=clean", "scheduler.published_rule"),
    ],
)
def test_names_of_folders_and_older_names_are_told_apart(word, said):
    with pytest.raises(InputError, match=re.escape(said)):
        launch("sweep", ["scheduler=eft", word] if word[0] == "+" else [word], [], Flags(), multirun=True, dry_run=True)
