"""Rows of suites on disk: one for each step and shard, and one for each model at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustbench_snn.schema import COLUMNS, EXECUTION, IDENTITY, PROVENANCE, SAMPLES
from robustbench_snn.store import Layout

# Raise when a change of code can change a number that settings and weights do not show.
SUITE_VERSION = 2

# A step's row is a run's row about survivors only. It must not look like one about all samples,
# so the columns that name the attack are called otherwise.
_RENAMED = {"attack": "step", "attack_params": "step_params", "attack_label": "step_label"}
_STEP = {_RENAMED.get(name, name): kind for name, kind in COLUMNS.items()} | {
    "rows_of": "string",
    "fooled": "int64",
    "images": "string",
    "images_sha256": "string",
}
STEPS = Layout(_STEP, ("rows_of", "model", "dataset", "step"), SAMPLES)

_ABOUT_ATTACKS = {"attack", "attack_params", "attack_label", "shard_index", "shard_count", "norm"}
SUITE_SAMPLES = {
    "sample_ids": "list<string>",
    "labels": "list<int64>",
    "clean": "list<bool>",
    "plain": "list<bool>",
    "claimed": "list<bool>",
    "robust": "list<bool>",
    "robust_8bit": "list<bool>",
    "winner": "list<string>",
    "image": "list<int64>",
    "broken_eps": "list<float64>",
}
_SUITE = {name: kind for name, kind in IDENTITY.items() if name not in _ABOUT_ATTACKS} | {
    **SUITE_SAMPLES,
    "suite": "string",
    "settings": "string",
    "n": "int64",
    "n_curve": "int64",
    "steps": "string",
    "curve_steps": "string",
    "screen_split": "string",
    "screen_n": "int64",
    "screen": "string",
    "screen_eps": "float64",
    "not_applicable": "string",
    "image_files": "list<string>",
    "verified_batch_size": "int64",
    "diagnostics": "string",
    "gradient_health": "string",
    "times": "string",
    "curves": "string",
    "seconds": "float64",
    "gradients_per_sample": "float64",
    "forward_calls": "int64",
    "flags": "list<string>",
    **EXECUTION,
    **PROVENANCE,
}
SUITES = Layout(_SUITE, ("suite", "model", "dataset"), SUITE_SAMPLES)


def as_step(row: Mapping[str, Any]) -> dict[str, Any]:
    """A run's row under the names of a step's row."""
    return {_RENAMED.get(name, name): value for name, value in row.items()} | {
        "rows_of": "survivors"
    }
