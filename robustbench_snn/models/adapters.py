"""Adapters of the three families: cards in, networks out."""

from __future__ import annotations

from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.models.qkformer import QKFormer
from robustbench_snn.models.spike_driven_transformer import SpikeDrivenTransformer
from robustbench_snn.models.spiliformer import SpiLiFormer

LOSS_BALANCE = 0.5  # alpha of SpiLiFormer's two-pass loss (Section 3.4), constant in the paper


class QKFormerAdapter(ModelAdapter):
    """QKFormer; ``card.config`` holds the arguments of :class:`QKFormer`."""

    def build(self) -> nn.Module:
        return QKFormer(**self.card.config)


class SpikeDrivenTransformerAdapter(ModelAdapter):
    """Spike-driven Transformer; ``card.config`` holds its constructor arguments."""

    def build(self) -> nn.Module:
        return SpikeDrivenTransformer(**self.card.config)


class SpiLiFormerAdapter(ModelAdapter):
    """SpiLiFormer; ``card.config`` holds the arguments of :class:`SpiLiFormer`."""

    net: SpiLiFormer

    def build(self) -> nn.Module:
        return SpiLiFormer(**self.card.config)

    def training_logits(self, x: Tensor) -> list[tuple[float, Tensor]]:
        logits = self.net.passes(self.prepare(x))
        if len(logits) == 1:
            return [(1.0, logits[0])]
        return [(LOSS_BALANCE, logits[0]), (1 - LOSS_BALANCE, logits[1])]
