"""What a training run is: every number that decides its outcome. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean
from robustbench_snn.training.adversarial import Adversarial

AUGMENTATIONS = {
    "digit-scenes": ("shift", "channels"),
    "cifar10": ("shift", "flip", "cutout"),
    "cifar100": ("shift", "flip", "cutout"),
}
AUGMENTATION_NAMES = ("shift", "crop", "flip", "cutout", "channels", "erase")
OPTIMIZERS = ("adamw", "sgd")
LOSSES = ("ce", "tet")
SELECTIONS = ("last", "clean", "robust")
_SHARES = (
    *("warmup", "one_step", "label_smoothing", "final_lr", "mixup_share", "ema"),
    *("parseval",),
)


def check_augmentations(names: Sequence[str]) -> None:
    """Raise UsageError on a name that is no augmentation."""
    for name in names:
        if name not in AUGMENTATION_NAMES:
            hint = did_you_mean(name, list(AUGMENTATION_NAMES))
            raise UsageError(f"unknown augmentation '{name}': {hint}")


@dataclass(frozen=True)
class Recipe:
    """Warm-up and cosine decay, a part of the epochs at one time step, an adversary or none.

    Attributes:
        epochs: passes over the training images.
        batch_size: images of one step.
        optimizer: ``adamw``, or ``sgd`` with momentum 0.9.
        lr: peak learning rate.
        final_lr: where the cosine ends, as a share of ``lr``.
        weight_decay: of weights of two and more dimensions (AdamW: decoupled).
        warmup: share of all steps with linearly growing rate.
        one_step: share of the epochs trained at T = 1 before the model's own T; a first layer
            sees the same static image at every step, so its weights serve both.
        loss: ``ce``, or ``tet`` for networks that return logits of every time step.
        label_smoothing: share of the target spread over all classes.
        beta: share of SpiLiFormer's second pass in the loss, in the first and in the last epoch,
            linear in between; models with one term ignore it.
        sides: (side, share) pairs: the first epochs train on images resized to fewer pixels,
            ``share`` of the epochs each; the remaining epochs on what augmentation leaves.
        augment: names from ``robustbench_snn.training.augment``.
        mixup: parameter of the Beta distribution images are mixed by; 0 mixes none.
        mixup_share: share of the epochs, from the first, that mix.
        ema: decay per step of the weights' moving average, which is then what is measured and
            written; 0 keeps none.
        start: catalogue name of the model whose weights training starts from; empty for none.
        adversarial: the adversary; None trains on images as they are.
        parseval: step of SNN-RAT's orthogonal regularisation after every update; 0 for none.
        gradient_ratio: weight of the sparsity regulariser on input gradients; 0 for none.
        select: which epoch is written: the ``last``, or the best on held-out images of those at
            the final T (and the full eps): ``clean`` accuracy, or ``robust`` (PGD-10).
        seed: of weights, order, augmentation and random starts.
        precision: ``float32``, or ``bfloat16`` autocast (evaluation is always float32).
        neuron: ``eager``, or ``compiled`` (see ``robustbench_snn.models.compiled``).
        half: write weights in float16 and measure the rounded model.
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 2e-3
    final_lr: float = 0.01
    weight_decay: float = 0.05
    warmup: float = 0.05
    one_step: float = 0.6
    loss: str = "ce"
    label_smoothing: float = 0.0
    beta: tuple[float, float] = (0.8, 0.8)
    sides: tuple[tuple[int, float], ...] = ()
    augment: tuple[str, ...] = ()
    mixup: float = 0.0
    mixup_share: float = 1.0
    ema: float = 0.0
    start: str = ""
    adversarial: Adversarial | None = None
    parseval: float = 0.0
    gradient_ratio: float = 0.0
    select: str = "last"
    seed: int = 0
    precision: str = "float32"
    neuron: str = "eager"
    half: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is a share in [0, 1], not {getattr(self, name)}.")
        if not all(0 <= end <= 1 for end in self.beta):
            raise UsageError(f"beta is a share in [0, 1], not {self.beta}.")
        shares = [share for _, share in self.sides]
        if any(side < 4 or side % 4 for side, _ in self.sides) or not 0 <= sum(shares) <= 1:
            raise UsageError(
                "sides are SIDE:SHARE pairs, sides divisible by 4 and shares of at most 1 in all, "
                "for example 16:0.4,24:0.3."
            )
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr must be positive, not {self.lr}.")
        for name in ("mixup", "gradient_ratio", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be at least 0, not {getattr(self, name)}.")
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("loss", LOSSES),
            ("select", SELECTIONS),
            ("precision", ("float32", "bfloat16")),
            ("neuron", ("eager", "compiled")),
        ):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} '{getattr(self, name)}' is unknown: use one of {', '.join(known)}."
                )
        check_augmentations(self.augment)
        self._check_adversary()

    def _check_adversary(self) -> None:
        if self.adversarial is None:
            if self.select == "robust":
                raise UsageError("select 'robust' needs an adversary: add [adversarial].")
            return
        if self.mixup and self.adversarial.loss == "trades":
            raise UsageError("mixup and the loss 'trades' do not go together: drop one.")
        if self.loss == "tet" and self.adversarial.loss == "trades":
            raise UsageError("the losses 'tet' and 'trades' do not go together: drop one.")

    def facts(self) -> dict[str, Any]:
        """All settings as plain JSON values."""
        return {
            **asdict(self),
            "augment": list(self.augment),
            "sides": [list(pair) for pair in self.sides],
            "beta": list(self.beta),
        }

    def beta_at(self, epoch: int) -> float:
        """The share of the last pass's loss in ``epoch`` (from 0)."""
        first, last = self.beta
        return first + (last - first) * epoch / max(1, self.epochs - 1)

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

    def mixes(self, epoch: int) -> bool:
        """Whether ``epoch`` (from 0) mixes images."""
        return self.mixup > 0 and epoch < self.mixup_share * self.epochs


def recipe_from(facts: Mapping[str, Any]) -> Recipe:
    """The recipe a card or checkpoint states; older ones lack settings that did not exist.

    Raises:
        UsageError: a setting that no recipe has, or an impossible value.
    """
    given = dict(facts)
    unknown = given.keys() - {field.name for field in fields(Recipe)}
    if unknown:
        raise UsageError(f"a recipe has no setting '{min(unknown)}'.")
    # Before it was a setting, SpiLiFormer's two passes counted equally.
    first, last = given.get("beta", (0.5, 0.5))
    given["beta"] = (float(first), float(last))
    given["augment"] = tuple(given.get("augment", ()))
    given["sides"] = tuple((int(side), float(share)) for side, share in given.get("sides", ()))
    if (adversary := given.get("adversarial")) is not None:
        given["adversarial"] = Adversarial(**adversary)
    return Recipe(**given)
