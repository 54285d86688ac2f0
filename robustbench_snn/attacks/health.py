"""What an attack saw of the gradients it used: the first sign of a masked model."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class AttackHealth:
    """Counts over all gradients one attack used; add instances to merge batches.

    Attributes:
        gradients: input gradients looked at, one per sample and step.
        zero_gradients: those that were exactly zero in every pixel.
        nonfinite_gradients: those with a NaN or an infinity in any pixel.
        pixels: entries of all these gradients.
        zero_pixels: entries that were exactly zero.
        forward_calls: batches sent through the model.
        backward_calls: gradients of batches computed.
    """

    gradients: int = 0
    zero_gradients: int = 0
    nonfinite_gradients: int = 0
    pixels: int = 0
    zero_pixels: int = 0
    forward_calls: int = 0
    backward_calls: int = 0

    def __add__(self, other: AttackHealth) -> AttackHealth:
        return AttackHealth(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def zero_grad_frac(self) -> float:
        """Share of gradients that were zero everywhere, in [0, 1]; NaN when none were seen."""
        return _share(self.zero_gradients, self.gradients)

    @property
    def nonfinite_grad_frac(self) -> float:
        """Share of gradients with a non-finite entry, in [0, 1]; NaN when none were seen."""
        return _share(self.nonfinite_gradients, self.gradients)

    @property
    def zero_pixel_frac(self) -> float:
        """Share of gradient entries that were exactly zero, in [0, 1]; NaN when none were seen."""
        return _share(self.zero_pixels, self.pixels)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
