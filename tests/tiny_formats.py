"""A plugin for tests: one fast network without neurons for CIFAR-10, one for ImageNet."""

import torch
from torch import nn

from robustbench_snn import ModelAdapter, ModelCard


class Net(nn.Module):
    """Fixed random weights on an 8 x 8 view of the images: [1, B, C, H, W] to [B, K]."""

    def __init__(self, num_classes):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(8)
        self.head = nn.Linear(192, num_classes)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x):
        return self.head(torch.tanh(self.pool(x[0])).flatten(1))


class TinyCifar(ModelAdapter):
    card = ModelCard(
        name="tiny-c.test", dataset="cifar10", num_classes=10, input_shape=(3, 32, 32), time_steps=1
    )

    def build(self):
        return Net(10)


class TinyImagenet(ModelAdapter):
    card = ModelCard(
        name="tiny-i.test",
        dataset="imagenet",
        num_classes=1000,
        input_shape=(3, 224, 224),
        time_steps=1,
    )

    def build(self):
        return Net(1000)
