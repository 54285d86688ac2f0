"""All maps asked for, of one batch of images, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.explain.kinds import map_kind
from robustbench_snn.explain.maps import attention_maps
from robustbench_snn.memory import with_backoff


@dataclass(frozen=True)
class Reading:
    """Which maps are read, and where.

    Attributes:
        kinds: names of maps.
        block, number: attention module and pass (``units.choose_block``).
        target: class that class-specific maps explain.
        layer: module whose output Grad-CAM weighs; empty for the attention module.
    """

    kinds: tuple[str, ...] = ("rate",)
    block: str = "last"
    number: int | None = None
    target: Literal["predicted", "label"] = "predicted"
    layer: str = ""

    def only(self, *kinds: str) -> Reading:
        """The same reading of other maps."""
        return replace(self, kinds=kinds)


@dataclass
class Computed:
    """Maps of n images.

    Attributes:
        logits: float32 [n, K].
        maps: kind to float32 [n, h, w], raw units.
        undefined: kind to the reason why this model has no such map.
        notes: kind to what a caption must add.
        block: attention module read; ``number`` of ``passes`` its pass.
        grid: (rows, columns) of its tokens.
    """

    logits: NDArray[np.float32]
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    block: str = ""
    number: int = 1
    passes: int = 1
    grid: tuple[int, int] = (1, 1)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class with the largest logit, [n]."""
        return np.asarray(self.logits.argmax(1), dtype=np.int64)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Softmax probability of the predicted class, [n]."""
        shifted = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return np.asarray(1.0 / shifted.sum(1), dtype=np.float32)


def compute_maps(
    model: ModelAdapter,
    x: NDArray[np.float32],
    ids: Sequence[str],
    reading: Reading,
    labels: NDArray[np.int64] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    fixed_batch: bool = False,
) -> Computed:
    """Maps of ``x`` in batches; a batch that does not fit in memory is halved.

    Args:
        model: an adapter.
        x: images [n, \\*input_shape] in [0, 1].
        ids: n sample ids.
        reading: what to read.
        labels: true classes [n], needed when maps explain the label.
        seed: of noisy attributions.
        batch_size: cannot change a result unless ``fixed_batch``.
        fixed_batch: the model's answer depends on the batch; never halve it.

    Raises:
        UsageError: a map, block or pass that is not there, or images the model does not take.
    """

    def at(size: int) -> list[Computed]:
        return [
            _batch(
                model,
                x[i : i + size],
                ids[i : i + size],
                reading,
                None if labels is None else labels[i : i + size],
                seed,
            )
            for i in range(0, len(x), size)
        ]

    parts, _, _ = with_backoff(at, batch_size, fixed_batch)
    whole = parts[0]
    whole.logits = np.concatenate([part.logits for part in parts])
    for kind in whole.maps:
        whole.maps[kind] = np.concatenate([part.maps[kind] for part in parts])
    return whole


def _batch(
    model: ModelAdapter,
    x: NDArray[np.float32],
    ids: Sequence[str],
    reading: Reading,
    labels: NDArray[np.int64] | None,
    seed: int,
) -> Computed:
    images = torch.from_numpy(np.ascontiguousarray(x)).to(next(model.parameters()).device)
    chosen = None
    if reading.target == "label" and labels is not None:
        chosen = torch.from_numpy(labels).to(images.device)
    attention = [kind for kind in reading.kinds if map_kind(kind).source == "attention"]
    if not model.attention_units():
        computed, logits = _without_attention(model, images, attention, reading)
    else:
        found = attention_maps(model, images, attention, reading.block, reading.number, chosen)
        logits = found.logits
        computed = Computed(
            _numpy(logits),
            {kind: _numpy(value) for kind, value in found.values.items()},
            dict(found.undefined),
            dict(found.notes),
            found.block,
            found.number,
            found.passes,
            found.grid,
        )
    target = logits.argmax(1) if chosen is None else chosen
    _add_attributions(computed, model, images, target, ids, reading, seed)
    return computed


def _without_attention(
    model: ModelAdapter, images: Tensor, attention: Sequence[str], reading: Reading
) -> tuple[Computed, Tensor]:
    """Answers of a model that names no attention module, whose attention maps are undefined."""
    with torch.no_grad():
        logits = model(images)
    why = f"model '{model.card.name}' names no attention module"
    computed = Computed(_numpy(logits), undefined=dict.fromkeys(attention, why))
    computed.block = reading.layer or "no attention"
    # What deletion curves delete and controls are drawn on, where no tokens say it.
    rows, columns = (
        next(cells for cells in range(8, 0, -1) if side % cells == 0) for side in images.shape[-2:]
    )
    computed.grid = rows, columns
    return computed, logits


def _add_attributions(
    computed: Computed,
    model: ModelAdapter,
    images: Tensor,
    target: Tensor,
    ids: Sequence[str],
    reading: Reading,
    seed: int,
) -> None:
    kinds = [kind for kind in reading.kinds if map_kind(kind).source == "attribution"]
    for kind in kinds:
        if images.dim() != 4:
            computed.undefined[kind] = "it takes event frames, and attributions need images"
            continue
        # captum takes a second to import, and maps read from spikes do not need it.
        from robustbench_snn.explain.attribution import attribute
        from robustbench_snn.explain.cam import grad_cam, layers

        if kind == "grad_cam":
            if not reading.layer and not model.attention_units():
                computed.undefined[kind] = (
                    f"model '{model.card.name}' names no attention module: name a layer with "
                    f"--layer, as {layers(model)[-1]}"
                )
                continue
            where = reading.block, reading.number, reading.layer
            value = grad_cam(model, images, target, *where)
        else:
            value = attribute(model, images, target, kind, ids, seed)
        computed.maps[kind] = _numpy(value)
        notes = [f"surrogate {model.surrogate}"] if kind != "occlusion" else []
        notes += [f"layer {reading.layer}"] if kind == "grad_cam" and reading.layer else []
        computed.notes[kind] = ", ".join(notes)


def _numpy(value: Tensor) -> NDArray[np.float32]:
    return np.asarray(value.detach().float().cpu().numpy())
