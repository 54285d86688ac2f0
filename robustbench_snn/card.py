"""What is known about a model before its weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Checkpoint:
    """Where weights come from.

    Attributes:
        source: ``package:FILE`` (shipped), ``file:PATH`` or ``hub:OWNER/REPO/FILE@REVISION``.
        sha256: expected hash of the file as lower-case hex; None accepts any file.
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

    def config_json(self) -> str:
        """The constructor arguments as canonical JSON (sorted keys, no spaces)."""
        return json.dumps(dict(self.config), sort_keys=True, separators=(",", ":"))
