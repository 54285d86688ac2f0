"""What a run is: its configuration, its shards, and the key that names a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.errors import UsageError

__all__ = [
    "CLEAN",
    "AttackSpec",
    "Corruption",
    "RunConfig",
    "Shard",
    "canonical_json",
    "content_key",
    "parse_part",
    "shards",
]

CLEAN = AttackSpec("clean")
DEFAULT_N = 1000
# Level of --fast to the precision of results. Whatever the level, predictions are made in float32.
FAST = {"none": "float32", "early-stop": "float32, early stop", "bf16": "bfloat16 gradients"}


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
        batch_size: samples in one forward pass, fewer where they would not fit; cannot change
            results.
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
        executor: where tasks are evaluated: ``auto``, ``inline``, ``processes`` or ``ray``.
        workers: processes or Ray actors; None takes one per core, or per GPU.
        ray_address: an existing Ray cluster; None starts a local one.
        shard: ``i/n``: only every n-th task, from the i-th on; None takes all.
        keep_older: whether stored results of another version of this package's source count.
        fast: a level of ``FAST``: what attacks may do to save work at the price of other images.
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
    executor: str = "auto"
    workers: int | None = None
    ray_address: str | None = None
    shard: str | None = None
    fast: str = "none"
    keep_older: bool = False

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


def parse_part(text: str) -> tuple[int, int]:
    """``i/n`` as (i, n), counted from 1.

    Raises:
        UsageError: not of that form, or i outside 1 to n.
    """
    first, _, second = text.partition("/")
    if first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise UsageError(f"--shard '{text}' is not I/N with I from 1 to N, for example 1/4.")


def canonical_json(content: Any) -> str:
    """JSON in which equal content is equal text: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(content: Mapping[str, Any]) -> str:
    """The sha256 (64 lower-case hex digits) of everything that can change a number."""
    return hashlib.sha256(canonical_json(dict(content)).encode()).hexdigest()
