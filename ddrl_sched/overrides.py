"""The one parser of KEY=VALUE: what a person types, in one spelling for each value."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, prod
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser import types as override_types
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import FloatRange, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from ddrl_sched.config import InputError, clean
from ddrl_sched.key_value import key_value
from ddrl_sched.yaml_files import SPACED, misread

GROUPS = ("env", "workload", "scheduler", "train")  # whose options differ in their keys
MAX_JOBS = 20_000  # of a sweep: their configs are composed one by one, and held together
LARGEST_EXACT = 1e15  # a float below it that is whole is written as a whole number
_split = BasicSweeper.split_arguments
ENDS_OPEN, BEGINS_CLOSED = ("=", ",", "[", "{", ":"), ("=", ",", "]", "}", ":")


class DecimalRange(FloatRange):
    """The numbers of range(0.1, 0.5, 0.1) as they are written, and as many of them as decimal arithmetic gives."""

    def __post_init__(self) -> None:
        given: Any = vars(self)
        start, stop, step = (Decimal(str(given[name])) for name in ("start", "stop", "step"))
        words = f"range({start},{stop},{step})"
        self.start, self.stop, self.step = start, stop, step
        if not all(x.is_finite() for x in (start, stop, step)) or step == 0:
            raise HydraException(f"{words}: finite numbers and a step other than 0 expected")


def read_ranges_as_decimals() -> None:
    """Have Hydra use DecimalRange. Its own adds up the binary values: the third of them is 0.30000000000000004."""
    override_types.FloatRange = DecimalRange


def bound_sweeps() -> None:
    """Have Hydra count the jobs of a sweep before it lists them. Its plugins must be loaded: that makes them anew."""
    from hydra._internal.core_plugins import basic_sweeper

    def split(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        check_n_jobs(overrides)
        return _split(overrides, max_batch_size)

    setattr(basic_sweeper.BasicSweeper, "split_arguments", staticmethod(split))  # noqa: B010


def check_n_jobs(overrides: Sequence[Override]) -> None:
    """InputError naming the keys if all combinations of these values are more jobs than a sweep may have."""
    counts = {override.get_key_element(): n_values(override) for override in overrides}
    if (n_jobs := prod(counts.values())) > MAX_JOBS:
        several = {key_value(key).key: f"{n:,}" for key, n in counts.items() if n > 1}
        text = f"{' x '.join(several.values())} values make {n_jobs:,} jobs, a sweep has at most {MAX_JOBS:,}"
        raise InputError(f"{', '.join(several)}: {text}")


def n_values(override: Override) -> int:
    """How many values a word stands for; those of a range are not listed. HydraException where Hydra cannot tell."""
    value: Any = override.value()
    if not isinstance(value, RangeSweep):
        return len(list(override.sweep_iterator())) if override.is_discrete_sweep() else 1
    numbers: Any = value.range()
    return max(0, ceil(Fraction(numbers.stop - numbers.start) / Fraction(numbers.step)))


@lru_cache(maxsize=10_000)
def parsed(word: str) -> Override | None:
    """A word as Hydra reads it, None where it cannot."""
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:
        return None
    return override


def canonical(word: str) -> str:
    """The word in the one spelling of its value: k=2 for k=2.0 and k=2e0, k=[1,2] for k=[1, 2], k=a for k='a'.

    Values of a sweep are joined by commas. A word that cannot be read, or is no KEY=VALUE, stays as it is.
    """
    override = parsed(word)
    if override is None or override.value_type is None:
        return word
    try:
        if n_values(override) > MAX_JOBS:
            return word
        values = list(override.sweep_iterator()) if override.is_sweep_override() else [override._value]
    except HydraException:  # glob(*), which only Hydra itself can read
        return word
    return f"{override.get_key_element()}={','.join(_text(value) for value in values)}"


def _text(value: object) -> str:
    """A value of an override as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        whole = isinstance(value, float) and abs(value) < LARGEST_EXACT and value.is_integer()
        return str(int(value) if whole else value)
    if isinstance(value, list):
        return f"[{','.join(_text(part) for part in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(sorted(f'{_text(key)}:{_text(part)}' for key, part in value.items()))}}}"
    return _quoted(value.text if isinstance(value, QuotedString) else str(value))


def _quoted(text: str) -> str:
    """A text, in quotes where it would be read as anything else without them."""
    for bare in (f"k={text}", f"k=[{text}]"):  # also inside a list
        override = parsed(bare)
        if override is None or override.is_sweep_override() or override.value() not in (text, [text]):
            return str(QuotedString(text, override_types.Quote.single).with_quotes())
    return text


def has_several(word: str) -> bool:
    """Whether a word stands for several values."""
    override = parsed(word)
    try:
        return override is not None and n_values(override) > 1
    except HydraException:  # glob(*), which only Hydra itself can read
        return True


def varied_budget(overrides: Sequence[str], words: Sequence[str], params: Mapping[str, object] | None) -> list[str]:
    """Keys of a job's overrides about its training that have several values in the command or in its experiment."""
    keys = [key_value(word).key for word in overrides]
    of_experiment = {key_value(key).key: value for key, value in (params or {}).items()}
    of_all = of_experiment | {key_value(word).key: key_value(word).value for word in words}
    return [key for key in keys if key.partition(".")[0] == "train" and has_several(f"{key}={of_all.get(key)}")]


def left_to_the_jobs(word: str) -> str:
    """A key of a group ("scheduler.congestion=2") as a sweep of one value; any other word as it is.

    Before Hydra composes the jobs of a multirun, it composes what is the same in all of them: the group's default with
    that key, although scheduler=a,b is swept and the default has no such key. Sweeps are left out there. (Null stays
    as it is, for Hydra has no sweep of it.)
    """
    key, value = key_value(word).name, key_value(word).value
    if "=" not in word or key_value(word).key.partition(".")[0] not in GROUPS or "." not in key:
        return word
    changed = f"{key}=choice({value})"
    before, after = parsed(word), parsed(changed)
    if before is None or after is None or before.is_sweep_override():  # Hydra names what is wrong with the word
        return word
    again = [parsed(f"{key}={text}") for text in after.sweep_string_iterator()]
    if [repr(one.value()) for one in again if one] != [repr(before.value())]:  # 'true' in quotes would lose them
        return word
    return changed


def check_words(words: Sequence[str]) -> None:
    """InputError with the form in quotes for a KEY=VALUE that the shell has split at its spaces or braces."""
    for first, last in _split_words(words):
        joined = re.sub(r"\s*=\s*", "=", " ".join(words[first : last + 1]), count=1)
        if joined.endswith("="):
            continue
        if (override := parsed(joined)) is not None and override.value_type is not None:
            said = " ".join(clean(word) for word in words[first : last + 1])
            raise InputError(f"cannot read '{said}'; did you mean '{clean(canonical(joined))}' (in quotes)?")
    for word in words:
        key = key_value(word).name
        for part in re.split(r"[\[\]{},:()]", key_value(word).value):
            if SPACED.fullmatch(part.strip()) and (text := misread(part.strip())):
                raise InputError(f"{clean(key)}: {text}")
    by_key: dict[str, list[str]] = {}
    for word in words:
        by_key.setdefault(key_value(word).name, []).append(key_value(word).value)
    for key, values in by_key.items():
        if len(values) > 1 and all(re.fullmatch(r"\w+:[^:]+", value) for value in values):
            raise InputError(
                f"{clean(key)}: given {len(values)} times; a group needs quotes: '{key}={{{','.join(values)}}}'"
            )


def _split_words(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last place of neighbours that may be one word, the shortest first, around the first that is no word."""
    for place, word in enumerate(words):
        if parsed(word) is not None:
            continue
        before = place > 0 and (words[place - 1].endswith(ENDS_OPEN) or word.startswith(BEGINS_CLOSED))
        for last in range(place, len(words)):
            yield from ((first, last) for first in range(place - before, place + 1) if first < last)
        return


def asks_for_nothing(words: Sequence[str]) -> bool:
    """Whether the words of a sweep name no scheduler and no experiment, and vary nothing."""
    named = ("scheduler", "experiment", "hydra", "agent")
    return not any(key_value(word).group.startswith(named) or has_several(word) for word in words)
