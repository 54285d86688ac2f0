"""What a training run is: every number that decides its outcome. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

AUGMENTATIONS = {
    "digit-scenes": ("shift", "channels"),
    "cifar10": ("shift", "flip", "cutout"),
    "cifar100": ("shift", "flip", "cutout"),
}
AUGMENTATION_NAMES = ("shift", "crop", "flip", "cutout", "channels")


def check_augmentations(names: Sequence[str]) -> None:
    """Raise UsageError on a name that is no augmentation."""
    for name in names:
        if name not in AUGMENTATION_NAMES:
            hint = did_you_mean(name, list(AUGMENTATION_NAMES))
            raise UsageError(f"unknown augmentation '{name}': {hint}")


@dataclass(frozen=True)
class Recipe:
    """AdamW with warm-up and cosine decay, a part of the epochs at one time step.

    Attributes:
        epochs: passes over the training images.
        batch_size: images of one step.
        lr: peak learning rate of AdamW; the cosine ends at ``lr / 100``.
        weight_decay: decoupled decay of weights of two and more dimensions.
        warmup: share of all steps with linearly growing rate.
        one_step: share of the epochs trained at T = 1 before the model's own T; a first layer
            sees the same static image at every step, so its weights serve both.
        label_smoothing: share of the target spread over all classes.
        sides: (side, share) pairs: the first epochs train on images resized to fewer pixels,
            ``share`` of the epochs each; the remaining epochs on what augmentation leaves.
        augment: names from ``robustbench_snn.training.augment``.
        seed: of weights, order and augmentation.
        precision: ``float32``, or ``bfloat16`` autocast (evaluation is always float32).
        neuron: ``eager``, or ``compiled`` (see ``robustbench_snn.models.compiled``).
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    one_step: float = 0.6
    label_smoothing: float = 0.0
    sides: tuple[tuple[int, float], ...] = ()
    augment: tuple[str, ...] = ()
    seed: int = 0
    precision: str = "float32"
    neuron: str = "eager"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("warmup", "one_step", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a share in [0, 1], not {getattr(self, name)}.")
        shares = [share for _, share in self.sides]
        if any(side < 4 or side % 4 for side, _ in self.sides) or not 0 <= sum(shares) <= 1:
            raise UsageError(
                "sides are SIDE:SHARE pairs, sides divisible by 4 and shares of at most 1 in all, "
                "for example 16:0.4,24:0.3."
            )
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr must be positive, not {self.lr}.")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"weight_decay must be at least 0, not {self.weight_decay}.")
        if self.seed < 0:
            raise UsageError(f"seed must be at least 0, not {self.seed}.")
        check_augmentations(self.augment)

    def facts(self) -> dict[str, Any]:
        """All settings as plain JSON values."""
        sides = [list(pair) for pair in self.sides]
        return {**asdict(self), "augment": list(self.augment), "sides": sides}

    def one_step_epochs(self, time_steps: int) -> int:
        """How many of the first epochs run at T = 1 when the model's own T is ``time_steps``."""
        return 0 if time_steps == 1 else int(self.epochs * self.one_step)

    def side_at(self, epoch: int) -> int | None:
        """Side in pixels of the training images in ``epoch`` (from 0); None: not resized."""
        end = 0.0
        for side, share in self.sides:
            end += share * self.epochs
            if epoch < round(end):
                return side
        return None


def recipe_from(facts: dict[str, Any]) -> Recipe:
    """The recipe a card or checkpoint states."""
    known = {field.name for field in fields(Recipe)}
    given = {k: facts[k] for k in known if k in facts}
    sides = tuple((int(side), float(share)) for side, share in facts.get("sides", ()))
    return Recipe(**{**given, "augment": tuple(facts["augment"]), "sides": sides})
