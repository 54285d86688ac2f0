"""Adapters of the three families: cards in, networks out."""

from __future__ import annotations

import re

from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.models.qkformer import QKFormer
from robustbench_snn.models.spike_driven_transformer import SpikeDrivenTransformer
from robustbench_snn.models.spiliformer import SpiLiFormer


class QKFormerAdapter(ModelAdapter):
    """QKFormer; ``card.config`` holds the arguments of :class:`QKFormer`."""

    def build(self) -> nn.Module:
        return QKFormer(**self.card.config)


class SpikeDrivenTransformerAdapter(ModelAdapter):
    """Spike-driven Transformer; ``card.config`` holds its constructor arguments."""

    def build(self) -> nn.Module:
        return SpikeDrivenTransformer(**self.card.config)


class SpiLiFormerAdapter(ModelAdapter):
    """SpiLiFormer; ``card.config`` holds the arguments of :class:`SpiLiFormer`.

    Attributes:
        beta: share of the second pass in the training loss ``(1 - beta) CE1 + beta CE2``; 0.8 in
            the released CIFAR training, 0.5 in the paper (Section 3.4, there alpha).
    """

    net: SpiLiFormer
    beta = 0.8

    def build(self) -> nn.Module:
        return SpiLiFormer(**self.card.config)

    def state_dict_map(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {released_key(key, self.net.linear_key): value for key, value in state.items()}

    def training_logits(self, x: Tensor) -> list[tuple[float, Tensor]]:
        logits = self.net.passes(self.prepare(x))
        if len(logits) == 1:
            return [(1.0, logits[0])]
        return [(1 - self.beta, logits[0]), (self.beta, logits[1])]


def released_key(key: str, attention: str) -> str:
    """Our name of a tensor or neuron that the released SpiLiFormer code names ``key``.

    Args:
        key: as in the checkpoint; our own names stay.
        attention: the layout's name of the last stage's attention.
    """
    # The ImageNet model numbers its feedback stages, of which there is one: its last, the third.
    found = re.fullmatch(r"decoder(?:_stage_(\d)|\.0)\.(\d+)\.decoder_(linear|bn|lif)(\.\w+)?", key)
    if found:
        stage, block, layer, leaf = found.groups()
        return f"stage{stage or 3}.{block}.{attention}.fb_{layer}{leaf or ''}"
    return {"prompt": "prompt1", "prompt_2": "prompt2"}.get(key, key)
