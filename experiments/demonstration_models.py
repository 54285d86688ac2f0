"""ImageNet-layout models whose random weights let neurons fire, to show a layout and nothing else.

A plugin: ``--plugin experiments/demonstration_models.py --model sdt-8-384-demonstration.imagenet``.
An untrained network is silent, because batch norms still expect normalised activations; here they
take their statistics from one batch of noise.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.catalogue import model_card
from robustbench_snn.models import adapters


def fed_with_noise(net: nn.Module) -> nn.Module:
    """``net`` after its batch norms have seen 4 noise images of 64 pixels, T = 2."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.train()(noise.expand(2, *noise.shape))
    return net


def demonstration(kind: type[ModelAdapter], name: str) -> type[ModelAdapter]:
    """The adapter class of ``name``, fed with noise, under a name that says so."""
    family, dataset = name.split(".")
    shown = replace(
        model_card(name),
        name=f"{family}-demonstration.{dataset}",
        checkpoint=None,
        reported=None,
        note="",
    )

    class Demonstration(kind):  # type: ignore[valid-type,misc]
        card = shown

        def build(self) -> nn.Module:
            return fed_with_noise(super().build())

    return Demonstration


Sdt = demonstration(adapters.SpikeDrivenTransformerAdapter, "sdt-8-384.imagenet")
QKFormer = demonstration(adapters.QKFormerAdapter, "qkformer-10-384.imagenet")
SpiLiFormer = demonstration(adapters.SpiLiFormerAdapter, "spiliformer-10-768.imagenet")
