"""The one parser of the words of a command line: KEY=VALUE, +KEY=VALUE, ~KEY, GROUP@PLACE=OPTION."""

from typing import NamedTuple


class KeyValue(NamedTuple):
    """A word of a command line in its parts."""

    name: str  # all before the =
    prefix: str  # "", "+", "++" or "~", of Hydra
    group: str  # what stands before an @: the config group whose option goes to the place `key`; else the key
    key: str  # dotted key of the composed config
    value: str  # as it was typed

    @property
    def top(self) -> str:
        """The first word of the group or key."""
        return self.group.partition(".")[0].partition("/")[0]


def key_value(word: str) -> KeyValue:
    """A word in its parts; one without = has an empty value."""
    name, _, value = word.partition("=")
    bare = name.lstrip("+~")
    group, _, place = bare.partition("@")
    return KeyValue(name, name[: len(name) - len(bare)], group, place or group, value)
