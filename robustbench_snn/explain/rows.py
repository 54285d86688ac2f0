"""Rows of maps put together from what was planned and measured; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.config import canonical_json
from robustbench_snn.explain.columns import SAMPLES
from robustbench_snn.explain.jobs import Job
from robustbench_snn.explain.settings import ExplainConfig

if TYPE_CHECKING:
    from robustbench_snn.explain.compute import Computed
    from robustbench_snn.explain.measures import Samples, Values

Row = dict[str, Any]


def identity(job: Job, config: ExplainConfig, probe: Computed) -> Row:
    """The identity columns."""
    model, data, shard = job.model, job.data, job.shard
    return {
        "key": job.key,
        "model": model.name,
        "model_config": model.config,
        "model_source_sha256": model.source_sha256,
        "code_sha256": job.code or None,
        "weights_sha256": model.weights_sha256,
        "dataset": data.name,
        "dataset_source": data.source,
        "dataset_revision": data.revision,
        "split": data.split,
        "time_steps": model.time_steps,
        "surrogate": model.surrogate,
        "ssa_proj_lif": model.ssa_proj_lif,
        "seed": config.run.seed,
        "shard_index": shard.index,
        "shard_count": shard.count,
        "start": shard.start,
        "stop": shard.stop,
        "n": len(shard),
        "map": job.map,
        "measure": job.measure,
        "settings": job.settings,
        "block": probe.block,
        "pass_number": probe.number,
        "passes": probe.passes,
        "target": config.target,
        "preprocess": canonical_json(asdict(model.preprocess)),
        "note": probe.notes.get(job.map, ""),
    }


def content(
    job: Job,
    samples: Samples,
    found: Computed,
    maps: NDArray[np.float32] | None,
    values: Values,
) -> Row:
    """The columns with numbers.

    Args:
        job: what was measured.
        samples: on which samples.
        found: predictions the row states (of changed images for stability).
        maps: maps to store, or None for a measurement that stores only numbers.
        values: metric to float64 [n].
    """
    row: Row = {
        "sample_ids": list(samples.ids),
        "labels": samples.y.tolist(),
        "predicted": found.predicted.tolist(),
        "confidence": found.confidence.tolist(),
        "metric_names": list(values),
        "metric_values": np.concatenate([*values.values()]).tolist() if values else [],
        "flags": flags(job),
        "status": "ok",
    }
    if maps is not None:
        row |= {"maps": maps.ravel().tolist(), "map_rows": maps.shape[1]}
        row |= {"map_columns": maps.shape[2]}
        row["silent"] = int((~maps.reshape(len(maps), -1).any(1)).sum())
    if maps is not None and samples.masks is not None:
        row |= {"masks": samples.masks.ravel().tolist(), "mask_rows": samples.masks.shape[1]}
        row |= {"mask_columns": samples.masks.shape[2]}
    return row


def flags(job: Job) -> list[str]:
    """``untrained``: no trained weights; ``geometric``: the change moves the object itself."""
    found = {
        "untrained": job.model.untrained,
        "geometric": job.change is not None and job.change.geometric,
        "official-ssa": job.model.ssa_proj_lif == "official",
    }
    return [name for name, raised in found.items() if raised]


def failed(job: Job, error: BaseException) -> Row:
    """The columns of a row that has no numbers."""
    message = f"{type(error).__name__}: {error}".strip()
    return {"status": "failed", "error": message[:2000], "flags": flags(job)}


def light(row: Mapping[str, Any]) -> Row:
    """The row without its per-sample lists."""
    return {name: value for name, value in row.items() if name not in SAMPLES}
