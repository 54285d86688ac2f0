"""A plain convolutional network for attack tests, trained in seconds on 8x8 digits at 16x16."""

from __future__ import annotations

from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

TRAIN, TEST = 1300, 128


def digits() -> tuple[Tensor, Tensor]:
    """All digits, float32 [1797, 3, 16, 16] in [0, 1], and their labels."""
    data = load_digits()
    grey = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    images = nn.functional.interpolate(grey, scale_factor=2, mode="nearest")
    return images.expand(-1, 3, -1, -1).contiguous(), torch.tensor(data.target)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def trained(seed: int = 0, epochs: int = 12) -> nn.Sequential:
    """A network trained on noisy digits, frozen, in eval mode."""
    x, y = (part[:TRAIN] for part in digits())
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = network()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(TRAIN, generator=generator).split(100):
            noise = torch.rand(x[rows].shape, generator=generator) - 0.5
            loss = nn.functional.cross_entropy(net((x[rows] + 0.4 * noise).clamp(0, 1)), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval().requires_grad_(False)


@lru_cache(maxsize=2)
def cached(seed: int = 0) -> nn.Sequential:
    return trained(seed)


def unseen(n: int = TEST) -> tuple[Tensor, Tensor, list[str]]:
    """n digits the networks have not seen, labels and ids."""
    x, y = digits()
    return x[TRAIN : TRAIN + n], y[TRAIN : TRAIN + n], [f"digits/{i:06d}" for i in range(n)]
