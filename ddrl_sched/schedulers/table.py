"""The one table from a yaml's `name:` to a scheduler's class. Classes are imported when they are built.

A new scheduler is one Python file, one yaml and one line here. Its class is a plain frozen dataclass: the fields are
the keys of its yaml, their types are checked strictly, and bounds are written as Annotated[int, Field(ge=1)].
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from ddrl_sched import stopping
from ddrl_sched.config import InputError, near, shown, validate_record
from ddrl_sched.failures import blamed_on, where_in
from ddrl_sched.provenance import KEYS

if TYPE_CHECKING:
    from ddrl_sched.schedulers.base import Scheduler  # numba comes with it

SCHEDULERS = {
    "local": "ddrl_sched.schedulers.static:Local",
    "random_server": "ddrl_sched.schedulers.static:RandomServer",
    "round_robin": "ddrl_sched.schedulers.static:RoundRobin",
    "split_capacity": "ddrl_sched.schedulers.static:SplitCapacity",
    "rand_coedge": "ddrl_sched.schedulers.static:RandCoEdge",
    "least_of": "ddrl_sched.schedulers.one_server:LeastOf",
    "least_of_sample": "ddrl_sched.schedulers.one_server:LeastOfSample",
    "weighted_round_robin": "ddrl_sched.schedulers.one_server:WeightedRoundRobin",
    "all_servers": "ddrl_sched.schedulers.server_sets:AllServers",
    "best_set": "ddrl_sched.schedulers.server_sets:BestSet",
    "priced_slotted": "ddrl_sched.schedulers.server_sets:PricedSlotted",
}


def build(name: str, settings: Mapping[str, object]) -> "Scheduler":
    """The scheduler `name` (of SCHEDULERS, or module:Class of the user's own) with the other keys of its yaml.

    Keys of provenance.py are passed over unless they are fields of the class.

    Raises InputError for an unknown name, a class that cannot be imported, an unknown, missing or wrong key.
    Imports code by name: only for names that the user gave, never for those of a received run folder.
    """
    cls = scheduler_class(name)
    own = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    keys = {key: value for key, value in settings.items() if key in own or key not in KEYS}
    with blamed_on(cls):
        return validate_record(cls, keys, "scheduler")


def scheduler_class(name: str) -> "type[Scheduler]":
    """The dataclass behind a name of SCHEDULERS or module:Class. Raises InputError."""
    path = SCHEDULERS.get(name, name)
    module, colon, attribute = path.partition(":")
    if not colon:
        raise InputError(
            f"scheduler.name: unknown scheduler {shown(name)}{near(name, SCHEDULERS)} "
            f"(known: {', '.join(SCHEDULERS)}, or module:Class of your own)"
        )
    _look_here()
    with _imported(name):
        loaded = import_module(module)
    cls = getattr(loaded, attribute, None)
    if cls is None:
        raise InputError(
            f"scheduler.name: module {shown(module)} has no {shown(attribute)}{near(attribute, dir(loaded))}"
        )
    if not (isinstance(cls, type) and is_dataclass(cls) and callable(getattr(cls, "decide", None))):
        raise InputError(f"scheduler.name: {shown(name)} is not a dataclass with a method `decide`")
    return cast("type[Scheduler]", cls)


@contextmanager
def _imported(name: str) -> Iterator[None]:
    """Whatever a module of the user's does when it is run, SystemExit too, becomes an InputError."""
    try:
        yield
    except stopping.Stopped:
        raise
    except BaseException as error:
        why = _why(error, name.partition(":")[0])
        raise InputError(f"scheduler.name: cannot import {shown(name)}: {why}") from error


def _why(error: BaseException, module: str) -> str:
    """What is wrong with a module, with file and line if that is in what it says."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})" if error.filename else str(error.msg)
    with suppress(Exception, SystemExit, KeyboardInterrupt):
        spec = find_spec(module)
        place = where_in(spec.origin if spec else None, error)
        if place:
            return f"{type(error).__name__}: {error} ({place})"
    return str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"


def own_source(name: str) -> str | None:
    """File of the module of a user's own scheduler (module:Class); None for the names of SCHEDULERS.

    Raises InputError where there is no such module. The module itself is not run (packages around it are).
    """
    if name in SCHEDULERS or ":" not in name:
        return None
    _look_here()
    with _imported(name):
        spec = find_spec(name.partition(":")[0])
    if spec is None:
        raise InputError(f"scheduler.name: cannot import {shown(name)}: there is no such module")
    return spec.origin if spec.has_location else None


def _look_here() -> None:
    """A user's own module stands where the command is given."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
