"""A plugin for tests: two fast networks without neurons, and ways to make them misbehave.

Environment variables, read at every forward pass:
TINY_DELAY: seconds to sleep. TINY_BREAK: a file; while it exists the networks raise.
TINY_MEMORY: largest batch that "fits in memory".
TINY_DIE: a file; the process that finds it takes it away and kills itself.
TINY_STOP: a file; the process that finds it takes it away and stops itself (SIGSTOP).
TINY_DEADLY: a file; while it exists every process that calls the networks kills itself.
"""

import os
import signal
import time

import torch
from torch import nn

from robustbench_snn import ModelAdapter, ModelCard


def die_if_told():
    """Stop or kill this process, as the kernel would, once or each time."""
    try:
        os.remove(os.environ.get("TINY_STOP", "/no/such/file"))
        os.kill(os.getpid(), signal.SIGSTOP)
    except OSError:
        pass
    try:
        os.remove(os.environ.get("TINY_DIE", "/no/such/file"))
    except OSError:
        if not os.path.exists(os.environ.get("TINY_DEADLY", "")):
            return
    os.kill(os.getpid(), signal.SIGKILL)


class Net(nn.Module):
    """A small convolutional network with fixed random weights: [1, B, C, H, W] to [B, K]."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, 8, 5, stride=4)
        self.head = nn.Linear(8, 10)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x):
        time.sleep(float(os.environ.get("TINY_DELAY", "0")))
        if os.path.exists(os.environ.get("TINY_BREAK", "")):
            raise RuntimeError("the test broke it")
        die_if_told()
        if x.shape[1] > int(os.environ.get("TINY_MEMORY", "1000000")):
            raise RuntimeError("out of memory, says the test")
        return self.head(torch.tanh(self.conv(x[0])).mean(dim=(2, 3)))


def card(name):
    return ModelCard(
        name=name, dataset="digit-scenes", num_classes=10, input_shape=(3, 32, 32), time_steps=1
    )


class TinyA(ModelAdapter):
    card = card("tiny-a.test")

    def build(self):
        return Net(1)


class TinyB(ModelAdapter):
    card = card("tiny-b.test")

    def build(self):
        return Net(2)
