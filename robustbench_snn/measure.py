"""What the runner finds out about adversarial images itself, whatever the attack claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_snn.attacks.losses import answers, cross_entropy, margin

# Room for the rounding of x + delta in float32.
TOLERANCE = 1e-6

_NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "linf": lambda delta: delta.abs().amax(dim=1),
    "l2": lambda delta: delta.square().sum(dim=1).sqrt(),
    "l1": lambda delta: delta.abs().sum(dim=1),
    "l0": lambda delta: (delta != 0).sum(dim=1).double(),
}


@dataclass(frozen=True)
class Budget:
    """What an attack may do to an image.

    Attributes:
        norm: ``linf``, ``l2``, ``l1``, ``l0`` or ``none``.
        eps: largest norm of the perturbation, pixel units; None for no bound.
        high: upper end of the input range, whose lower end is 0; None for no upper end.
    """

    norm: str
    eps: float | None
    high: float | None


@dataclass(frozen=True)
class Scores:
    """How a model answers n samples.

    Attributes:
        predicted: int64 [n], class with the largest logit; -1 where a logit is not finite, which
            is a wrong answer whatever the label.
        loss: float32 [n], cross-entropy in nats; infinite there.
        margin: float32 [n], true logit minus the largest other; negative when wrong, minus
            infinity there.
    """

    predicted: NDArray[np.int64]
    loss: NDArray[np.float32]
    margin: NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """A batch of adversarial images as the runner sees it.

    Attributes:
        scores: the model's answer; where the image is not valid, its answer to the clean image.
        linf: float32 [n], largest change of a pixel.
        within: bool [n], perturbation within the budget and finite.
        in_range: bool [n], all pixels within the input range.
    """

    scores: Scores
    linf: NDArray[np.float32]
    within: NDArray[np.bool_]
    in_range: NDArray[np.bool_]


@dataclass
class Agreement:
    """On how many adversarial images a faster path and the exact one predict the same.

    Attributes:
        checked, agree: images asked both, and those with the same answer.
    """

    checked: int = 0
    agree: int = 0

    def add(self, model: nn.Module, x: Tensor, predicted: NDArray[np.int64]) -> None:
        """Ask the faster ``model`` about images the exact one calls ``predicted``."""
        with torch.no_grad():
            other = answers(model(x)).cpu().numpy()
        self.checked += len(other)
        self.agree += int((other == predicted).sum())

    def row(self) -> dict[str, int]:
        """The columns of a results row."""
        return {"fast_checked": self.checked, "fast_agree": self.agree}


def score(logits: Tensor, y: Tensor) -> Scores:
    """Answers from logits [n, K] and true labels [n], on any device."""
    logits, y = logits.detach().float().cpu(), y.cpu()
    loss = torch.where(logits.isfinite().all(1), cross_entropy(logits, y), torch.inf)
    return Scores(answers(logits).numpy(), loss.numpy(), margin(logits, y).numpy())


def measure(model: nn.Module, clean: Tensor, found: Tensor, y: Tensor, budget: Budget) -> Measured:
    """Check and predict adversarial images.

    Args:
        model: images [B, *] to logits [B, K].
        clean, found: images before and after the attack, [B, *].
        y: true labels [B].
        budget: what the attack was allowed.

    Raises:
        ValueError: the attack returned another shape.
    """
    if found.shape != clean.shape:
        raise ValueError(f"the attack returned {tuple(found.shape)} for {tuple(clean.shape)}")
    delta = (found.double() - clean.double()).flatten(1)
    flat = found.flatten(1)
    finite = flat.isfinite().all(dim=1)
    within = finite
    if budget.eps is not None and budget.norm in _NORMS:
        size = _NORMS[budget.norm](delta)
        # Sums over pixels round more than a single pixel does.
        slack = 0.0 if budget.norm == "linf" else 10 * TOLERANCE * budget.eps
        within = finite & (size <= budget.eps + TOLERANCE + slack)
    in_range = (flat >= 0).all(dim=1)
    if budget.high is not None:
        in_range &= (flat <= budget.high).all(dim=1)
    valid = within & in_range
    shape = (-1, *[1] * (clean.ndim - 1))
    with torch.no_grad():
        logits = model(torch.where(valid.reshape(shape), found, clean))
    linf = delta.abs().amax(dim=1).float()
    return Measured(
        score(logits, y), linf.cpu().numpy(), within.cpu().numpy(), in_range.cpu().numpy()
    )


def joined(parts: list[Measured]) -> Measured:
    """Consecutive batches as one."""
    scores = Scores(
        np.concatenate([part.scores.predicted for part in parts]),
        np.concatenate([part.scores.loss for part in parts]),
        np.concatenate([part.scores.margin for part in parts]),
    )
    return Measured(
        scores,
        np.concatenate([part.linf for part in parts]),
        np.concatenate([part.within for part in parts]),
        np.concatenate([part.in_range for part in parts]),
    )


def unchanged(scores: Scores, n: int) -> Measured:
    """What clean images give when they count as attacked by nothing: ``n`` of them."""
    everywhere = np.ones(n, dtype=np.bool_)
    return Measured(scores, np.zeros(n, dtype=np.float32), everywhere, everywhere)
