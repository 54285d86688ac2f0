"""What spiking transformers look at: maps, attributions, metrics and pictures of them.

The public names below are imported on first use; importing this costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustbench_snn.registry import import_target

if TYPE_CHECKING:
    from robustbench_snn.explain.attribution import attribute
    from robustbench_snn.explain.cam import grad_cam
    from robustbench_snn.explain.class_map import ClassHead
    from robustbench_snn.explain.evaluation import evaluate
    from robustbench_snn.explain.kinds import KINDS, REFUSED
    from robustbench_snn.explain.maps import AttentionMaps, attention_maps
    from robustbench_snn.explain.settings import ExplainConfig
    from robustbench_snn.explain.sheet import Look, Row, Sheet, Tile
    from robustbench_snn.explain.stored import Measured, load

_HOMES = {
    "AttentionMaps": "maps",
    "ClassHead": "class_map",
    "ExplainConfig": "settings",
    "KINDS": "kinds",
    "Look": "sheet",
    "Measured": "stored",
    "REFUSED": "kinds",
    "Row": "sheet",
    "Sheet": "sheet",
    "Tile": "sheet",
    "attention_maps": "maps",
    "attribute": "attribution",
    "evaluate": "evaluation",
    "grad_cam": "cam",
    "load": "stored",
}

__all__ = [
    "KINDS",
    "REFUSED",
    "AttentionMaps",
    "ClassHead",
    "ExplainConfig",
    "Look",
    "Measured",
    "Row",
    "Sheet",
    "Tile",
    "attention_maps",
    "attribute",
    "evaluate",
    "grad_cam",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return import_target(f"{__name__}.{_HOMES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
