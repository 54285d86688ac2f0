"""Whether a checkpoint belongs to a model: names, shapes, and what the file says of itself."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robustbench_snn.catalogue import MODELS, Entry
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import import_target

if TYPE_CHECKING:
    from robustbench_snn.adapter import ModelAdapter

# Names under which training scripts keep their arguments.
_STEPS = ("time_step", "time_steps", "T")
_DATA = ("dataset", "data_set", "data_path", "data_dir")


def check_fit(
    model: ModelAdapter, state: Mapping[str, Tensor], raw: Mapping[str, Tensor], path: Path
) -> None:
    """Make sure that a file's tensors are the network's, by name and shape.

    Args:
        model: which is to take them.
        state: the tensors under the network's own names.
        raw: the same as the file names them.
        path: of the file, for the message.

    Raises:
        UsageError: with the first differences, and the models of the family that would fit.
    """
    own = model.net.state_dict()
    missing, surplus = own.keys() - state.keys(), state.keys() - own.keys()
    shapes = {
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    }
    if not (missing or surplus or shapes):
        return
    facts = [
        f"{len(found)} {what} (first: {min(found)})"
        for what, found in (("missing", missing), ("unknown", surplus), ("misshapen", shapes))
        if found
    ]
    fitting = [name for name, entry in _relatives(model) if _fits(entry, raw)]
    advice = f", that of {' or '.join(fitting)}" if fitting else ""
    raise UsageError(
        f"'{path}' does not fit model '{model.card.name}': of {len(own)} tensors "
        f"{', '.join(facts)}; it is a checkpoint of another architecture, variant or size{advice}."
    )


def _relatives(model: ModelAdapter) -> list[tuple[str, Entry]]:
    """The other models of the family in the catalogue."""
    return [
        (name, entry)
        for name in MODELS.names()
        if (entry := MODELS.get(name)).card.family == model.card.family
        and name != model.card.name
        and isinstance(entry.adapter, str)
    ]


def _fits(entry: Entry, raw: Mapping[str, Tensor]) -> bool:
    with torch.device("meta"):
        model: ModelAdapter = import_target(str(entry.adapter))(entry.card)
    state = model.state_dict_map(dict(raw))
    own = {key: value.shape for key, value in model.net.state_dict().items()}
    return own == {key: value.shape for key, value in state.items()}


def check_origin(model: ModelAdapter, content: Any, path: Path) -> None:
    """Make sure that the training arguments in a checkpoint are those of ``model``.

    Checkpoints of models that differ in data set or time steps alone have the same tensors. Files
    that keep no ``args``, or other arguments, are not judged.

    Args:
        model: which is to take the weights.
        content: what the file holds.
        path: of the file, for the message.

    Raises:
        UsageError: the file was made for another data set or number of time steps.
    """
    said = content.get("args") if isinstance(content, dict) else None
    args = vars(said) if isinstance(said, argparse.Namespace) else said
    if not isinstance(args, Mapping):
        return
    card = model.card
    known = {_plain(MODELS.get(name).card.dataset): name for name in MODELS.names()}
    for key in _DATA:
        data = _plain(Path(str(args.get(key, ""))).name)
        if data in known and data != _plain(card.dataset):
            others = [n for n, e in _relatives(model) if _plain(e.card.dataset) == data]
            raise _another(
                model, path, f"{key}={args[key]!r}", f"classifies {card.dataset}", others
            )
    for key in _STEPS:
        steps = args.get(key)
        if isinstance(steps, int) and steps != card.time_steps:
            others = [
                n
                for n, e in _relatives(model)
                if (e.card.dataset, e.card.time_steps) == (card.dataset, steps)
            ]
            raise _another(model, path, f"{key}={steps}", f"has T = {card.time_steps}", others)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _another(
    model: ModelAdapter, path: Path, said: str, instead: str, others: list[str]
) -> UsageError:
    fitting = f"use {' or '.join(others)}, or " if others else ""
    return UsageError(
        f"'{path}' is a checkpoint of another variant: it says that it was trained with {said}, "
        f"but model '{model.card.name}' {instead}: {fitting}save its state dict alone to use it "
        "all the same."
    )
