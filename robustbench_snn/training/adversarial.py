"""The adversary of adversarial training, as numbers. No torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from robustbench_snn.errors import UsageError

LOSSES = ("ce", "trades")


@dataclass(frozen=True)
class Adversarial:
    """How training images are perturbed within an L-infinity ball, and what is learnt from them.

    Attributes:
        eps: radius, in pixels of [0, 1].
        steps: 1 is the single step with random start (Wong et al., arXiv 2001.03994), more is PGD
            (Madry et al., arXiv 1706.06083); the final iterate is trained on.
        step_size: of one step, in pixels; None takes 1.25 eps for one step, else 2.5 eps / steps.
        start: half width of the uniform random start, as a share of eps.
        ramp: share of the epochs over which eps grows linearly to its value.
        clean_share: share of every batch that is left clean.
        loss: ``ce``, or ``trades`` (Zhang et al., arXiv 1901.08573), whose attack ascends the
            divergence from the clean answer.
        trades_beta: weight of the divergence.
        temperature: logits are divided by it in the divergence, which is multiplied by its square.
        fallback_steps: after a collapse (see ``training.monitor``) the last good state is restored
            and training goes on with so many steps; 0 ends it there.
        watch: look for a collapse; False lets it happen, as a control wants.
    """

    eps: float
    steps: int = 1
    step_size: float | None = None
    start: float = 1.0
    ramp: float = 1 / 3
    clean_share: float = 0.0
    loss: str = "ce"
    trades_beta: float = 6.0
    temperature: float = 1.0
    fallback_steps: int = 3
    watch: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise UsageError(f"adversarial eps {self.eps} is outside (0, 1]: write 8/255.")
        if self.steps < 1 or self.fallback_steps < 0:
            raise UsageError(
                f"adversarial training takes 1 step or more, not {self.steps} (fallback "
                f"{self.fallback_steps})."
            )
        if self.step_size is not None and not 0 < self.step_size <= 1:
            raise UsageError(f"adversarial step_size {self.step_size} is outside (0, 1].")
        for name in ("start", "ramp", "clean_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"adversarial {name} is a share, not {getattr(self, name)}.")
        if self.loss not in LOSSES:
            raise UsageError(f"adversarial loss '{self.loss}' is unknown: use ce or trades.")
        if self.temperature <= 0 or self.trades_beta < 0:
            raise UsageError("temperature must be positive, and trades_beta not negative.")

    def size_of(self, steps: int) -> float:
        """Step size at the full eps, in pixels, when ``steps`` are taken."""
        if self.step_size is not None:
            return self.step_size
        return self.eps * (1.25 if steps == 1 else 2.5 / steps)

    def share_at(self, epoch: int, epochs: int) -> float:
        """Share of the full eps in ``epoch`` (from 0) of ``epochs``; never 0."""
        rising = self.ramp * epochs
        return 1.0 if epoch + 1 >= rising else (epoch + 1) / rising

    def facts(self) -> dict[str, Any]:
        """All settings as plain JSON values."""
        return asdict(self)
