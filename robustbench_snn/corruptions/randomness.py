"""One random generator per corrupted image, keyed by what the image is and nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

# The corruptions draw through this union so that a legacy RandomState can replay a seeded
# reference implementation draw by draw.
Rng = np.random.Generator | np.random.RandomState


def generator(seed: int, name: str, severity: int, image_id: str) -> np.random.Generator:
    """The generator of one image under one corruption.

    Equal keys give equal streams on every machine; the key holds no batch, order or worker, so
    neither can change an image.
    """
    key = f"{seed}\0{name}\0{severity}\0{image_id}".encode()
    digest = hashlib.blake2b(key, digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def integers(rng: Rng, low: int, high: int, size: tuple[int, ...] = ()) -> NDArray[np.int64]:
    """Integers in [low, high), shape ``size``."""
    if isinstance(rng, np.random.RandomState):
        return np.asarray(rng.randint(low, high, size=size), dtype=np.int64)
    return np.asarray(rng.integers(low, high, size=size), dtype=np.int64)
