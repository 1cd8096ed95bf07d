"""Validation of settings and the messages of its errors: which key is wrong, what was expected, what was given.

A yaml of conf/ holds a plain `name:` and numbers; `validate` makes one of the settings records of the program of it
(those of environments and workloads stand in edge/). Scientific numbers have no default in code: they stand in the
yaml, each under a comment that gives meaning and unit.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

PACKAGE = "package:"  # begins the name of an input file that comes with the package
MAX_SHOWN = 60  # characters of a wrong value that a message repeats

# ---- number and text types that several groups of settings share -----------------------------------------------------

LARGEST = 1e9

Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Text = Annotated[str, Field(min_length=1, max_length=1000)]

# ---- validation ------------------------------------------------------------------------------------------------------


class InputError(ValueError):
    """An error of the user's input. The command line prints the message and exits with code 2."""


class WrongKeyError(InputError):
    """A key that is unknown or missing, or whose value is wrong whatever the other keys hold."""


class Settings(BaseModel):
    """Base of all settings: no unknown key, no coercion (an integer may stand for a float), no NaN or inf."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


S = TypeVar("S", bound=Settings)
R = TypeVar("R")


def validate(model: type[S], data: Mapping[str, object], prefix: str) -> S:
    """`data` (plain yaml data) as a `model`; `prefix` is the yaml key under which it stands.

    Raises WrongKeyError with one line per wrong key: its path, what was expected, what was given.
    """
    if not isinstance(data, Mapping):
        raise WrongKeyError(f"{prefix}: must be a group of keys, got {shown(data)}")
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise WrongKeyError("\n".join(_lines(model, data, error, prefix))) from None


def validate_record(cls: type[R], data: Mapping[str, object], prefix: str) -> R:
    """`data` as an instance of the plain dataclass `cls`: its fields are the keys, checked like those of Settings.

    A key whose field has a default may be missing (so that settings written before the key existed can be read).

    Raises WrongKeyError as `validate` does, and the ValueError that the record itself raises.
    """
    known = get_type_hints(cls, include_extras=True)
    settable = [f for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
    definitions = {f.name: (known[f.name], _default(f)) for f in settable}
    model = create_model(cls.__name__, __base__=Settings, **definitions)  # type: ignore[call-overload]
    checked = validate(model, data, prefix)
    return cls(**{f.name: getattr(checked, f.name) for f in settable})


def _default(field: dataclasses.Field[object]) -> object:
    """The default of a field of a dataclass, `...` where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return Field(default_factory=field.default_factory)
    return ... if field.default is dataclasses.MISSING else field.default


# ---- messages --------------------------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """A user's value as one short printable piece of a message."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def clean(text: object) -> str:
    """Text that is safe to print on one line: control, format and other invisible characters become "?"."""
    word = str(text)
    return word if word.isprintable() else "".join(c if c.isprintable() else "?" for c in word)


def near(word: object, known: Iterable[str], above: str = "") -> str:
    """'; did you mean ...?' where a known word resembles `word`, else nothing; `above` is put before the known word."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{clean(above + close[0])}'?" if close else ""


def _lines(model: type[BaseModel], data: object, error: ValidationError, prefix: str) -> list[str]:
    """The message of a validation error: one line per wrong key.

    Pydantic reports one error per member of a union; those of one key are merged into one line ("must be a number or a
    list"). Errors raised by validators of our own already are lines, some of them about a key inside their group.
    """
    expected: dict[str, list[str]] = {}  # key or whole line -> what each member of a union expects
    given: dict[str, str] = {}
    for e in error.errors(include_url=False):
        path = _key_path(data, e, prefix)
        if e["type"] == "value_error":
            expected |= {path + _inside(line): [] for line in str(e["ctx"]["error"]).splitlines()}
        else:
            expected.setdefault(path, []).append(_expected(e, _known_keys(model, e["loc"])))
            given[path] = given.get(path) or _given(e)
    merged = {path: " or ".join(dict.fromkeys(s)).replace(" or must be ", " or ") for path, s in expected.items()}
    return [f"{path}: {text}{given[path]}" if text else path for path, text in merged.items()]


def _inside(line: str) -> str:
    """A line of a validator of ours as the end of a path: it names a key inside the group, or says what is wrong."""
    return f".{line}" if re.match(r"[a-z_0-9.\[\]]+: ", line) else f": {line}"


def _given(error: ErrorDetails) -> str:
    """ ", got ..." with the wrong value, and the nearest of the words that were expected."""
    kind, value, words = error["type"], error["input"], ""
    if kind in {"missing", "extra_forbidden", "union_tag_not_found"}:
        return ""
    if kind == "union_tag_invalid":
        value, words = error["ctx"]["tag"], error["ctx"]["expected_tags"]
    elif kind == "literal_error":
        words = error["ctx"]["expected"]
    return f", got {shown(value)}" + near(value, re.findall(r"'([^']*)'", words))


def _key_path(data: object, error: ErrorDetails, prefix: str) -> str:
    """Path of the wrong yaml key, without the tags that pydantic adds for the `kind` of a group."""
    path, here, loc = prefix, data, error["loc"]
    for i, part in enumerate(loc):
        if isinstance(part, int) and isinstance(here, list) and part < len(here):
            path, here = f"{path}[{part}]", here[part]
        elif isinstance(here, Mapping) and part in here:
            path, here = f"{path}.{_key(part)}", here[part]
        elif i == len(loc) - 1 and error["type"] == "missing":
            path = f"{path}.{_key(part)}"
    if error["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        path = f"{path}.kind"
    return path


def _key(part: object) -> str:
    return str(part) if str(part).isidentifier() else shown(part)


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys of the group in which the last part of `loc` stands."""
    groups = [model]
    for part in loc[:-1]:
        tagged = [g for g in groups if "kind" in g.model_fields and part in get_args(g.model_fields["kind"].annotation)]
        inner = [m for g in groups if part in g.model_fields for m in _models(g.model_fields[str(part)].annotation)]
        groups = tagged if tagged and len(groups) > 1 else inner or groups
    return [key for group in groups for key in group.model_fields]


def _models(annotation: object) -> list[type[BaseModel]]:
    """The groups of keys that a type may hold: itself, or members of its union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


_BOUNDS = {  # type of pydantic's error -> key of the limit, sign
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}
_EXPECTED = {  # type of pydantic's error -> text; {} names facts of the error
    "missing": "is missing",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "model_type": "must be a group of keys",
    "model_attributes_type": "must be a group of keys",
    "union_tag_not_found": "is missing",
    "string_pattern_mismatch": "must be 1-64 letters, digits or any of _ . -",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
}


def _expected(error: ErrorDetails, keys: list[str]) -> str:
    """What was expected, or that the key is unknown; `keys` are the known ones of its group."""
    kind, facts = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + (near(error["loc"][-1], keys) or f"; known keys: {', '.join(keys)}")
    if kind in _BOUNDS:
        key, sign = _BOUNDS[kind]
        limit = facts[key]
        return f"must be {sign} {limit if isinstance(limit, int) else format(limit, '.12g')}"
    return _EXPECTED[kind].format(**facts) if kind in _EXPECTED else error["msg"]
