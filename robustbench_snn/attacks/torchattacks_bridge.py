"""Any attack of the torchattacks package on any of our models.

torchattacks takes [0, 1] images, hard-codes that range, draws noise from the global generators and
restores train mode from the root module only. The bridge supplies what that leaves open: seeds,
the number of classes, every module's mode, and counts of the work done.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.base import Attack, Perturbed, gradient_health, input_range
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.specs import BRIDGE_PREFIX
from robustbench_snn.attacks.torchattacks_catalogue import accepted, attack_classes, default_of
from robustbench_snn.errors import UsageError


class TorchattacksAttack(Attack):
    """A torchattacks class behind our protocol; results depend on the composition of the batch.

    Its AutoAttack runs 10 iterations per attack where the published one runs 100.
    """

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        return [self._run_one(model, x, y, ids, spec) for spec in specs]

    def _run_one(
        self, model: nn.Module, x: Tensor, y: Tensor, ids: Sequence[str], spec: AttackSpec
    ) -> Perturbed:
        _check_input(model, x, spec.name)
        seed = batch_seed(self.seed, ids)
        attack = _instance(spec, model, x, seed)
        with seeded(seed), observed(model, x) as counts:
            images = attack(x.clone(), y)
        return Perturbed(images.detach().to(x), counts[0])


def batch_seed(seed: int, ids: Sequence[str]) -> int:
    """Seed of one batch in [0, 2**32), from the run's seed and the batch's first sample id."""
    digest = hashlib.sha256(f"{seed}|{ids[0] if ids else ''}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch; give back their states afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def observed(model: nn.Module, x: Tensor) -> Iterator[list[AttackHealth]]:
    """Count the model's calls and look at every gradient that reaches its input.

    Yields a list of one AttackHealth, replaced as counts grow.
    """
    counts = [AttackHealth()]

    def on_input_gradient(gradient: Tensor) -> Tensor:
        seen = gradient_health(gradient)
        counts[0] += replace(seen, forward_calls=0, backward_calls=0)
        # Following NaN would end in an image of NaN, which no model can be asked about; so the
        # attack stays where the answer is not finite, and that answer counts as wrong.
        return gradient.nan_to_num(nan=0.0)

    def on_logit_gradient(gradient: Tensor) -> None:
        counts[0] += AttackHealth(backward_calls=1)

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].requires_grad and inputs[0].shape[1:] == x.shape[1:]:
            inputs[0].register_hook(on_input_gradient)

    def after(module: nn.Module, inputs: tuple[Any, ...], logits: Tensor) -> None:
        counts[0] += AttackHealth(forward_calls=1)
        if logits.requires_grad:
            logits.register_hook(on_logit_gradient)

    handles = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _check_input(model: nn.Module, x: Tensor, name: str) -> None:
    if x.ndim != 4:
        raise UsageError(
            f"{name} takes images [B, C, H, W], and this model's inputs have {x.ndim - 1} axes; "
            "use fgsm or pgd, which take inputs of any shape."
        )
    if input_range(model)[1] != 1.0:
        raise UsageError(
            f"{name} clamps to [0, 1], and this model's inputs are not bounded by 1, so even "
            "eps 0 would change them; use fgsm or pgd, which keep to the model's own range."
        )


def _instance(spec: AttackSpec, model: nn.Module, x: Tensor, seed: int) -> Any:
    name = spec.name.removeprefix(BRIDGE_PREFIX)
    arguments: dict[str, Any] = {
        key: _as_tuple(value) if isinstance(default_of(name, key), tuple) else value
        for key, value in spec.params.items()
    }
    takes = accepted(name)
    if "seed" in takes:
        arguments["seed"] = seed
    if "n_classes" in takes:
        with torch.no_grad():
            arguments["n_classes"] = model(x[:1]).shape[1]
    attack = attack_classes()[name](model, **arguments)
    attack.set_device(x.device)
    return attack


def _as_tuple(text: object) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in str(text).split(","))
    except ValueError:
        raise UsageError(f"'{text}' is not a list of whole numbers such as 2,10.") from None
