"""A plugin for tests: one small trained spiking network, honest, masked, and with odd encoders.

The weights (``golden/spiking_cnn.npz``) come from ``golden/make_spiking_cnn.py``. ``control.test``
has the surrogate it was trained with; ``masked.test`` the same weights and a surrogate so sharp
that gradients vanish, which changes no answer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from spikingjelly.activation_based import surrogate
from torch import nn

from robustbench_snn import ModelAdapter, ModelCard
from robustbench_snn.models.neuron import LIF

WEIGHTS = Path(__file__).parent / "golden" / "spiking_cnn.npz"
MASK = 400.0


class SpikingCNN(nn.Module):
    """[T, B, 3, 32, 32] to [T, B, 10]: three convolutions with neurons and a linear readout."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1, self.lif1 = nn.Conv2d(3, 16, 5, 2, 2), nn.BatchNorm2d(16), LIF(0.5)
        self.conv2, self.norm2, self.lif2 = nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), LIF(0.5)
        self.conv3, self.norm3, self.lif3 = nn.Conv2d(32, 48, 3, 1, 1), nn.BatchNorm2d(48), LIF(0.5)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(48 * 16, 10)

    def forward(self, x):
        t, b = x.shape[:2]
        for layer in "123":
            conv, norm, lif = (getattr(self, name + layer) for name in ("conv", "norm", "lif"))
            x = lif(norm(conv(x.flatten(0, 1))).unflatten(0, (t, b)))
        y = self.pool(x.flatten(0, 1)).flatten(1)
        return self.head(y).unflatten(0, (t, b))


def card(name):
    return ModelCard(
        name=name,
        dataset="digit-scenes",
        num_classes=10,
        input_shape=(3, 32, 32),
        time_steps=2,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )


class Trained(ModelAdapter):
    def build(self):
        net = SpikingCNN()
        if WEIGHTS.exists():
            arrays = np.load(WEIGHTS)
            net.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
        return net


class Control(Trained):
    card = card("control.test")


class Masked(Trained):
    card = card("masked.test")

    def build(self):
        net = super().build()
        for unit in (net.lif1, net.lif2, net.lif3):
            unit.surrogate_function = surrogate.Sigmoid(alpha=MASK)
        return net


class RandomEncoder(Trained):
    """Adds noise to every image it sees, as a rate code would."""

    card = card("random.test")
    stochastic = True

    def encode(self, x):
        return super().encode(x + 0.2 * torch.randn_like(x))


class Plain(ModelAdapter):
    """No spiking units at all."""

    card = card("plain.test")

    def build(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(0, 1), nn.Flatten(), nn.Linear(3 * 32 * 32, 10))

    def encode(self, x):
        return x.unsqueeze(0)
