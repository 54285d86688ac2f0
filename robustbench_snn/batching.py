"""How many samples fit into one forward pass: measured on two, before memory runs out."""

from __future__ import annotations

import os

import torch

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks.base import cross_entropy_gradient
from robustbench_snn.memory import bytes_free, bytes_used

_TRIED = 2
# Share of the free memory that a batch may fill.
_FILL = 0.7


def largest_batch(
    model: ModelAdapter, most: int, gradients: bool, device: torch.device, workers: int = 1
) -> int:
    """The largest batch up to ``most`` that leaves some of the free memory over.

    Args:
        model: in eval mode on ``device``.
        most: what was asked for; also the answer where nothing can be measured.
        gradients: whether gradients to the input are wanted, or answers alone.
        device: where it runs.
        workers: processes that share the machine's memory, or its GPUs.
    """
    if most <= _TRIED:
        return most
    x = torch.full((_TRIED, *model.card.input_shape), 0.5, device=device)
    y = torch.zeros(_TRIED, dtype=torch.int64, device=device)

    def try_out() -> None:
        if gradients:
            cross_entropy_gradient(model, x, y)
        else:
            with torch.no_grad():
                model(x)

    share = min(workers, os.cpu_count() or 1)
    if device.type == "cuda":
        share = -(-share // torch.cuda.device_count())
    try:
        # Encoders that draw at random must find the generator as it was.
        with torch.random.fork_rng():
            used = bytes_used(try_out, device)
    except Exception:
        # What is wrong with the model shows again, and is reported, where it matters.
        return most
    return fitting(most, used, _TRIED, bytes_free(device), share)


def fitting(most: int, used: int | None, samples: int, free: int | None, share: int = 1) -> int:
    """The largest batch up to ``most``, of which ``_FILL`` of the free memory holds the rest.

    Args:
        most: also the answer where nothing was measured.
        used: bytes that ``samples`` samples needed; None or 0 if unknown.
        free: bytes on the device, of which ``share`` processes get equal parts; None if unknown.
    """
    if not used or free is None or used < 0:
        return most
    return max(1, min(most, int(_FILL * free / share * samples / used)))
