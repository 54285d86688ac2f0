"""Networks for the tests of maps: official tensors, a lively SpiLiFormer, a foreign attention."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from robustbench_snn import MODELS, ModelAdapter, ModelCard
from robustbench_snn.explain.class_map import ClassHead
from robustbench_snn.golden import build_network, read_golden
from robustbench_snn.models.spiking import lif
from robustbench_snn.registry import import_target

GOLDEN = Path(__file__).parent / "golden"


def golden(name, proj_lif="official"):
    """(adapter around the network of a golden file, the file's content)."""
    content = read_golden(GOLDEN / f"{name}.pt")
    config = content["config"]

    class Adapter(ModelAdapter):
        card = ModelCard(
            name=f"{name}.golden",
            dataset="digit-scenes",
            num_classes=config["num_classes"],
            input_shape=tuple(content["input"].shape[1:]),
            time_steps=config["T"],
            max_value=None,
        )

        def build(self):
            return build_network(content["family"], config, proj_lif)

        def check_input(self, x):
            """Golden inputs are normalised already, so they may be negative."""

    model = Adapter()
    model.net.load_state_dict(content["state_dict"])
    model.unlock(False)
    return model, content


def untrained(name, **config):
    """A registered model with other constructor arguments, whatever weights are shipped."""
    torch.manual_seed(0)
    entry = MODELS.get(name)
    model = import_target(entry.adapter)(
        replace(entry.card, config={**entry.card.config, **config})
    )
    model.unlock(False)
    return model


def lively(name="spiliformer-tiny.digit-scenes"):
    """A small model whose neurons fire: batch norm scaled up, as training would."""
    model = untrained(name, dim=32)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_var, 0.01, 0.05)
            nn.init.uniform_(module.bias, 0.2, 1.6)
    for name, parameter in model.net.named_parameters():
        if name.startswith("prompt"):
            nn.init.normal_(parameter, std=0.5)
        if "fb_bn.bias" in name:
            nn.init.constant_(parameter, 1.2)
    return model


def scenes(n=4, side=32, seed=0):
    """float32 [n, 3, side, side] in [0, 1]."""
    return np.random.default_rng(seed).random((n, 3, side, side), dtype=np.float32)


class ForeignAttention(nn.Module):
    """Linear attention with neurons under names of its own: [T, B, C, N] -> same."""

    kind = "linear"
    neurons = {"query": "lif_a", "key": "lif_b", "value": "lif_c", "output": "lif_d"}  # noqa: RUF012
    heads = 2

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv1d(4, 4, 1) for _ in range(3))
        self.lif_a, self.lif_b, self.lif_c, self.lif_d = lif(0.3), lif(0.3), lif(0.3), lif(0.5)

    def forward(self, x):
        steps, batch, _, tokens = x.shape
        flat = x.flatten(0, 1)
        q, k, v = (
            fire(conv(flat).view_as(x)).view(steps, batch, 2, 2, tokens)
            for conv, fire in ((self.a, self.lif_a), (self.b, self.lif_b), (self.c, self.lif_c))
        )
        y = torch.einsum("tbhdn,tbhdm,tbhem->tbhen", q, k, v) / 4
        return self.lif_d(y.reshape(x.shape))


class ForeignNet(nn.Module):
    """Blocks of 4x4 pixels, a foreign attention, a linear head."""

    def __init__(self, channels=4):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 4, stride=4)
        self.attention = ForeignAttention()
        self.head = nn.Linear(channels, 10)

    def forward(self, x):
        t, b = x.shape[:2]
        y = self.stem(x.flatten(0, 1))
        y = y.view(t, b, 4, -1)
        return self.head(self.attention(y).mean(3)).mean(0)


class ForeignAdapter(ModelAdapter):
    """A model of another package on non-square images, with a class head of its own."""

    card = ModelCard(
        name="foreign.test", dataset="digit-scenes", num_classes=10, input_shape=(3, 16, 24),
        time_steps=3,
    )  # fmt: skip

    def build(self):
        torch.manual_seed(3)
        return ForeignNet()

    def class_head(self):
        def features(inputs, output):
            t, b, c, _ = output.shape
            return output.view(t, b, c, 4, 6)

        return ClassHead(self.net.attention, features, self.net.head, True)


class LinearNet(nn.Module):
    """Logits linear in the pixels: class 0 sums ``weights * mean over channels``, others are 0."""

    def __init__(self, weights):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        first = (x.mean(0).mean(1) * self.scale).sum((1, 2))
        return torch.stack([first, torch.zeros_like(first)], dim=1)


class LinearAdapter(ModelAdapter):
    """Not spiking; what attributions and deletion curves must be is known exactly."""

    card = ModelCard(
        name="linear.test", dataset="digit-scenes", num_classes=2, input_shape=(3, 4, 4),
        time_steps=1,
    )  # fmt: skip

    def build(self):
        return LinearNet(np.arange(16, dtype=np.float32).reshape(4, 4) / 8)
