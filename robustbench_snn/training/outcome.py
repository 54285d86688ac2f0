"""What a finished training leaves: weights, a card, a log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.loading import device_name
from robustbench_snn.metrics import Accuracy
from robustbench_snn.provenance import provenance
from robustbench_snn.weights import file_sha256

if TYPE_CHECKING:
    from robustbench_snn.training.trainer import Trainer


def is_weight(value: Tensor) -> bool:
    """Whether ``half`` rounds a tensor: weights of two and more dimensions.

    Batch-norm statistics stay as they are; they are small, and a spike can hang on them.
    """
    return value.is_floating_point() and value.dim() > 1


def round_weights(model: ModelAdapter) -> None:
    """Round the weights of ``model``, in place, to what float16 can hold."""
    for parameter in model.net.parameters():
        if is_weight(parameter):
            parameter.data = parameter.data.half().float()


def write_results(
    trainer: Trainer,
    correct: NDArray[np.bool_],
    groups: NDArray[np.int64] | None,
    facts: dict[str, Any],
    note: str,
) -> str:
    """Weights (safetensors) and card (JSON) beside the log in the training's folder.

    Args:
        correct: which test images are classified correctly, bool [N].
        groups: what of the test images goes together, for the interval; None for nothing.
        facts: data, command and start, for the card.
        note: one line a reader must know.

    Returns:
        One line on the clean accuracy and where the weights are.
    """
    folder, card = trainer.folder, trainer.model.card
    weights = folder / f"{card.name}.safetensors"
    state = {k: v.detach().cpu().contiguous() for k, v in trainer.model.net.state_dict().items()}
    if trainer.recipe.half:
        state = {k: v.half() if is_weight(v) else v for k, v in state.items()}
    save_file(state, weights)
    n, k = len(correct), int(correct.sum())
    seconds, cpu = (sum(row[key] for row in trainer.log) for key in ("seconds", "cpu_seconds"))
    seen = trainer.epoch * len(trainer.train.labels)
    low, high = Accuracy.of(correct, groups).interval
    found = {
        "name": card.name,
        "sha256": file_sha256(weights),
        "parameters": sum(p.numel() for p in trainer.model.net.parameters()),
        "config": dict(card.config),
        "time_steps": card.time_steps,
        "recipe": trainer.recipe.facts(),
        "clean": {"accuracy": k / n, "n": n, "interval_95": [low, high]},
        "training_images": len(trainer.train.labels),
        "held_out_images": len(trainer.held_out.labels),
        "epochs": trainer.epoch,
        "selected_epoch": trainer.selected,
        "events": trainer.events,
        **facts,
        "device": device_name(trainer.device),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu),
        "images_per_second": round(seen / seconds, 1),
        "images_per_cpu_second": round(seen / cpu, 1),
        "versions": {k: v for k, v in provenance().items() if k != "command"},
        "note": note,
    }
    temporary = folder / f"{card.name}.json.tmp"
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    temporary.replace(folder / f"{card.name}.json")
    return f"clean accuracy {k / n:.1%} [{low:.1%}, {high:.1%}] of {n} test images; {weights}"
