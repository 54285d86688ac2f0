"""The protocol every attack follows, and the pieces attacks share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.health import AttackHealth


@dataclass(frozen=True)
class Perturbed:
    """One adversarial batch.

    Attributes:
        x: images shaped like the attacked ones, detached, within the model's input range.
        health: what the attack saw of its gradients.
    """

    x: Tensor
    health: AttackHealth


class Attack(ABC):
    """One kind of attack; a call serves all specs of one group.

    Args:
        seed: seed of all random choices; equal seeds give equal results.

    Attributes:
        early_stop: let samples that are wrong already be; only PGD, which goes on otherwise, heeds
            it.
    """

    early_stop = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        """Attack a batch once for every spec; the model is in eval mode meanwhile.

        Args:
            model: images [B, *] in pixel units to logits [B, K].
            x: clean images [B, *], float, usually in [0, 1].
            y: true labels [B], int64.
            ids: B sample ids; random choices of a sample depend on its id, not on its place.
            specs: members of one group (``attacks.group``).

        Returns:
            One Perturbed per spec, in order.

        Raises:
            ValueError: batch sizes differ.
        """
        if not len(x) == len(y) == len(ids):
            raise ValueError(f"{len(x)} images, {len(y)} labels and {len(ids)} ids: must be equal")
        with evaluation_mode(model):
            return self._run(model, x.detach(), y, ids, specs)

    def perturb(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Tensor]:
        """The adversarial batches of ``run`` alone."""
        return [found.x for found in self.run(model, x, y, ids, specs)]

    @abstractmethod
    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        """The attack itself; arguments as in ``run``, checked."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module's own training flag is back as it was."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        # Not module.train(flag), which would also set the flag of every child.
        for module, flag in flags.items():
            module.training = flag


def input_range(model: nn.Module) -> tuple[float, float | None]:
    """Bounds of the model's inputs from its card; (0, 1) for a model without one."""
    return 0.0, getattr(getattr(model, "card", None), "max_value", 1.0)


def mixes_images(model: nn.Module) -> bool:
    """Whether an image's logits depend on the other images of its batch, by the model's design."""
    return any(getattr(module, "official", False) for module in model.modules())


def uniform_noise(seed: int, ids: Sequence[str], shape: Sequence[int], restart: int = 0) -> Tensor:
    """Noise in [-1, 1), float32 [B, *shape], each sample from a generator of its own.

    The generator is Philox (Salmon et al. 2011) keyed by (seed, sample id, restart), so a sample's
    noise depends neither on its batch nor on the machine.
    """
    noise = np.empty((len(ids), *shape), dtype=np.float32)
    for row, sample_id in zip(noise, ids, strict=True):
        row[...] = sample_generator(seed, sample_id, restart).random(tuple(shape), dtype=np.float32)
    return torch.from_numpy(noise).mul_(2.0).sub_(1.0)


def gaussian_noise(seed: int, ids: Sequence[str], shape: Sequence[int], restart: int = 0) -> Tensor:
    """Standard normal noise, float32 [B, *shape], drawn as ``uniform_noise`` draws."""
    noise = np.empty((len(ids), *shape), dtype=np.float32)
    for row, sample_id in zip(noise, ids, strict=True):
        generator = sample_generator(seed, sample_id, restart)
        row[...] = generator.standard_normal(tuple(shape), dtype=np.float32)
    return torch.from_numpy(noise)


def sample_generator(seed: int, sample_id: str, restart: int) -> np.random.Generator:
    """The generator of one sample's random choices, the same wherever it is attacked."""
    digest = hashlib.sha256(f"{seed}|{sample_id}|{restart}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def cross_entropy_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of the batch's summed cross-entropy with respect to ``x``, shaped like ``x``.

    The sum, not the mean: a sample's gradient is then free of the batch size, and the 1/B of the
    mean cannot push small entries below the smallest float. Signs are the same either way.
    """
    return answer_and_gradient(model, x, y)[1]


def answer_and_gradient(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [B, K] at ``x`` and the ``cross_entropy_gradient`` there."""
    point = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(point)
        loss = nn.functional.cross_entropy(logits, y, reduction="sum")
    return logits.detach(), torch.autograd.grad(loss, point)[0]


def gradient_health(gradient: Tensor) -> AttackHealth:
    """Counts for one batch of input gradients [B, *], one forward and one backward call."""
    flat = gradient.detach().flatten(1)
    zero = flat == 0
    return AttackHealth(
        gradients=len(flat),
        zero_gradients=int(zero.all(dim=1).sum()),
        nonfinite_gradients=int((~flat.isfinite()).any(dim=1).sum()),
        pixels=flat.numel(),
        zero_pixels=int(zero.sum()),
        forward_calls=1,
        backward_calls=1,
    )
