"""Losses that attacks climb: one value for each sample, larger is closer to a mistake."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbench_snn.errors import UsageError

_TINY = 1e-12

# What stands for the class in an answer that is not finite; no label is equal to it.
NO_ANSWER = -1

# (logits [B, K], labels [B], targets [B] or None) to losses [B].
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def answers(logits: Tensor) -> Tensor:
    """The class with the largest logit, int64 [B]; ``NO_ANSWER`` where a logit is not finite."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NO_ANSWER)


def wrong(logits: Tensor, y: Tensor) -> Tensor:
    """Whether the answer is not the class ``y`` [B], bool [B]: no finite answer is a wrong one."""
    return answers(logits) != y


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """True logit minus the largest other, [B]; negative when the prediction is wrong.

    Minus infinity where a logit is not finite, so that nothing is worse.
    """
    true = logits.gather(1, y[:, None])[:, 0]
    gap = true - logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return torch.where(logits.isfinite().all(1), gap, -torch.inf)


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats."""
    return nn.functional.cross_entropy(logits, y, reduction="none")


def negative_margin(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Largest other logit minus the true one (Carlini and Wagner 2017): no saturation."""
    return -margin(logits, y)


def dlr(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Difference of logits ratio: -(z_y - max of the others) / (z_1 - z_3), z sorted downwards.

    Source: Croce and Hein 2020 (arXiv 2003.01690), equation 6.
    """
    top = logits.topk(3, dim=1).values
    return -margin(logits, y) / (top[:, 0] - top[:, 2] + _TINY)


def dlr_targeted(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2) towards class t (the same paper, equation 7)."""
    assert target is not None
    top = logits.topk(4, dim=1).values
    aimed = logits.gather(1, y[:, None]) - logits.gather(1, target[:, None])
    return -aimed[:, 0] / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "margin": negative_margin,
    "dlr": dlr,
    "dlr-targeted": dlr_targeted,
}
_CLASSES = {"dlr": 3, "dlr-targeted": 4}


def check_classes(loss: str, classes: int) -> None:
    """Raise UsageError when ``loss`` needs more classes than there are."""
    needed = _CLASSES.get(loss, 2)
    if classes < needed:
        raise UsageError(
            f"loss '{loss}' compares the {needed} largest logits, and the model has {classes} "
            "classes: use the loss margin or ce."
        )
