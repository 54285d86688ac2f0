"""Robustness over time steps: attacks made at one T, tested at another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks import build
from robustbench_snn.attacks.losses import wrong
from robustbench_snn.suites.spec import Suite, attack_at


@dataclass(frozen=True)
class TimeCell:
    """Accuracy at ``test_steps`` under an attack made at ``attack_steps`` (0: no attack)."""

    attack_steps: int
    test_steps: int
    correct: int
    n: int

    def record(self) -> dict[str, int]:
        """As plain values."""
        return asdict(self)


@contextmanager
def at_time_steps(model: ModelAdapter, steps: int) -> Iterator[None]:
    """The model with another number of time steps, restored afterwards."""
    own = model.time_steps
    model.time_steps = steps
    try:
        yield
    finally:
        model.time_steps = own


def default_steps(own: int) -> tuple[int, ...]:
    """Half, once and twice the model's own number, at least 1."""
    return tuple(dict.fromkeys([max(own // 2, 1), own, 2 * own]))


def time_matrix(
    suite: Suite,
    model: ModelAdapter,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    ids: Sequence[str],
    seed: int,
    batch_size: int,
) -> tuple[list[TimeCell], dict[str, NDArray[np.bool_]]]:
    """Every attack T against every test T, clean accuracy at every test T first.

    Event frames bring their own time steps, so their matrix is empty.

    Returns:
        (cells, what each attack is called to whether the samples are right at the model's own T).
    """
    times = suite.times
    if not times.n or len(model.card.input_shape) == 4:
        return [], {}
    attack = times.attack or default_steps(model.card.time_steps)
    test = times.test or default_steps(model.card.time_steps)
    images, labels = torch.from_numpy(x[: times.n]), torch.from_numpy(y[: times.n])
    device = next(model.parameters()).device
    images, labels, ids = images.to(device), labels.to(device), list(ids[: times.n])
    table = [_cell(0, t, _right(model, t, images, labels, batch_size)) for t in test]
    outcomes = {}
    eot = 10 if model.stochastic else 1
    spec = attack_at(("pgd-worst", {"steps": times.steps, "eot": eot}), suite.eps)
    for made in attack:
        with at_time_steps(model, made):
            found = [
                build(spec.name, seed).perturb(
                    model, part, labels[at : at + batch_size], ids[at : at + batch_size], [spec]
                )[0]
                for at, part in _batches(images, batch_size)
            ]
        moved = torch.cat(found)
        right = {
            t: _right(model, t, moved, labels, batch_size)
            for t in dict.fromkeys([*test, model.time_steps])
        }
        table += [_cell(made, t, right[t]) for t in test]
        outcomes[f"{spec.name} made at T = {made}"] = right[model.time_steps]
    return table, outcomes


def _batches(images: torch.Tensor, size: int) -> list[tuple[int, torch.Tensor]]:
    return [(at, images[at : at + size]) for at in range(0, len(images), size)]


def _right(
    model: ModelAdapter, steps: int, images: torch.Tensor, labels: torch.Tensor, size: int
) -> NDArray[np.bool_]:
    with at_time_steps(model, steps), torch.no_grad():
        parts = [~wrong(model(part), labels[at : at + size]) for at, part in _batches(images, size)]
    return np.asarray(torch.cat(parts).cpu().numpy())


def _cell(made: int, steps: int, right: NDArray[np.bool_]) -> TimeCell:
    return TimeCell(made, steps, int(right.sum()), len(right))
