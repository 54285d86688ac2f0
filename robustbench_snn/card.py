"""What is known about a model before its weights are loaded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal

from robustbench_snn.errors import UsageError


@dataclass(frozen=True)
class Checkpoint:
    """Where weights come from.

    Attributes:
        source: ``package:FILE`` (shipped), ``file:PATH``, ``hub:OWNER/REPO/FILE@REVISION``, or
            ``build:WHENCE`` where ``build()`` itself loads them, from whence you say.
        sha256: expected hash of the file (of all tensors, with ``build:``) as lower-case hex; None
            accepts any.
        megabytes: about how much is fetched on first use, in 10^6 bytes.
    """

    source: str
    sha256: str | None = None
    megabytes: int | None = None

    @property
    def fetched(self) -> bool:
        """Whether the file comes from the Hub on first use."""
        return self.source.startswith("hub:")


@dataclass(frozen=True)
class Preprocess:
    """How a stored image becomes the model's input, before scaling to [0, 1].

    Attributes:
        resize: the shorter side is resized to this many pixels (Pillow); None leaves the size.
        crop: side of the centre crop; None leaves the size.
        interpolation: Pillow filter of the resize.
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __post_init__(self) -> None:
        """Raise UsageError on a size or a filter that cannot be."""
        for name, side in (("resize", self.resize), ("crop", self.crop)):
            if side is not None and not _is_count(side):
                raise UsageError(f"Preprocess: {name} is {side!r}, but must be pixels or None.")
        if self.interpolation not in ("bicubic", "bilinear"):
            raise UsageError(
                f"Preprocess: interpolation is {self.interpolation!r}, but must be 'bicubic' or "
                "'bilinear'."
            )


@dataclass(frozen=True)
class Reported:
    """A clean accuracy somebody has stated.

    Attributes:
        accuracy: fraction in [0, 1].
        n: number of test images it was measured on.
        source: who states it (a paper's table, a training card).
    """

    accuracy: float
    n: int
    source: str

    def __post_init__(self) -> None:
        """Raise UsageError on an accuracy in per cent, or on no images."""
        if not (isinstance(self.accuracy, Real) and 0 <= self.accuracy <= 1):
            raise UsageError(
                f"Reported: accuracy is {self.accuracy!r}, but must be a fraction in [0, 1]."
            )
        if not _is_count(self.n):
            raise UsageError(f"Reported: n is {self.n!r}, but must be a number of images.")


@dataclass(frozen=True)
class ModelCard:
    """Everything the benchmark knows about a model without importing torch.

    Attributes:
        name: ``architecture.tag``, for example ``qkformer-4-384.cifar10``.
        dataset: name of the data set it classifies.
        num_classes: number of logits K.
        input_shape: (C, H, W) for images, (T, C, H, W) for event frames.
        time_steps: T of one forward pass.
        mean, std: per-channel normalisation applied inside the adapter; empty for none.
        family: architecture family, free text.
        config: constructor arguments of the network.
        checkpoint: default weights; None when none are shipped.
        reported: clean accuracy to check against before attacks run.
        paper: where the architecture was published.
        preprocess: resize and crop of the evaluation protocol.
        max_value: upper bound of the inputs; None when unbounded (event counts).
        parameters: how many, as the training card of shipped weights states; None without one.
        ablation: what was left out of the architecture; such a model runs only when it is named.
        trained_eps: L-infinity radius of its adversarial training, in pixels; 0 for none.
        note: one line a reader of results must know.
    """

    name: str
    dataset: str
    num_classes: int
    input_shape: tuple[int, ...]
    time_steps: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    family: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    reported: Reported | None = None
    paper: str = ""
    preprocess: Preprocess = Preprocess()
    max_value: float | None = 1.0
    parameters: int | None = None
    ablation: str = ""
    trained_eps: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        """Raise UsageError on a value that cannot be, before it becomes a number."""
        for name, wrong in _mistakes(self):
            value = getattr(self, name)
            raise UsageError(f"card of '{self.name}': {name} is {value!r}, but {wrong}.")

    def config_json(self) -> str:
        """The constructor arguments as canonical JSON (sorted keys, no spaces)."""
        return json.dumps(dict(self.config), sort_keys=True, separators=(",", ":"))


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_numbers(values: object) -> bool:
    return isinstance(values, tuple | list) and all(
        isinstance(v, Real) and math.isfinite(v) for v in values
    )


_FOLDER = re.compile(r"[^\W_][\w.+-]*")


def _mistakes(card: ModelCard) -> Iterator[tuple[str, str]]:
    """(field, what it must be) for every field of ``card`` that cannot be as it is."""
    for name in ("name", "dataset"):
        if not _is_text(getattr(card, name)):
            yield name, "must be a text"
    if _is_text(card.name) and (not _FOLDER.fullmatch(card.name) or ".." in card.name):
        yield (
            "name",
            "must be usable as the name of a folder of results: use letters, digits and "
            "'.', '_', '+', '-', begin with a letter or digit, and leave '..' out",
        )
    for name in ("num_classes", "time_steps"):
        if not _is_count(getattr(card, name)):
            yield name, "must be a whole number of at least 1"
    shape = card.input_shape
    if not isinstance(shape, tuple | list) or len(shape) not in (3, 4):
        yield "input_shape", "must be (C, H, W), or (T, C, H, W) for events"
        return
    if not all(map(_is_count, shape)):
        yield "input_shape", "must hold whole numbers of at least 1"
    for name in ("mean", "std"):
        values = getattr(card, name)
        if not _are_numbers(values):
            yield name, "must be a tuple of numbers, one for each channel"
        elif len(values) not in (0, shape[-3]) or len(values) != len(card.mean):
            yield name, f"must have one number for each of {shape[-3]} channels, as mean and std do"
    if _are_numbers(card.std) and any(value <= 0 for value in card.std):
        yield "std", "must be above 0, because images are divided by it"
    if card.max_value is not None and not (
        isinstance(card.max_value, Real) and 0 < card.max_value < math.inf
    ):
        yield "max_value", "must be above 0, or None for inputs without a bound"
    elif _are_numbers(card.mean) and any(
        not 0 <= value <= (card.max_value or math.inf) for value in card.mean
    ):
        yield "mean", "must lie within the range of images, which is [0, 1] (divide by 255)"
