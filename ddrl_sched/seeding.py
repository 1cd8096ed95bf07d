"""Random streams by name: the same words give the same numbers, whatever else was drawn before."""

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Generator (PCG64) of the stream `names` under root `seed`.

    Names are hashed, so a stream depends on its name alone, never on the order of creation. Environment streams
    hold no scheduler name: every scheduler meets the same tasks (common random numbers).
    """
    key = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "big") for name in names]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=key)))
