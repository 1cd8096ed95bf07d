"""Settings as plain validated data: strict types, bounds on every number, errors that name the yaml key."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class InputError(ValueError):
    """An error of the user's input. The command line prints the message and exits with code 2."""


class Settings(BaseModel):
    """Base of all settings: no unknown key, no coercion (an integer may stand where a float is wanted), no NaN or inf."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


S = TypeVar("S", bound=Settings)


def validate(model: type[S], data: Mapping[str, Any], prefix: str) -> S:
    """`data` (plain yaml data) as a `model`; `prefix` is the yaml key under which it stands.

    Raises InputError with one line per error: key path, what was expected, what was got.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise InputError("\n".join(_line(e, prefix) for e in error.errors())) from None


def _line(error: Any, prefix: str) -> str:
    path = prefix + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"])
    return f"{path}: {error['msg']}, got {error['input']!r}"
