"""Spike-driven Transformer (Yao et al., arXiv 2307.01694) in its CIFAR, ImageNet, DVS layouts.

Parameter names equal the official ones, so that official checkpoints load strictly. Layers that
the official code builds but never calls hold no state here unless they own parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

from robustbench_snn.errors import UsageError
from robustbench_snn.models.neuron import LIF
from robustbench_snn.models.spiking import conv3, fire, lif, over_time, pool, token_mean


class MembranePatchEmbed(nn.Module):
    """Four 3x3 convolutions and a positional one: ``[T, B, C, H, W]`` -> ``[T, B, D, h, w]``.

    ``pooling`` has one digit a convolution: 1 halves the map. Pools 0-2 act on spikes, pool 3 on
    the batch-norm output. The result is a real-valued membrane current.
    """

    proj_conv3: nn.Conv2d
    proj_bn3: nn.BatchNorm2d
    proj_lif3: LIF

    def __init__(self, in_channels: int, dim: int, pooling: str) -> None:
        super().__init__()
        if len(pooling) != 4 or set(pooling) - {"0", "1"}:
            raise UsageError(f"pooling_stat '{pooling}' must be four digits 0 or 1, like '0011'.")
        self.pooling = [digit == "1" for digit in pooling]
        channels = in_channels
        for i, suffix in enumerate(("", "1", "2", "3")):
            width = dim // (8 >> i)
            self.add_module(f"proj_conv{suffix}", conv3(channels, width))
            self.add_module(f"proj_bn{suffix}", nn.BatchNorm2d(width))
            self.add_module(f"proj_lif{suffix}", lif())
            channels = width
        self.pool = pool()
        self.rpe_conv = conv3(dim, dim)
        self.rpe_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        for i, suffix in enumerate(("", "1", "2")):
            conv, bn = getattr(self, f"proj_conv{suffix}"), getattr(self, f"proj_bn{suffix}")
            x = fire(getattr(self, f"proj_lif{suffix}"), x, conv, bn)
            if self.pooling[i]:
                x = over_time(x, self.pool)
        pooled = [self.pool] * self.pooling[3]
        feature = over_time(x, self.proj_conv3, self.proj_bn3, *pooled)
        return over_time(self.proj_lif3(feature), self.rpe_conv, self.rpe_bn) + feature


class SpikeDrivenSelfAttention(nn.Module):
    """Spike-driven self-attention (Eq. 10-12): a channel mask per head, from K and V, gates Q.

    Input and output ``[T, B, C, H, W]`` membrane currents; ``talking_heads_lif`` emits the mask
    ``[T, B, heads, 1, C / heads]``. The ``talking_heads`` weight is never used by the official
    code; it is kept so that official checkpoints load strictly.
    """

    kind = "channel_mask"

    def __init__(self, dim: int, heads: int, dvs: bool) -> None:
        super().__init__()
        self.heads, self.dvs = heads, dvs
        self.shortcut_lif = lif()
        for name in ("q", "k", "v"):
            self.add_module(f"{name}_conv", nn.Conv2d(dim, dim, 1, bias=False))
            self.add_module(f"{name}_bn", nn.BatchNorm2d(dim))
            self.add_module(f"{name}_lif", lif())
        self.talking_heads = nn.Conv1d(heads, heads, 1, bias=False)
        self.talking_heads_lif = lif(0.5)
        self.proj_conv = nn.Conv2d(dim, dim, 1)
        self.proj_bn = nn.BatchNorm2d(dim)
        self.smooth = nn.MaxPool3d((1, 3, 3), stride=1, padding=(0, 1, 1))

    def spikes(self, name: str, x: Tensor) -> Tensor:
        """Spikes of projection ``q``, ``k`` or ``v``: ``[T, B, C, H, W]``."""
        conv, bn = getattr(self, f"{name}_conv"), getattr(self, f"{name}_bn")
        return fire(getattr(self, f"{name}_lif"), x, conv, bn)

    def heads_last(self, x: Tensor) -> Tensor:
        """``[T, B, C, H, W]`` -> ``[T, B, heads, N, C / heads]``."""
        t, b, c = x.shape[:3]
        return x.reshape(t, b, self.heads, c // self.heads, -1).transpose(-1, -2)

    def pool_plane(self, x: Tensor) -> Tensor:
        """The event layout's max-pooling over the last two axes of ``[T, B, g, p, q]``."""
        return over_time(x, self.smooth)

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        t, b, c, h, w = x.shape
        x = self.shortcut_lif(x)
        q, k, v = (self.spikes(name, x) for name in ("q", "k", "v"))
        if self.dvs:
            k, v = self.pool_plane(k), self.pool_plane(v)
        q, kv = self.heads_last(q), self.heads_last(k) * self.heads_last(v)
        if self.dvs:
            kv = self.pool_plane(kv)
        y = q * self.talking_heads_lif(kv.sum(3, keepdim=True))
        if self.dvs:
            y = self.pool_plane(y)
        y = y.transpose(3, 4).reshape(t, b, c, h, w)
        return over_time(y, self.proj_conv, self.proj_bn) + identity


class MembraneMLP(nn.Module):
    """Pre-activation MLP with membrane shortcut: ``[T, B, C, H, W]`` -> same."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        hidden = dim * ratio
        self.equal_width = ratio == 1
        self.fc1_lif = lif()
        self.fc1_conv = nn.Conv2d(dim, hidden, 1)
        self.fc1_bn = nn.BatchNorm2d(hidden)
        self.fc2_lif = lif()
        self.fc2_conv = nn.Conv2d(hidden, dim, 1)
        self.fc2_bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        x = over_time(self.fc1_lif(x), self.fc1_conv, self.fc1_bn)
        if self.equal_width:
            x = x + identity
            identity = x
        return over_time(self.fc2_lif(x), self.fc2_conv, self.fc2_bn) + identity


class SpikeDrivenBlock(nn.Module):
    """Self-attention, then MLP, both with membrane shortcuts."""

    def __init__(self, dim: int, heads: int, ratio: int, dvs: bool) -> None:
        super().__init__()
        self.attn = SpikeDrivenSelfAttention(dim, heads, dvs)
        self.mlp = MembraneMLP(dim, ratio)

    @property
    def attention(self) -> nn.Module:
        """The attention module."""
        return self.attn

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.attn(x))


class SpikeDrivenTransformer(nn.Module):
    """Spike-driven Transformer: ``[T, B, C, H, W]`` -> ``[B, K]``, or ``[T, B, K]`` with ``tet``.

    Args:
        dim: channels D.
        depth: number of blocks.
        heads: attention heads; must divide D.
        mlp_ratio: hidden width of the MLPs.
        num_classes: K.
        in_channels: channels of the input.
        pooling_stat: which of the four stem convolutions halve the map, e.g. ``0011``.
        dvs_mode: the event layout's extra max-pooling inside attention.
        tet: return the logits of every time step.

    Raises:
        UsageError: heads that do not divide D, or a malformed ``pooling_stat``.
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        heads: int = 8,
        mlp_ratio: int = 4,
        num_classes: int = 10,
        in_channels: int = 3,
        pooling_stat: str = "0011",
        dvs_mode: bool = False,
        tet: bool = False,
    ) -> None:
        super().__init__()
        if dim % heads or dim % 8:
            raise UsageError(f"width {dim} must be divisible by 8 and by the {heads} heads.")
        self.tet = tet
        self.patch_embed = MembranePatchEmbed(in_channels, dim, pooling_stat)
        self.block = nn.ModuleList(
            SpikeDrivenBlock(dim, heads, mlp_ratio, dvs_mode) for _ in range(depth)
        )
        self.head_lif = lif()
        self.head = nn.Linear(dim, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.02)

    @property
    def last_stage(self) -> nn.ModuleList:
        """The transformer blocks (one stage)."""
        return self.block

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for block in self.block:
            x = block(x)
        logits = self.head(self.head_lif(token_mean(x)))
        return logits if self.tet else logits.mean(0)
