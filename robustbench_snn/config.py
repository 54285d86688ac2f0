"""What a run is: its configuration, its shards, and the key that names a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robustbench_snn.attack_spec import AttackSpec

__all__ = [
    "CLEAN",
    "AttackSpec",
    "Corruption",
    "RunConfig",
    "Shard",
    "canonical_json",
    "content_key",
    "shards",
]

CLEAN = AttackSpec("clean")
DEFAULT_N = 1000


@dataclass(frozen=True)
class Corruption:
    """One common corruption at one severity, 1 (weakest) to 5 (strongest)."""

    name: str
    severity: int


@dataclass(frozen=True)
class RunConfig:
    """One evaluation, every setting resolved.

    Attributes:
        models: catalogue names.
        attacks: what to run on each model; ``CLEAN`` is clean accuracy alone.
        dataset, split: what to evaluate on.
        data_dir: folder of local files; None for the embedded set or the Hub.
        weights: checkpoint that replaces the card's own (one model only); None keeps the card's.
        n: number of samples from the start of the split; None means 1,000 or all if fewer.
        batch_size: samples in one forward pass; cannot change results.
        shard_size: samples in one results file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: seed of all random choices of attacks and of generated corruptions.
        out: folder of the results.
        plugins: Python files that register models or attacks.
        model_args: constructor arguments that replace those of the cards.
        corruptions: names of common corruptions; empty evaluates the images as they are.
        severities: of every corruption.
        corruptions_dir: folder with official corruption files; what it lacks is generated.
        corruption_preset: ``cifar`` or ``imagenet`` constants; None chooses by image size.
        frost_dir: folder with the official frost textures; None uses synthetic ones.
    """

    models: tuple[str, ...]
    attacks: tuple[AttackSpec, ...]
    dataset: str = "digit-scenes"
    split: str = "test"
    data_dir: str | None = None
    weights: str | None = None
    n: int | None = None
    batch_size: int = 64
    shard_size: int = 128
    device: str = "auto"
    seed: int = 0
    out: str = "results"
    plugins: tuple[str, ...] = ()
    model_args: Mapping[str, Any] = field(default_factory=dict)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    corruptions_dir: str | None = None
    corruption_preset: str | None = None
    frost_dir: str | None = None

    def versions(self) -> list[Corruption | None]:
        """What each model sees of the data: every corrupted version, or None for the images."""
        return [Corruption(name, s) for name in self.corruptions for s in self.severities] or [None]


@dataclass(frozen=True)
class Shard:
    """Samples ``start`` to ``stop - 1`` of a split; number ``index`` of ``count``."""

    start: int
    stop: int
    index: int
    count: int

    def __len__(self) -> int:
        return self.stop - self.start


def shards(n: int, size: int) -> list[Shard]:
    """``n`` samples in consecutive pieces of ``size``; the last may be shorter."""
    starts = range(0, n, size)
    return [
        Shard(start, min(start + size, n), index, len(starts)) for index, start in enumerate(starts)
    ]


def canonical_json(content: Any) -> str:
    """JSON in which equal content is equal text: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(content: Mapping[str, Any]) -> str:
    """The sha256 (64 lower-case hex digits) of everything that can change a number."""
    return hashlib.sha256(canonical_json(dict(content)).encode()).hexdigest()
