"""The model that transferred images are made on: how it is named, opened and identified."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import nn

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.catalogue import is_foreign
from robustbench_snn.errors import UsageError
from robustbench_snn.source_code import foreign_source_sha256
from robustbench_snn.weights import weights_identity


@lru_cache(maxsize=4)
def load_source(text: str, device: str) -> ModelAdapter:
    """The model ``NAME@HASH``, loaded once.

    Raises:
        UsageError: no name, or a plug-in's model that is not the one of that hash.
    """
    if not text:
        raise UsageError("attack 'transfer' needs the model it is made on: --source NAME.")
    name, _, wanted = text.partition("@")
    source = _opened(name, device)
    if wanted and is_foreign(name) and _sha256(source) != wanted:
        raise UsageError(
            f"transfer source '{name}' changed on disk since this run began: run the same command "
            "again."
        )
    return source


def _opened(name: str, device: str) -> ModelAdapter:
    # An untrained source must come out the same each time.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_model(name, device=device)


@lru_cache(maxsize=16)
def source_sha256(name: str) -> str:
    """Twelve hex digits over weights, constructor arguments and code of a plug-in's model.

    Raises:
        UsageError: it cannot be opened.
    """
    return _sha256(_opened(name, "cpu"))


def _sha256(source: ModelAdapter) -> str:
    parts = (weights_identity(source), source.config_json, foreign_source_sha256(type(source)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def check_source(source: ModelAdapter, target: nn.Module) -> None:
    """Make sure both models classify the same data set.

    Raises:
        UsageError: they do not.
    """
    card = getattr(target, "card", None)
    if card is not None and source.card.dataset != card.dataset:
        raise UsageError(
            f"transfer source '{source.card.name}' classifies '{source.card.dataset}', but the "
            f"target '{card.name}' classifies '{card.dataset}', so the attack would aim at other "
            "classes: name a source trained on the same data set (--list)."
        )
