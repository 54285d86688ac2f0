"""Results rows put together from what was planned, measured and observed; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robustbench_snn.attacks.specs import budget
from robustbench_snn.config import CLEAN, canonical_json
from robustbench_snn.plan import Cell, Task
from robustbench_snn.schema import SAMPLES

Row = dict[str, Any]

REPEAT_TOLERANCE = 1e-3


def norm_and_eps(cell: Cell) -> tuple[str, float | None]:
    """The norm the cell's attack is bounded in and its bound; clean accuracy allows no change."""
    return ("linf", 0.0) if cell.spec == CLEAN else budget(cell.spec)


def identity(task: Task, cell: Cell, seed: int) -> Row:
    """The identity columns."""
    model, data, shard = task.model, task.data, task.shard
    norm, eps = norm_and_eps(cell)
    return {
        "key": cell.key,
        "model": model.name,
        "model_config": model.config,
        "model_source_sha256": model.source_sha256,
        "code_sha256": cell.code or None,
        "weights_sha256": model.weights_sha256,
        "dataset": data.name,
        "dataset_source": data.source,
        "dataset_revision": data.revision,
        "split": data.split,
        "corruption": data.corruption and data.corruption.name,
        "severity": data.corruption and data.corruption.severity,
        "corruption_source": data.corruption_source or None,
        "corruption_settings": data.corruption_settings or None,
        "attack": cell.spec.name,
        "attack_params": canonical_json(dict(cell.spec.params)),
        "attack_label": cell.spec.label(),
        "norm": norm,
        "eps": eps,
        "eps_unit": "pixel",
        "clamp": model.clamp,
        "time_steps": model.time_steps,
        "surrogate": model.surrogate,
        "ssa_proj_lif": model.ssa_proj_lif,
        "seed": seed,
        "shard_index": shard.index,
        "shard_count": shard.count,
        "start": shard.start,
        "stop": shard.stop,
        "n": len(shard),
    }


def outcome(samples: Mapping[str, Any]) -> Row:
    """The outcome columns that follow from the per-sample arrays (names as in ``SAMPLES``)."""
    labels = np.asarray(samples["labels"])
    # The class -1 stands for logits that are not finite, before or after the attack.
    unanswered = (samples["pred_clean"] == -1) | (samples["pred_adv"] == -1)
    return {
        "correct_clean": int((samples["pred_clean"] == labels).sum()),
        "correct_adv": int((samples["pred_adv"] == labels).sum()),
        "mean_loss_clean": float(np.mean(samples["loss_clean"], dtype=np.float64)),
        "mean_loss_adv": float(np.mean(samples["loss_adv"], dtype=np.float64)),
        "linf_max": float(np.max(samples["linf"])),
        "nonfinite_answers": int(unanswered.sum()),
    }


def as_lists(samples: Mapping[str, Any]) -> Row:
    """The per-sample arrays as plain lists."""
    return {name: np.asarray(samples[name]).tolist() for name in SAMPLES}


def flags(task: Task, cell: Cell, row: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the row, as short words.

    ``untrained``: no trained weights, not a result. ``official-ssa``: logits depend on the batch
    by the published model's design. ``batch-dependent``: they do so in a plug-in. ``norm``,
    ``range``: images that broke the budget or the input range were not counted as successes.
    ``unbounded``: the attack promises no budget. ``zero-grad``, ``nonfinite-grad``: gradients an
    attack could not follow. ``nonfinite-answer``: logits of NaN or infinity, which count as wrong
    answers. ``fast``: found with a level of ``--fast``, so that exact attacks may find other
    images. ``unrepeatable``: the same images gave other logits in another batch.
    """
    found = {
        "untrained": task.model.untrained,
        "official-ssa": task.model.ssa_proj_lif == "official",
        "batch-dependent": task.model.batch_dependent and task.model.ssa_proj_lif != "official",
        "norm": not row["norm_ok"],
        "range": not row["range_ok"],
        "unbounded": norm_and_eps(cell)[1] is None,
        "zero-grad": (row.get("zero_grad_frac") or 0) > 0,
        "nonfinite-grad": (row.get("nonfinite_grad_frac") or 0) > 0,
        "nonfinite-answer": (row.get("nonfinite_answers") or 0) > 0,
        "fast": row.get("precision", "float32") != "float32",
        "unrepeatable": not (row.get("repeat_logit_diff") or 0) <= REPEAT_TOLERANCE,
    }
    return [name for name, raised in found.items() if raised]


def failed_row(task: Task, cell: Cell, seed: int, error: BaseException) -> Row:
    """A row that says why a cell has no numbers."""
    message = f"{type(error).__name__}: {error}".strip()
    names = {"untrained": task.model.untrained}
    return identity(task, cell, seed) | {
        "status": "failed",
        "error": message[:2000],
        "flags": [name for name, raised in names.items() if raised],
    }


def light(row: Mapping[str, Any]) -> Row:
    """The row without its per-sample lists, so that memory does not grow with the run."""
    return {name: value for name, value in row.items() if name not in SAMPLES}
