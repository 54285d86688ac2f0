"""What every metric is held against: its chance level and three controls; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.explain.controls import CONTROLS, control_maps
from robustbench_snn.explain.intervals import mean_interval
from robustbench_snn.explain.map_metrics import CONCENTRATION, LOCATION, chance
from robustbench_snn.explain.mosaic import CHANCE
from robustbench_snn.explain.settings import MAPS
from robustbench_snn.explain.similarity import SIMILARITY
from robustbench_snn.explain.stored import Measured

Levels = dict[str, float]

# A control depends neither on the image nor on the weights, so its answers are known.
_SAME = {"spearman": 1.0, "ssim": 1.0, "top_k_iou": 1.0, "js_divergence": 0.0}
_UNIFORM = {"js_divergence": 0.0}  # a constant map has no ranks and no structure


def references(
    group: str, one: Measured, found: Sequence[Measured]
) -> tuple[Levels, dict[str, Levels]]:
    """(metric to chance level, control to metric to mean), on the samples of ``one``.

    Args:
        group: group of metrics.
        one: what was measured.
        found: all measurements, those of controls among them.
    """
    if one.measure == MAPS:
        return _of_maps(group, one)
    if group == "stability":
        return _of_stability(one)
    if group == "randomisation":
        return {"randomised": 0.0}, {name: {"randomised": 1.0} for name in CONTROLS}
    if group == "grid_pointing":
        return {group: CHANCE}, {name: {group: CHANCE} for name in CONTROLS}
    controls = {name: _measured(one, name, found) for name in CONTROLS}
    levels = {}
    if group == "faithfulness":
        # A uniform map ranks its cells at random.
        levels = {m: v for m, v in controls["uniform"].items() if m in ("insertion", "deletion")}
        levels["morf_lerf_gap"] = 0.0
    return levels, controls


def _measured(one: Measured, control: str, found: Sequence[Measured]) -> Levels:
    kind = f"mean({one.kind})" if control == "mean" else control
    for other in found:
        if (other.model, other.kind, other.measure) == (one.model, kind, one.measure):
            return _means(other.metrics)
    return {}


def _means(metrics: Mapping[str, NDArray[np.float64]]) -> Levels:
    return {name: mean_interval(values).value for name, values in metrics.items()}


def _of_maps(group: str, one: Measured) -> tuple[Levels, dict[str, Levels]]:
    if one.maps is None or (group == "location" and one.masks is None):
        return {}, {name: {} for name in CONTROLS}
    made = control_maps(one.maps)
    if group == "location" and one.masks is not None:
        masks = one.masks
        controls = {
            name: _means({m: metric(maps, masks) for m, metric in LOCATION.items()})
            for name, maps in made.items()
        }
        return _means(chance(masks)), controls
    return {}, {
        name: _means({m: metric(maps[:1]) for m, metric in CONCENTRATION.items()})
        for name, maps in made.items()
    }


def _of_stability(one: Measured) -> tuple[Levels, dict[str, Levels]]:
    """Chance is the similarity with another image's map."""
    levels = {m: mean_interval(one.metrics[f"floor:{m}"]).value for m in SIMILARITY}
    where, controls = _of_maps("location", one)
    levels |= {f"changed:{m}": value for m, value in where.items()}
    known = {"uniform": _UNIFORM, "centre": _SAME, "mean": _SAME}
    return levels, {
        name: known[name] | {f"changed:{m}": value for m, value in controls[name].items()}
        for name in CONTROLS
    }
