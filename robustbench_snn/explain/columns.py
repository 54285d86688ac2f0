"""The columns of a stored row of maps: one row per model, data set, map, measurement and shard."""

from __future__ import annotations

from robustbench_snn.schema import EXECUTION, IDENTITY, PROVENANCE
from robustbench_snn.store import Layout

# Raise when a change of code can change a number that settings and weights do not show.
EXPLAIN_VERSION = 1

_NOT_OURS = {"attack", "attack_params", "attack_label", "norm", "eps", "eps_unit", "clamp"}
_NOT_OURS |= {"corruption", "severity", "corruption_source", "corruption_settings"}
_IDENTITY = {name: kind for name, kind in IDENTITY.items() if name not in _NOT_OURS} | {
    "map": "string",
    "measure": "string",
    "settings": "string",
    "block": "string",
    "pass_number": "int64",
    "passes": "int64",
    "target": "string",
    "preprocess": "string",
    "note": "string",
}
# Arrays are stored flat, samples first; shapes stand beside them. Metrics are metric-major.
SAMPLES = {
    "sample_ids": "list<string>",
    "labels": "list<int64>",
    "predicted": "list<int64>",
    "confidence": "list<float32>",
    "maps": "list<float32>",
    "masks": "list<bool>",
    "metric_values": "list<float64>",
}
_CONTENT = {
    "n": "int64",
    "map_rows": "int64",
    "map_columns": "int64",
    "mask_rows": "int64",
    "mask_columns": "int64",
    "metric_names": "list<string>",
    "silent": "int64",
    "flags": "list<string>",
    "seconds": "float64",
}
LAYOUT = Layout(
    {**_IDENTITY, **SAMPLES, **_CONTENT, **EXECUTION, **PROVENANCE},
    ("model", "dataset", "map", "measure"),
    SAMPLES,
)
