"""Tables of map metrics as text and files; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_snn.data.catalogue import repeated
from robustbench_snn.explain.controls import CONTROLS
from robustbench_snn.explain.settings import GROUPS, MAPS, ExplainConfig
from robustbench_snn.explain.stored import Measured
from robustbench_snn.explain.summary import Line, lines, paired
from robustbench_snn.report.tables import to_csv, to_json, to_markdown

if TYPE_CHECKING:
    import pandas as pd

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
    """Write ``stem``.md, .csv, .json, _paired.csv and _samples.parquet; returns the paths.

    The last one holds the numbers of every sample, from which all others follow.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    made, differences = lines(found, groups), paired(found, groups)
    texts = {
        stem.with_suffix(".md"): text(made, differences, undefined, caption),
        stem.with_suffix(".csv"): to_csv([line.record() for line in made], CSV_COLUMNS),
        stem.with_name(f"{stem.name}_paired.csv"): to_csv(differences, PAIRED_COLUMNS),
        stem.with_suffix(".json"): to_json(
            [one.facts | {"result_keys": list(one.keys)} for one in found]
        ),
    }
    for path, body in texts.items():
        path.write_text(body, encoding="utf-8")
    samples = stem.with_name(f"{stem.name}_samples.parquet")
    asked = {GROUPS[group] for group in groups}
    sample_frame([one for one in found if one.measure in asked]).to_parquet(
        samples, index=False, compression="zstd"
    )
    return [*texts, samples]


def sample_frame(found: Sequence[Measured]) -> pd.DataFrame:
    """One row for each sample of each measurement; metrics that it lacks are missing."""
    import pandas as pd

    facts = ("model", "map", "measure", "block", "pass_number", "weights_sha256")
    parts = []
    for one in found:
        columns: dict[str, Any] = {name: one.facts[name] for name in facts}
        columns |= {"change": one.change, "sample": one.ids, "label": one.labels}
        columns |= {"predicted": one.predicted, "confidence": one.confidence.astype(np.float32)}
        columns |= {name: values.astype(np.float32) for name, values in one.metrics.items()}
        parts.append(pd.DataFrame(columns))
    whole = pd.concat(parts, ignore_index=True)
    labels = [*facts, "change", "sample"]
    return whole.astype(dict.fromkeys(labels, "category"))


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
        "Means over samples with 95 % intervals (Student's, Wilson's and Newcombe's for shares"
        f"{repeated(config.run.dataset, max((one.ids for one in found), key=len))}); silent maps "
        "have no value and are counted. "
        "Location compares the raw map's cells with the mask pixel by pixel, negative values "
        "count as 0. Controls: uniform map, Gaussian centre prior (sigma a quarter of the side), "
        "mean of the model's own maps over the set; a map that does not beat them says nothing "
        "about the image.",
    ]
    return " ".join(parts)
