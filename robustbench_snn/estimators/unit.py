"""What one spiking unit differentiates with: fixed slopes, and the base of adaptive ones."""

from __future__ import annotations

from torch import Tensor

from robustbench_snn.estimators.slopes import Slope


class UnitSlope:
    """The slope of one unit; this one is a fixed function of u.

    Attributes:
        separable: a sample's slopes depend on that sample alone, so that a batch may shrink.
        updating: whether an adaptive slope learns from what it sees (see ``Active.updating``).
    """

    separable = True

    def __init__(self, slope: Slope) -> None:
        self._slope = slope
        self.updating = True

    def at(self, u: Tensor, first: int, fresh: bool) -> Tensor:
        """Slopes at ``u`` [t, B, ...].

        Args:
            u: membrane potential minus threshold at t consecutive time steps.
            first: time steps this unit has seen in this forward pass.
            fresh: whether a new sequence begins with the first of them.
        """
        return self._slope(u)

    def restart(self) -> None:
        """Forget all statistics: a new batch or a new restart of an attack begins."""

    def select(self, keep: Tensor) -> None:
        """Keep the statistics of the samples at ``keep`` (int64) only: the batch shrank."""
