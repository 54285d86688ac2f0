"""Common corruptions: names, generation, official files and metrics, without torch.

Names and severities come with the package; what needs OpenCV or SciPy is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robustbench_snn.corruptions.names import (
    COMMON,
    CORRUPTIONS,
    EXTRA,
    GROUPS,
    group_of,
    parse_severities,
    preset_for,
    resolve,
)

if TYPE_CHECKING:
    from robustbench_snn.corruptions.generate import corrupt, corrupt_batch
    from robustbench_snn.corruptions.randomness import generator

_LAZY = {"corrupt": "generate", "corrupt_batch": "generate", "generator": "randomness"}

__all__ = [
    "COMMON",
    "CORRUPTIONS",
    "EXTRA",
    "GROUPS",
    "corrupt",
    "corrupt_batch",
    "generator",
    "group_of",
    "parse_severities",
    "preset_for",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
