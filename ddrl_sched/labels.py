"""Names of schedulers in tables: that of the yaml file and what was changed about it."""

from collections.abc import Collection, Mapping, Sequence

from ddrl_sched.config import clean
from ddrl_sched.key_value import key_value

LEARNED = ("learned", "price_policy")  # `name:` of the schedulers that learn
GYM_AGENT = "gym_agent"  # `name:` of those that learn in an environment of gymnasium
LEARNS_THE_SAME = ("train.checkpoint_s", "train.validate_every")  # keys without effect on what is learned
CLAIMED = ("scheduler.chosen_on",)  # keys that say where a scheduler comes from, and change nothing about it
SAYS_NOTHING = ("name", "kind")  # last words of keys that choose one of several forms of their group


def label(scheduler: str, overrides: Sequence[str], command: str, varied: Collection[str] = ()) -> str:
    """Name of a scheduler in tables: that of its yaml file, and what was changed about it on the command line.

    `scheduler.*` counts, and in train and eval `train.*` too, but for what leaves the result as it is; in a sweep it is
    the keys `varied` that count beside it. Keys are cut to their last words: "best_k(k=2)".
    """
    roots = ("scheduler.",) if command == "sweep" else ("scheduler.", "train.")
    beside = (*LEARNS_THE_SAME, *CLAIMED)
    changes = changed(overrides, roots, beside)
    changes |= {key: value for key, value in changed(overrides, ("",), beside).items() if key in varied}
    return with_changes(scheduler, changes)


def changed(overrides: Sequence[str], roots: tuple[str, ...], beside: tuple[str, ...]) -> dict[str, str]:
    """Values by dotted key of the overrides below `roots`, but for the keys `beside`."""
    changes: dict[str, str] = {}
    for word in overrides:
        path, value = key_value(word).key, key_value(word).value
        if path.startswith(roots) and path not in beside:
            changes[path] = value
    return changes


def with_changes(scheduler: str, changes: Mapping[str, object]) -> str:
    """ "best_k(k=2)" of "best_k" and {"scheduler.k": 2}."""
    told = {_telling(path): value for path, value in changes.items()}
    told = told if len(told) == len(changes) else dict(changes)
    inside = ",".join(f"{_short(path, list(told))}={told[path]}" for path in sorted(told))
    return clean(f"{scheduler}({inside})" if inside else scheduler)


def _telling(path: str) -> str:
    """The group of a key that says nothing without it: "scheduler.actions" of "scheduler.actions.name"."""
    group, _, last = path.rpartition(".")
    return group if last in SAYS_NOTHING and "." in group else path


def _short(path: str, paths: list[str]) -> str:
    """The fewest last words of a dotted path that no other path ends with; a place in a list is no word of its own."""
    words = path.split(".")
    ends = (".".join(words[-n:]) for n in range(1, len(words) + 1) if n == len(words) or not words[-n].isdecimal())
    return next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in paths) == 1)
