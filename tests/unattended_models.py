"""A plugin for tests: networks without attention, whose layers give their time axis in all ways."""

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

from robustbench_snn import ModelAdapter, ModelCard

STEPS = 3


def card(name):
    return ModelCard(
        name=name, dataset="digit-scenes", num_classes=10, input_shape=(3, 32, 32), time_steps=STEPS
    )


def lif(mode):
    return neuron.LIFNode(v_threshold=0.2, step_mode=mode, surrogate_function=surrogate.ATan())


class Seeded(ModelAdapter):
    def build(self):
        torch.manual_seed(0)
        return self.network()


class MultiStep(Seeded):
    """[T, B, C, H, W] throughout, as in the README."""

    card = card("multi.test")

    def network(self):
        conv = layer.Conv2d(3, 8, 5, stride=2, step_mode="m")
        pool = layer.AdaptiveAvgPool2d(1, step_mode="m")
        head = [layer.Flatten(step_mode="m"), layer.Linear(8, 10, step_mode="m")]
        return nn.Sequential(conv, lif("m"), pool, *head)


class SingleStep(Seeded):
    """The network runs once a step on [B, C, H, W]."""

    card = card("single.test")

    def network(self):
        conv = nn.Conv2d(3, 8, 5, stride=2)
        return nn.Sequential(
            conv, lif("s"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        )

    def forward(self, x):
        return self.readout(torch.stack([self.net(step) for step in self.prepare(x)]))


class Flattened(Seeded):
    """Convolutions see [T * B, C, H, W], neurons see time."""

    card = card("flat.test")

    def network(self):
        return FlatNet()


class FlatNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lif = nn.Conv2d(3, 8, 5, stride=2), lif("m")
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        y = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.head(self.lif(y).mean((3, 4)))


class Plain(Seeded):
    """No spikes and no time."""

    card = card("cnn.test")

    def network(self):
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
        return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), *head)

    def encode(self, x):
        return x
