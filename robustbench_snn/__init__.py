"""Robustness and interpretability of spiking transformers.

The public names below are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustbench_snn.registry import import_target

if TYPE_CHECKING:
    from robustbench_snn.adapter import ModelAdapter, load_model
    from robustbench_snn.attack_spec import AttackSpec
    from robustbench_snn.attacks.specs import ATTACKS, make_spec
    from robustbench_snn.card import Checkpoint, ModelCard, Preprocess, Reported
    from robustbench_snn.catalogue import MODELS, model_card
    from robustbench_snn.config import CLEAN, RunConfig
    from robustbench_snn.data import DATASETS, load_dataset
    from robustbench_snn.errors import PreflightRefused, UsageError
    from robustbench_snn.runner import run as evaluate
    from robustbench_snn.store import Results

_HOMES = {
    "ATTACKS": "attacks.specs:ATTACKS",
    "AttackSpec": "attack_spec:AttackSpec",
    "CLEAN": "config:CLEAN",
    "Checkpoint": "card:Checkpoint",
    "DATASETS": "data:DATASETS",
    "MODELS": "catalogue:MODELS",
    "ModelAdapter": "adapter:ModelAdapter",
    "ModelCard": "card:ModelCard",
    "PreflightRefused": "errors:PreflightRefused",
    "Preprocess": "card:Preprocess",
    "Reported": "card:Reported",
    "Results": "store:Results",
    "RunConfig": "config:RunConfig",
    "UsageError": "errors:UsageError",
    "evaluate": "runner:run",
    "load_dataset": "data:load_dataset",
    "load_model": "adapter:load_model",
    "make_spec": "attacks.specs:make_spec",
    "model_card": "catalogue:model_card",
}

__all__ = [
    "ATTACKS",
    "CLEAN",
    "DATASETS",
    "MODELS",
    "AttackSpec",
    "Checkpoint",
    "ModelAdapter",
    "ModelCard",
    "PreflightRefused",
    "Preprocess",
    "Reported",
    "Results",
    "RunConfig",
    "UsageError",
    "evaluate",
    "load_dataset",
    "load_model",
    "make_spec",
    "model_card",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustbench_snn' has no attribute '{name}'")
    return import_target(f"robustbench_snn.{_HOMES[name]}")


def __dir__() -> list[str]:
    return sorted(__all__)
