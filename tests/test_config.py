"""Settings refuse what they cannot mean, and say which key is wrong."""

import copy
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl_sched.config import InputError, Settings, validate, validate_record
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.workload_settings import WorkloadSettings
from tests.conf_files import env, plain, workload


def error_of(model, data, prefix):
    with pytest.raises(InputError) as caught:
        validate(model, data, prefix)
    return str(caught.value)


def changed(data, path, value):
    """A deep copy of nested data with one key set."""
    data = copy.deepcopy(data)
    *groups, last = path.split(".")
    here = data
    for group in groups:
        here = here[group]
    here[last] = value
    return data


EDGE5 = plain("env", "edge5")
POISSON = plain("workload", "poisson")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("servers.speed_gcps", [10, 20, -3, 40, 50], "env.servers.speed_gcps[2]: must be > 0, got -3"),
        ("servers.speed_gcps", [10, 20, True, 40, 50], "env.servers.speed_gcps[2]: must be a number, got True"),
        ("servers.speed_gcps", [10, 20, "30", 40, 50], "env.servers.speed_gcps[2]: must be a number, got '30'"),
        ("servers.speed_gcps", [1.0, 2.0], "env.network.rate_mbps: must have one rate per server (2), got 5"),
        (
            "servers.kind",
            "lsted",
            "env.servers.kind: must be one of 'listed', 'drawn', got 'lsted'; did you mean 'listed'?",
        ),
        ("clock.slot_s", float("nan"), "env.clock.slot_s: must be a finite number, got nan"),
        ("clock.slot_s", float("inf"), "env.clock.slot_s: must be a finite number, got inf"),
        ("clock.slot_s", 10**400, "env.clock.slot_s: must be a number, got 1000"),
        ("clock.warm_up", 1, "env.clock.warm_up: must be < 1, got 1"),
        ("clock.horizon_s", "aut", "env.clock.horizon_s: must be 'auto' or a number, got 'aut'; did you mean 'auto'?"),
        ("clock.auto_horizon", None, "env.clock.auto_horizon: must be given with horizon_s auto, got null"),
        ("tasks.size_mbit", [5.0, 2.0], "env.tasks.size_mbit: must be [lowest, highest], got [5.0, 2.0]"),
        ("tasks.size_mbit", [0, 0], "env.tasks: the mean work must be > 0"),
        ("tasks.densty", "per_task", "env.tasks.densty: unknown key; did you mean 'density'?"),
        ("name", "a\x1b[0m", "env.name: must be 1-64 letters, digits or any of _ . -, got 'a\\x1b[0m'"),
        ("rule", "amcoedg", "did you mean 'amcoedge'?"),
        ("rule", "amcoedge", "env.tasks.overhead_gcycle: must be 0 under rule amcoedge, got 0.05"),
        ("slowdowns", {"mean_between_s": 1}, "env.slowdowns.factor: is missing"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(path, value, message):
    assert message in error_of(EnvSettings, changed(EDGE5, path, value), "env")


def test_every_wrong_key_has_a_line_of_its_own():
    data = changed(changed(EDGE5, "clock.slot_s", 0), "network.port", "shard")
    assert error_of(EnvSettings, data, "env").splitlines() == [
        "env.network.port: must be 'shared' or 'per_link', got 'shard'; did you mean 'shared'?",
        "env.clock.slot_s: must be > 0, got 0",
    ]


def test_a_load_is_needed_where_nothing_else_gives_it():
    assert "workload.load: must be a number for poisson arrivals" in error_of(
        WorkloadSettings, {**POISSON, "load": None}, "workload"
    )


def test_integers_may_stand_for_floats_and_change_nothing():
    as_int, as_float = (validate(WorkloadSettings, {**POISSON, "load": load}, "workload") for load in (1, 1.0))
    assert as_int.model_dump_json() == as_float.model_dump_json()


def test_settings_are_read_only():
    with pytest.raises(ValueError, match="frozen"):
        env("edge5").name = "other"


def test_probabilities_must_sum_to_one():
    with pytest.raises(InputError, match=r"env\.tasks\.n_images: probabilities must sum to 1, got 0\.9"):
        env("testbed5", tasks={"n_images": {"values": [1, 2], "probabilities": [0.5, 0.4]}})


@pytest.mark.parametrize("data", [None, 5, "text", [1, 2]])
def test_what_is_no_group_of_keys_is_refused(data):
    assert error_of(WorkloadSettings, data, "workload").startswith("workload: must be a group of keys, got ")


def leaves(data, path=""):
    for key, value in data.items():
        here = f"{path}.{key}" if path else key
        yield here
        if isinstance(value, dict):
            yield from leaves(value, here)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.sampled_from(sorted(leaves(EDGE5))), anything)
def test_any_value_at_any_key_is_taken_or_named(path, value):
    try:
        taken = validate(EnvSettings, changed(EDGE5, path, value), "env")
    except InputError as error:
        lines = str(error).splitlines()
        assert lines
        assert all(line.startswith("env") and line.isprintable() for line in lines)
    else:
        assert isinstance(taken, Settings)


def test_bursts_of_no_load_at_all_are_refused():
    with pytest.raises(InputError, match=r"workload\.arrivals\.high_load: must be > 0, got 0"):
        workload("bursty", arrivals={"high_load": 0})


def test_fields_of_a_dataclass_may_have_factories_and_may_be_computed():
    @dataclass(frozen=True)
    class Rule:
        k: int
        weights: list[float] = field(default_factory=lambda: [1.0, 2.0])
        twice: int = field(init=False, default=0)

    assert validate_record(Rule, {"k": 1}, "scheduler").weights == [1.0, 2.0]
    assert validate_record(Rule, {"k": 1, "weights": [3.0]}, "scheduler").weights == [3.0]
    with pytest.raises(InputError, match=r"scheduler.twice: unknown key"):
        validate_record(Rule, {"k": 1, "twice": 2}, "scheduler")
