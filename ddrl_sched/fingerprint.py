"""What identifies data, code and machine: hashes of plain data and of the package, versions, numerics."""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import platform
import sys
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = Path(__file__).resolve().parent
PACKAGES = (
    "ddrl-sched", "torch", "numpy", "numba", "scipy", "pandas", "pyarrow", "hydra-core", "omegaconf", "pydantic",
    "safetensors", "networkx", "gymnasium",
)  # fmt: skip


def canonical_hash(value: object) -> str:
    """sha256 (hex) of plain data, whatever the order of keys: 1 and 1.0, -0.0 and 0.0, NFC and NFD text are equal.

    Takes dicts with text keys, lists, tuples, text, booleans, None, numbers and numpy arrays. ValueError for NaN and
    for anything else, naming the place.
    """
    text = json.dumps(_canonical(value, ""), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=1)
def code_version() -> str:
    """sha256 (hex) over path and content of all .py files of the package, read once per process."""
    return hash_of_code(PACKAGE)


def hash_of_code(root: Path) -> str:
    """sha256 (hex) over path and content of all .py files below `root`."""
    files = sorted((p.relative_to(root).as_posix(), p) for p in root.rglob("*.py"))
    return canonical_hash([[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in files])


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def numerics() -> dict[str, object]:
    """What bit-exact repetition depends on: threads, versions, vector instructions (null while torch is not in use)."""
    torch: Any = sys.modules.get("torch")
    return {
        "threads": torch.get_num_threads() if torch else None,
        "torch": str(torch.__version__) if torch else None,
        "numpy": np.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability() if torch else None,
    }


def _canonical(value: object, place: str) -> object:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"cannot hash {place or 'settings'}: a key is not text")
        return {unicodedata.normalize("NFC", k): _canonical(v, f"{place}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v, f"{place}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, float):
        return _canonical_float(value, place)
    if value is None or isinstance(value, bool | int):
        return value
    raise ValueError(f"cannot hash {place}: {type(value).__name__} is not plain data")


def _canonical_float(value: float, place: str) -> object:
    if math.isnan(value):
        raise ValueError(f"cannot hash {place}: NaN")
    if math.isinf(value):
        return {"float": str(value)}
    return int(value) if value.is_integer() else value
