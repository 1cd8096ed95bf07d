"""A name is only a name: a yaml copied to another file name changes the label in the table and nothing else."""

import shutil

import pandas as pd
import pytest

from ddrl_sched.compose import compose
from ddrl_sched.jobs.request import Flags
from ddrl_sched.launch import launch
from tests.conf_files import CONF, names, stated

ALL = names("scheduler")
KINDS = ("optimal", "rand_coedge", "jsq2", "smcoedge", "tuned/ddrl_amsa", "ddrl_amsa_price", "ablation/set_mlp")
AGENTS = [name for name in ALL if name.startswith(("cartpole/", "ablation/cartpole_"))]
OF_EDGE = [name for name in ALL if name not in (*AGENTS, "best_k")]  # which has no k of its own
MULTI = ("optimal", "rand_coedge", "equal_finish", "best_set")  # with numbers of their own rule
RULES = ("random", "capacity_proportional", "jsq2", "round_robin", "eft", "priced")


@pytest.fixture
def copies(tmp_path):
    """A folder of configs in which every scheduler stands under x_<name> too."""
    for name in ALL:
        folder, _, last = name.rpartition("/")
        (tmp_path / "scheduler" / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(CONF / "scheduler" / f"{name}.yaml", tmp_path / "scheduler" / folder / f"x_{last}.yaml")
    return tmp_path


def renamed(name):
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}x_{last}"


def composed(copies, names, *words):
    """{label: spec} of the jobs of a sweep over schedulers of our own and of `copies`."""
    line = ["--multirun", "--config-dir", str(copies), f"scheduler={','.join(names)}", *words]
    jobs = compose("sweep", line, Flags())
    assert [job.result for job in jobs] == [None] * len(jobs)
    return {job.label: job.spec for job in jobs}


@pytest.mark.parametrize(
    ("schedulers", "words"),
    [
        (OF_EDGE, ["env=edge5", "workload=poisson"]),
        (KINDS, ["env=published_multi", "workload=published_multi", "env.rule=own"]),
        (AGENTS, ["env=cartpole", "train=cartpole"]),
    ],
)
def test_no_setting_depends_on_what_a_yaml_is_called(copies, schedulers, words):
    data = composed(copies, [*schedulers, *map(renamed, schedulers)], *words)
    assert len(data) == 2 * len(schedulers)
    for name in schedulers:
        one, other = (data[label] for label in (name, renamed(name)))
        assert one.settings == other.settings
        assert (one.drawn_as, one.learns, one.world) == (other.drawn_as, other.learns, other.world)
        assert {**one.identity, "label": ""} == {**other.identity, "label": ""}
        assert (one.label, other.label) == (name, renamed(name))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (RULES, ["env=edge5", "workload=poisson", "env.clock.horizon_s=5"]),
        (MULTI, ["env=published_multi", "workload=published_multi", "env.rule=own", "seeds=2"]),
    ],
)
def test_a_copied_yaml_gives_the_same_numbers(copies, tmp_path, names, words):
    runs = tmp_path / "runs"
    asked = [f"scheduler={','.join([*names, *map(renamed, names)])}", f"runs_dir={runs}", "name=n", "evaluate.traces=2"]
    assert launch("sweep", [*asked, *words], ["--config-dir", str(copies)], Flags(), multirun=True) == 0
    rows = pd.concat([pd.read_parquet(path) for path in runs.glob("n/*/eval.parquet")]).drop(columns="decide_us")
    for name in names:
        one, other = (rows[rows.scheduler == label].drop(columns="scheduler") for label in (name, renamed(name)))
        assert len(one) >= 2
        keys = ["seed", "trace"]
        pd.testing.assert_frame_equal(
            one.sort_values(keys, ignore_index=True), other.sort_values(keys, ignore_index=True), check_exact=True
        )


def test_every_yaml_names_its_random_numbers():
    for name in ALL:
        assert stated("scheduler", name)["stream"]
