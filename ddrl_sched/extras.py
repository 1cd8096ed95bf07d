"""Packages that only some commands need: named when they are missing."""

from importlib import import_module
from types import ModuleType

from ddrl_sched.config import InputError


def require(module: str, extra: str, key: str) -> ModuleType:
    """The imported `module`. InputError naming the extra to install if it is missing; `key` is what asked for it."""
    try:
        return import_module(module)
    except ImportError as error:
        install = f"pip install -c constraints.txt -e '.[{extra}]', or scripts/install {extra}"
        raise InputError(f"{key} needs the extra '{extra}' ({error}): {install}") from None
