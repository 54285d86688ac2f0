"""Measurements of maps that run the model again: each gives numbers for every sample of a shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks import build
from robustbench_snn.corruptions import corrupt_batch, preset_for
from robustbench_snn.explain.compute import Computed, Reading, compute_maps
from robustbench_snn.explain.faithfulness import cell_scores, faithfulness
from robustbench_snn.explain.kinds import map_kind
from robustbench_snn.explain.map_metrics import CONCENTRATION, LOCATION
from robustbench_snn.explain.mosaic import grid_pointing, mosaics
from robustbench_snn.explain.randomisation import randomisation
from robustbench_snn.explain.settings import Change
from robustbench_snn.explain.similarity import SIMILARITY

Values = dict[str, NDArray[np.float64]]
Maps = NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """One shard as measurements need it.

    Attributes:
        model: the adapter.
        ids, x, y: the samples, images [n, C, H, W] in [0, 1].
        masks: object masks bool [n, H, W], or None.
        found: their maps.
        reading: how those were read.
        seed, batch_size, fixed_batch: see ``compute_maps``.
    """

    model: ModelAdapter
    ids: list[str]
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    masks: NDArray[np.bool_] | None
    found: Computed
    reading: Reading
    seed: int
    batch_size: int
    fixed_batch: bool = False

    @property
    def target(self) -> NDArray[np.int64]:
        """The class that is explained, [n]."""
        return self.y if self.reading.target == "label" else self.found.predicted

    def again(
        self, kinds: Sequence[str], x: NDArray[np.float32], model: ModelAdapter | None = None
    ) -> Computed:
        """Maps of other images (or of another model), for the samples' own target classes."""
        fixed = replace(self.reading, kinds=tuple(kinds), target="label")
        return compute_maps(
            model or self.model, x, self.ids, fixed, self.target, self.seed, self.batch_size,
            self.fixed_batch,
        )  # fmt: skip

    def batches(self) -> list[slice]:
        """The samples in batches."""
        size = len(self.ids) if self.fixed_batch else self.batch_size
        return [slice(i, i + size) for i in range(0, len(self.ids), size)]

    def tensor(self, values: NDArray[Any]) -> Tensor:
        """``values`` on the model's device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(
            next(self.model.parameters()).device
        )


def describe(maps: Maps, masks: NDArray[np.bool_] | None) -> Values:
    """Location (where there are masks) and concentration of maps [n, h, w]."""
    found = {name: metric(maps) for name, metric in CONCENTRATION.items()}
    if masks is not None:
        found |= {name: metric(maps, masks) for name, metric in LOCATION.items()}
    return found


def measure_faithfulness(samples: Samples, maps: Maps, steps: int) -> Values:
    """Insertion, deletion and MoRF-LeRF gap of ``maps`` (of the model, or a control)."""
    scores = cell_scores(maps, samples.found.grid)
    parts = [
        faithfulness(
            samples.model,
            samples.x[piece],
            samples.tensor(samples.target[piece]),
            scores[piece],
            samples.ids[piece],
            samples.seed,
            steps,
        )
        for piece in samples.batches()
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure_fidelity(samples: Samples, kind: str, maps: Maps) -> Values:
    """captum's normalised infidelity and max-sensitivity; lower is better for both.

    Args:
        samples: the shard.
        kind: of the maps; a control does not move with its image, so its sensitivity is 0.
        maps: [n, h, w].
    """
    from robustbench_snn.explain.attribution import infidelity_of, sensitivity_of

    x, target = samples.tensor(samples.x), samples.tensor(samples.target)
    infidelity = infidelity_of(
        samples.model, x, target, samples.tensor(maps), samples.ids, samples.seed
    )
    found = {"infidelity": infidelity.double().cpu().numpy()}
    if kind not in samples.found.maps:
        return found | {"sensitivity_max": np.zeros(len(x))}

    def maps_of(images: Tensor, row: int) -> Tensor:
        one = replace(samples.reading, kinds=(kind,), target="label")
        names = [samples.ids[row]] * len(images)
        labels = np.repeat(samples.target[row : row + 1], len(images))
        pixels = images.detach().cpu().numpy()
        again = compute_maps(samples.model, pixels, names, one, labels, samples.seed)
        return torch.from_numpy(again.maps[kind])

    sensitivity = [
        sensitivity_of(lambda im, r=row: maps_of(im, r), x[row : row + 1], [name], samples.seed)  # type: ignore[misc]
        for row, name in enumerate(samples.ids)
    ]
    return found | {"sensitivity_max": torch.cat(sensitivity).double().numpy()}


def measure_randomisation(samples: Samples, kind: str) -> Values:
    """Rank correlation with the maps of the same network, its parameters shuffled."""

    def maps_of(model: ModelAdapter) -> Maps:
        return samples.again([kind], samples.x, model).maps[kind]

    return randomisation(samples.model, maps_of, samples.seed)


def measure_grid_pointing(
    samples: Samples,
    kind: str,
    indices: Sequence[int],
    labels: Sequence[int],
    images: Callable[[Sequence[int]], NDArray[np.float32]],
) -> Values:
    """Share of the map in the own quarter of a mosaic; NaN where there are not four classes."""
    made = mosaics(indices, labels, images) if map_kind(kind).class_specific else None
    if made is None:
        return {"grid_pointing": np.full(len(indices), np.nan)}
    found = compute_maps(
        samples.model,
        made[0],
        samples.ids,
        replace(samples.reading, kinds=(kind,), block="last", target="label"),
        np.asarray([labels[i] for i in indices], dtype=np.int64),
        samples.seed,
        samples.batch_size,
    )
    return {"grid_pointing": grid_pointing(found.maps[kind], made[1])}


def changed_images(samples: Samples, change: Change) -> NDArray[np.float32]:
    """The images under a corruption or an attack, [n, C, H, W] in [0, 1]."""
    if change.attack is None:
        preset = preset_for(samples.x.shape[2], samples.x.shape[3])
        return corrupt_batch(
            samples.x, samples.ids, change.corruption, change.severity, preset, samples.seed
        )
    attack = build(change.attack.name, samples.seed)
    parts = [
        attack.perturb(
            samples.model,
            samples.tensor(samples.x[piece]),
            samples.tensor(samples.y[piece]),
            samples.ids[piece],
            [change.attack],
        )[0]
        for piece in samples.batches()
    ]
    return np.asarray(torch.cat(parts).cpu().numpy())


def measure_stability(samples: Samples, kind: str, changed: Computed) -> Values:
    """How alike the maps of clean and changed images are.

    Returns:
        The similarities; ``kept``, 1 where the prediction stayed; as ``floor:NAME`` the
        similarities with the map of the next image, which an unstable map may reach; as
        ``changed:NAME`` the location metrics of the changed images' maps.
    """
    before, after = samples.found.maps[kind], changed.maps[kind]
    found = {name: metric(before, after) for name, metric in SIMILARITY.items()}
    found["kept"] = (samples.found.predicted == changed.predicted).astype(np.float64)
    others = np.roll(before, -1, axis=0)
    found |= {f"floor:{name}": metric(before, others) for name, metric in SIMILARITY.items()}
    if samples.masks is not None:
        for name, metric in LOCATION.items():
            found[f"changed:{name}"] = metric(after, samples.masks)
    return found
