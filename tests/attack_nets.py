"""Small networks the attack tests share; seeded, parameters frozen, in eval mode."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn


def frozen(net: nn.Module) -> nn.Module:
    return net.eval().requires_grad_(False)


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    return frozen(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 5 * 5, 10)
        )
    )


class SpikingNet(nn.Module):
    """Convolution, LIF over T steps, batch norm, LIF, linear; resets itself in every forward."""

    def __init__(self, time_steps: int = 3) -> None:
        super().__init__()
        self.time_steps = time_steps
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.lif1 = neuron.LIFNode(surrogate_function=surrogate.Sigmoid(alpha=4.0))
        self.norm = nn.BatchNorm2d(8)
        self.lif2 = neuron.LIFNode(surrogate_function=surrogate.Sigmoid(alpha=4.0))
        self.head = nn.Linear(8 * 5 * 5, 10)

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        outputs = []
        for _ in range(self.time_steps):
            spikes = self.lif1(3.0 * self.conv(x))
            outputs.append(self.head(self.lif2(self.norm(2.0 * spikes)).flatten(1)))
        return torch.stack(outputs).mean(0)


def spiking_net() -> nn.Module:
    torch.manual_seed(1)
    net = SpikingNet()
    with torch.no_grad():
        net.conv.weight.mul_(2.0)
    return frozen(net)


class DeadNet(nn.Module):
    """Half of the samples (mean above 0.5) get a gradient of exactly zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.head = nn.Linear(3 * 12 * 12, 10)

    def forward(self, x: Tensor) -> Tensor:
        alive = (x.flatten(1).mean(1, keepdim=True) <= 0.5).float()
        return self.head(x.flatten(1)) * alive


def images(n: int, seed: int = 0) -> tuple[Tensor, Tensor, list[str]]:
    """n images [n, 3, 12, 12] with zeros and ones among their pixels, labels, ids."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(n, 3, 12, 12, generator=generator) * 1.2 - 0.1).clamp(0, 1)
    y = torch.randint(0, 10, (n,), generator=generator)
    return x, y, [f"test/{i:06d}" for i in range(n)]
