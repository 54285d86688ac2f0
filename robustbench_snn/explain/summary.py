"""Tables of map metrics: every metric with its chance level and the three controls; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.explain.controls import CONTROLS, control_maps
from robustbench_snn.explain.intervals import Mean, mean_interval, paired_mean
from robustbench_snn.explain.map_metrics import CONCENTRATION, LOCATION, chance
from robustbench_snn.explain.mosaic import CHANCE
from robustbench_snn.explain.settings import GROUPS, MAPS, ExplainConfig
from robustbench_snn.explain.stored import Measured
from robustbench_snn.report.tables import to_csv, to_markdown

CSV_COLUMNS = (
    "group", "model", "map", "change", "metric", "value", "low", "high", "n", "chance",
    "uniform", "centre", "mean", "silent", "flags",
)  # fmt: skip
PAIRED_COLUMNS = ("metric", "map", "model", "minus", "difference", "low", "high", "n")
_BETTER = {
    "background_mass": "lower",
    "relevance_mass": "higher",
    "lift": "higher",
    "relevance_rank": "higher",
    "pointing": "higher",
    "localisation_auc": "higher",
    "insertion": "higher",
    "deletion": "lower",
    "morf_lerf_gap": "higher",
    "infidelity": "lower",
    "sensitivity_max": "lower",
    "randomised": "lower",
    "grid_pointing": "higher",
}
# Maps that do not depend on the image or on the weights answer these without being measured.
_INDEPENDENT = {"randomised": 1.0, "grid_pointing": CHANCE}
_CHANCE = {"morf_lerf_gap": 0.0, "grid_pointing": CHANCE, "randomised": 0.0}


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
        """The line under ``CSV_COLUMNS``."""
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
    levels, controls = _references(group, one, found)
    silent = 0 if one.maps is None else int((~one.maps.reshape(len(one.maps), -1).any(1)).sum())
    made = []
    for metric, values in _metrics(group, one).items():
        made.append(
            Line(
                group=group,
                model=one.model,
                map=one.kind,
                change=one.change,
                metric=metric,
                mean=mean_interval(values),
                chance=levels.get(metric, _CHANCE.get(metric, np.nan)),
                controls={
                    name: controls.get(name, {}).get(metric, _INDEPENDENT.get(metric, np.nan))
                    for name in CONTROLS
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
    rest = {name: values for name, values in one.metrics.items() if name != "spearman"}
    return {
        "spearman": rho,
        "spearman, prediction kept": np.where(kept, rho, np.nan),
        "spearman, prediction changed": np.where(kept, np.nan, rho),
        **rest,
    }


def _references(
    group: str, one: Measured, found: Sequence[Measured]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """(metric to chance level, control to metric to mean), on the samples of ``one``."""
    if one.measure == MAPS and one.maps is not None:
        return _computed_references(group, one)
    controls = {}
    for name, kind in (("uniform", "uniform"), ("centre", "centre"), ("mean", f"mean({one.kind})")):
        for other in found:
            if (other.model, other.kind, other.measure) == (one.model, kind, one.measure):
                controls[name] = {m: mean_interval(v).value for m, v in other.metrics.items()}
    levels = {}
    if group == "faithfulness" and "uniform" in controls:
        # A uniform map ranks its cells at random.
        levels = {m: controls["uniform"][m] for m in ("insertion", "deletion")}
    if group == "stability":
        floor = mean_interval(one.metrics["floor_spearman"]).value
        levels = {m: floor for m in _metrics(group, one) if m.startswith("spearman")}
    return levels, controls


def _computed_references(
    group: str, one: Measured
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    assert one.maps is not None
    controls: dict[str, dict[str, float]] = {}
    masks = one.masks
    for name, maps in control_maps(one.maps).items():
        if group == "concentration":
            values = {m: metric(maps[:1]) for m, metric in CONCENTRATION.items()}
        elif masks is not None:
            values = {m: metric(maps, masks) for m, metric in LOCATION.items()}
        else:
            values = {}
        controls[name] = {m: mean_interval(v).value for m, v in values.items()}
    if group == "location" and masks is not None:
        return {m: mean_interval(v).value for m, v in chance(masks).items()}, controls
    return {}, controls


def markdown(found: Sequence[Line], undefined: Mapping[tuple[str, str], str]) -> str:
    """One table for each group and metric's direction, then the maps that are not defined."""
    parts = []
    for group in dict.fromkeys(line.group for line in found):
        mine = [line for line in found if line.group == group]
        parts += [f"### {group.replace('_', ' ')}\n", to_markdown(*_wide(mine))]
    if undefined:
        parts.append("### not defined\n")
        records = [
            {"model": model, "map": kind, "reason": why} for (model, kind), why in undefined.items()
        ]
        parts.append(to_markdown(records, ["model", "map", "reason"]))
    return "\n".join(parts)


def _wide(found: Sequence[Line]) -> tuple[list[dict[str, str]], list[str]]:
    """Lines as records, one for each metric, controls beside the value."""
    records = []
    for line in found:
        digits = 1 if line.metric == "effective_cells" else 3
        arrow = {"lower": " ↓", "higher": " ↑"}.get(_BETTER.get(line.metric, ""), "")
        record = {
            "model": line.model,
            "map": line.map,
            "change": line.change,
            "metric": line.metric.replace("_", " ") + arrow,
            "mean [95 % CI]": line.mean.text(digits),
            "n": str(line.mean.n),
            "chance": _number(line.chance, digits),
            **{name: _number(line.controls[name], digits) for name in CONTROLS},
            "flags": ", ".join(
                filter(None, [f"{line.silent} silent" * bool(line.silent), line.flags])
            ),
        }
        records.append(record)
    columns = [c for c in records[0] if any(record[c] for record in records)]
    return records, columns


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def paired(
    found: Sequence[Measured],
    metrics: Sequence[str] = ("background_mass", "lift", "localisation_auc"),
) -> list[dict[str, Any]]:
    """Differences between models on the same samples, last model minus each other one.

    Returns:
        Records under ``PAIRED_COLUMNS``, for every map that both models have.
    """
    maps = [one for one in found if one.measure == MAPS and not _is_control(one)]
    models = list(dict.fromkeys(one.model for one in maps))
    made = []
    for i, first in enumerate(models):
        for second in models[i + 1 :]:
            for a in (one for one in maps if one.model == first):
                for b in (one for one in maps if one.model == second and one.kind == a.kind):
                    made += [_difference(a, b, m) for m in metrics if m in a.metrics]
    return made


def _difference(a: Measured, b: Measured, metric: str) -> dict[str, Any]:
    place = {sample: i for i, sample in enumerate(b.ids)}
    pairs = [(i, place[sample]) for i, sample in enumerate(a.ids) if sample in place]
    left, right = a.metrics[metric][[i for i, _ in pairs]], b.metrics[metric][[j for _, j in pairs]]
    mean = paired_mean(right, left)
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


def paired_markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """The paired differences as a table."""
    shown = [
        {
            "metric": r["metric"].replace("_", " "),
            "map": r["map"],
            "models": f"{r['model']} − {r['minus']}",
            "difference [95 % CI]": f"{r['difference']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]",
            "n": str(r["n"]),
        }
        for r in records
    ]
    return to_markdown(shown, list(shown[0])) if shown else ""


def write(
    found: Sequence[Measured],
    groups: Sequence[str],
    undefined: Mapping[tuple[str, str], str],
    caption: str,
    stem: Path,
) -> list[Path]:
    """Write ``stem``.md, ``stem``.csv and ``stem``_paired.csv; returns the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    made, differences = lines(found, groups), paired(found)
    texts = {
        stem.with_suffix(".md"): text(made, differences, undefined, caption),
        stem.with_suffix(".csv"): to_csv([line.record() for line in made], CSV_COLUMNS),
        stem.with_name(f"{stem.name}_paired.csv"): to_csv(differences, PAIRED_COLUMNS),
    }
    for path, body in texts.items():
        path.write_text(body, encoding="utf-8")
    return list(texts)


def text(
    made: Sequence[Line],
    differences: Sequence[Mapping[str, Any]],
    undefined: Mapping[tuple[str, str], str],
    caption: str,
) -> str:
    """The whole report in Markdown."""
    parts = [markdown(made, undefined)]
    if differences:
        parts += ["### paired differences between models\n", paired_markdown(differences)]
    return "\n".join([*parts, caption]) + "\n"


def caption(config: ExplainConfig, found: Sequence[Measured]) -> str:
    """What the numbers were measured on and with, in one paragraph."""
    facts = [one.facts for one in found]

    def every(name: str) -> str:
        return ", ".join(dict.fromkeys(str(fact[name]) for fact in facts))

    blocks = dict.fromkeys(
        f"{f['model']}: {f['block']}, pass {f['pass_number']} of {f['passes']}" for f in facts
    )
    n = max(len(one.ids) for one in found)
    costly = any(GROUPS[group] != MAPS for group in config.groups)
    parts = [
        f"{config.run.dataset} ({every('dataset_source')}, revision {every('dataset_revision')}), "
        f"{config.run.split} split, first {n} samples"
        + (f" (first {min(n, config.costly_n)} where the model is run again)" if costly else "")
        + f"; {'; '.join(blocks)}; class maps and attributions explain the {every('target')} "
        f"class; surrogate {every('surrogate')}; seed {config.run.seed}.",
        "Means over samples with 95 % t-intervals; silent maps have no value and are counted. "
        "Location compares the raw map's cells with the mask pixel by pixel, negative values "
        "count as 0. Controls: uniform map, Gaussian centre prior (sigma a quarter of the side), "
        "mean of the model's own maps over the set; a map that does not beat them says nothing "
        "about the image.",
    ]
    return " ".join(parts)
