"""Map metrics summed up: means with intervals, chance levels, three controls; no torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.data import sample_groups
from robustbench_snn.explain.controls import CONTROLS
from robustbench_snn.explain.intervals import Mean, mean_interval, paired_mean
from robustbench_snn.explain.map_metrics import CONCENTRATION, LOCATION
from robustbench_snn.explain.references import references
from robustbench_snn.explain.settings import GROUPS
from robustbench_snn.explain.similarity import SIMILARITY
from robustbench_snn.explain.stored import Measured

_SHOWN_CHANGED = ("background_mass", "lift")
# Metrics that are compared between models.
_PAIRED = {
    "location": ("background_mass", "lift", "localisation_auc"),
    "faithfulness": ("morf_lerf_gap",),
    "grid_pointing": ("grid_pointing",),
}


@dataclass(frozen=True)
class Line:
    """One metric of one map of one model.

    Attributes:
        group: group of metrics.
        model, map, change, metric: what was measured.
        mean: over the samples, with its interval.
        chance: what a map without knowledge gives; NaN where that is no single number.
        controls: control to its mean on the same samples; NaN where it has none.
        silent: number of maps that are 0 everywhere.
        flags: of the rows.
    """

    group: str
    model: str
    map: str
    change: str
    metric: str
    mean: Mean
    chance: float
    controls: Mapping[str, float]
    silent: int
    flags: str

    def record(self) -> dict[str, Any]:
        """The line under ``tables.CSV_COLUMNS``."""
        mean = self.mean
        numbers = {"value": mean.value, "low": mean.low, "high": mean.high, "n": mean.n}
        return {
            "group": self.group,
            "model": self.model,
            "map": self.map,
            "change": self.change,
            "metric": self.metric,
            **numbers,
            "chance": self.chance,
            **self.controls,
            "silent": self.silent,
            "flags": self.flags,
        }


def lines(found: Sequence[Measured], groups: Sequence[str]) -> list[Line]:
    """All lines of the tables, controls left out.

    Args:
        found: what was measured, controls among it.
        groups: groups of metrics to show, keys of ``settings.GROUPS``.
    """
    made = []
    for group in groups:
        for one in found:
            if one.measure == GROUPS[group] and not _is_control(one):
                made += _lines_of(group, one, found)
    return made


def _is_control(one: Measured) -> bool:
    return one.kind in CONTROLS or one.kind.startswith("mean(")


def _lines_of(group: str, one: Measured, found: Sequence[Measured]) -> list[Line]:
    levels, controls = references(group, one, found)
    silent = 0 if one.maps is None else int((~one.maps.reshape(len(one.maps), -1).any(1)).sum())
    groups, made = sample_groups(str(one.facts["dataset"]), one.ids), []
    for metric, values in _metrics(group, one).items():
        made.append(
            Line(
                group=group,
                model=one.model,
                map=one.kind,
                change=one.change,
                metric=metric,
                mean=mean_interval(values, groups=groups),
                chance=levels.get(metric.partition(",")[0], np.nan),
                controls={
                    name: controls[name].get(metric.partition(",")[0], np.nan) for name in CONTROLS
                },
                silent=silent,
                flags=", ".join(one.flags),
            )
        )
    return made


def _metrics(group: str, one: Measured) -> dict[str, NDArray[np.float64]]:
    """The metrics of a group; stability is split by whether the prediction was kept."""
    if group == "location":
        return {name: one.metrics[name] for name in LOCATION if name in one.metrics}
    if group == "concentration":
        return {name: one.metrics[name] for name in CONCENTRATION}
    if group != "stability":
        return {name: values for name, values in one.metrics.items() if ":" not in name}
    kept = one.metrics["kept"] == 1
    rho = one.metrics["spearman"]
    shown = {*SIMILARITY, "kept", *(f"changed:{name}" for name in _SHOWN_CHANGED)} - {"spearman"}
    rest = {name: values for name, values in one.metrics.items() if name in shown}
    return {
        "spearman": rho,
        "spearman, prediction kept": np.where(kept, rho, np.nan),
        "spearman, prediction changed": np.where(kept, np.nan, rho),
        **rest,
    }


def paired(found: Sequence[Measured], groups: Sequence[str]) -> list[dict[str, Any]]:
    """Differences between models on the same samples, each model minus those before it.

    Args:
        found: what was measured, in the order of the models.
        groups: groups of metrics; those in ``_PAIRED`` are compared.

    Returns:
        Records under ``tables.PAIRED_COLUMNS``, for every map that both models have.
    """
    made = []
    for group in (group for group in groups if group in _PAIRED):
        maps = [one for one in found if one.measure == GROUPS[group] and not _is_control(one)]
        models = list(dict.fromkeys(one.model for one in maps))
        for first, second in itertools.combinations(models, 2):
            for a in (one for one in maps if one.model == first):
                for b in (one for one in maps if one.model == second and one.kind == a.kind):
                    made += [_difference(a, b, m) for m in _PAIRED[group] if m in a.metrics]
    return made


def _difference(a: Measured, b: Measured, metric: str) -> dict[str, Any]:
    place = {sample: i for i, sample in enumerate(b.ids)}
    pairs = [(i, place[sample]) for i, sample in enumerate(a.ids) if sample in place]
    left, right = a.metrics[metric][[i for i, _ in pairs]], b.metrics[metric][[j for _, j in pairs]]
    groups = sample_groups(str(a.facts["dataset"]), [a.ids[i] for i, _ in pairs])
    mean = paired_mean(right, left, groups=groups)
    return {
        "metric": metric,
        "map": a.kind,
        "model": b.model,
        "minus": a.model,
        "difference": mean.value,
        "low": mean.low,
        "high": mean.high,
        "n": mean.n,
    }
