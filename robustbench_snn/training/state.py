"""The resumable state of a training on disk, and its log."""

from __future__ import annotations

import csv
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from robustbench_snn.errors import UsageError
from robustbench_snn.training.recipe import recipe_from

LOG_COLUMNS = (
    "epoch",
    "time_steps",
    "side",
    "lr",
    "eps",
    "attack_steps",
    "loss",
    "train_accuracy",
    "monitor_accuracy",
    "monitor_fgsm",
    "monitor_pgd",
    "seconds",
    "cpu_seconds",
)


def read_state(
    path: Path, device: torch.device, recipe: Mapping[str, Any], identity: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The state in ``path``, on ``device``; None when there is none.

    Raises:
        UsageError: it is damaged, or belongs to another recipe, data, code or start.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        made_with = {"recipe": state["recipe"], "identity": state["identity"]}
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, TypeError) as error:
        raise UsageError(
            f"'{path}' is no readable training state: choose another --out, or delete it to start "
            "anew."
        ) from error
    # Read as a recipe, so that a setting added since counts with its default.
    made_with["recipe"] = recipe_from(made_with["recipe"]).facts()
    for part, now in (("recipe", recipe), ("identity", identity)):
        before = made_with[part]
        changed = sorted(k for k in {*now, *before} if now.get(k) != before.get(k))
        if changed:
            what = "settings" if part == "recipe" else "data, code or weights"
            raise UsageError(
                f"'{path.parent}' holds a training with other {what} ({', '.join(changed)}): "
                "choose another --out, or delete it to start anew."
            )
    return state


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the log, one row an epoch, atomically."""
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)
