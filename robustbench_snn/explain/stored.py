"""Maps and their metrics read back from the results store; no torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.errors import UsageError
from robustbench_snn.explain.columns import LAYOUT
from robustbench_snn.explain.settings import MAPS
from robustbench_snn.store import Results

if TYPE_CHECKING:
    import pandas as pd

# Shards belong to one measured map when all of these are equal.
SAME = (
    "model",
    "model_config",
    "model_source_sha256",
    "weights_sha256",
    "dataset",
    "dataset_revision",
    "split",
    "map",
    "measure",
    "settings",
    "block",
    "pass_number",
    "target",
    "seed",
    "device",
    "surrogate",
    "ssa_proj_lif",
    "time_steps",
)


@dataclass(frozen=True)
class Measured:
    """One map of one model under one measurement, all shards together.

    Attributes:
        facts: the columns of ``SAME``, and ``note``, ``passes``, ``dataset_source``,
            ``preprocess``.
        ids: n sample ids; all arrays below are in their order.
        labels, predicted, confidence: [n] each.
        maps: float32 [n, h, w], or None where only numbers were stored.
        masks: bool [n, H, W], or None.
        metrics: name to float64 [n].
        flags: union over the shards.
        keys: content keys of the rows.
    """

    facts: dict[str, Any]
    ids: list[str]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    maps: NDArray[np.float32] | None
    masks: NDArray[np.bool_] | None
    metrics: dict[str, NDArray[np.float64]]
    flags: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def model(self) -> str:
        """Catalogue name."""
        return str(self.facts["model"])

    @property
    def kind(self) -> str:
        """Kind of map, or the name of a control."""
        return str(self.facts["map"])

    @property
    def measure(self) -> str:
        """Which measurement, a value of ``settings.GROUPS``."""
        return str(self.facts["measure"])

    @property
    def change(self) -> str:
        """What was done to the images for stability; empty otherwise."""
        return str(json.loads(self.facts["settings"] or "{}").get("change", ""))


def short(model: str) -> str:
    """A model's name without its data set."""
    return model.rpartition(".")[0] or model


def read_maps(paths: Sequence[Path]) -> NDArray[np.float32]:
    """The maps in the files ``paths``, shards in that order, [n, h, w]."""
    import pyarrow.parquet as pq

    columns = ["maps", "map_rows", "map_columns", "n"]
    parts = []
    for path in paths:
        with pq.ParquetFile(path) as file:
            row = file.read(columns, use_threads=False).to_pylist()[0]
        shape = (row["n"], row["map_rows"], row["map_columns"])
        parts.append(np.asarray(row["maps"], dtype=np.float32).reshape(shape))
    return np.concatenate(parts)


def load(root: str | Path, keys: Collection[str] | None = None) -> list[Measured]:
    """Everything stored under ``root`` (or the rows of ``keys``), shards joined.

    Raises:
        UsageError: no such folder, or nothing in it.
    """
    frame = Results.load(root, keys, LAYOUT).frame()
    if keys is not None:
        frame = frame[frame["key"].isin(set(keys))]
    if frame.empty:
        raise UsageError(
            f"'{root}' holds no maps: compute some with `python -m robustbench_snn.explain "
            "--dataset digit-scenes --metrics`."
        )
    grouped = frame.groupby(list(SAME), dropna=False, sort=False)
    return [_joined(group.sort_values("start")) for _, group in grouped]


def _joined(group: pd.DataFrame) -> Measured:
    first = group.iloc[0]
    columns = [*SAME, "note", "passes", "dataset_source", "preprocess"]
    ids = np.concatenate([np.asarray(v) for v in group["sample_ids"]])
    # Shards of two runs may overlap.
    _, keep = np.unique(ids, return_index=True)
    keep = np.sort(keep)
    names = list(first["metric_names"])
    metrics = [
        np.reshape(np.asarray(v, dtype=np.float64), (len(names), -1))
        for v in group["metric_values"]
    ]
    joined = np.concatenate(metrics, axis=1)[:, keep]
    return Measured(
        facts={name: _plain(first[name]) for name in columns},
        ids=[str(ids[i]) for i in keep],
        labels=_stack(group, "labels")[keep],
        predicted=_stack(group, "predicted")[keep],
        confidence=_stack(group, "confidence").astype(np.float64)[keep],
        maps=_planes(group, "maps", "map", keep),
        masks=_planes(group, "masks", "mask", keep),
        metrics=dict(zip(names, joined, strict=True)),
        flags=tuple(dict.fromkeys(flag for found in group["flags"] for flag in found)),
        keys=tuple(sorted(group["key"])),
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _stack(group: pd.DataFrame, column: str) -> NDArray[Any]:
    return np.concatenate([np.asarray(value) for value in group[column]])


def _planes(group: pd.DataFrame, column: str, side: str, keep: NDArray[Any]) -> Any:
    if group[column].isna().any():
        return None
    shapes = zip(group["n"], group[f"{side}_rows"], group[f"{side}_columns"], strict=True)
    parts = [
        np.asarray(value).reshape([int(v) for v in shape])
        for value, shape in zip(group[column], shapes, strict=True)
    ]
    return np.concatenate(parts)[keep]


def select(
    found: Sequence[Measured], model: str, kind: str, measure: str = MAPS, change: str = ""
) -> Measured:
    """The one measurement that fits.

    Raises:
        UsageError: none fits, or several do (other weights, blocks or passes).
    """
    fitting = [
        one
        for one in found
        if (one.model, one.kind, one.measure, one.change) == (model, kind, measure, change)
    ]
    if len(fitting) == 1:
        return fitting[0]
    what = f"map '{kind}' ({measure}{' ' + change if change else ''}) of model '{model}'"
    if not fitting:
        raise UsageError(f"the results hold no {what}: compute it first.")
    differ = [f for f in SAME if len({str(one.facts[f]) for one in fitting}) > 1]
    raise UsageError(
        f"the results hold {len(fitting)} versions of {what}, which differ in "
        f"{', '.join(differ)}: use a results folder with one of them."
    )
