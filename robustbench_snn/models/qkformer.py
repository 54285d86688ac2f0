"""QKFormer (Zhou et al., arXiv 2403.16552) in its CIFAR, ImageNet and DVS layouts.

Parameter names equal the official ones, so that official checkpoints load strictly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from robustbench_snn.errors import UsageError
from robustbench_snn.models.spiking import (
    SpikingMLP,
    conv3,
    fire,
    init_weights,
    lif,
    over_time,
    pool,
    token_mean,
)

Layout = Literal["cifar", "imagenet", "dvs"]
ProjLif = Literal["per_sample", "official"]
LINEAR_SCALE = 0.125  # constant in the official code, whatever the head width


class TokenQKAttention(nn.Module):
    """QK token attention (QKFormer, Eq. 5-7): a binary token mask per head gates K.

    Input and output ``[T, B, C, H, W]``; ``attn_lif`` emits the mask ``[T, B, heads, 1, N]``.
    """

    kind = "token_mask"

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_conv = nn.Conv1d(dim, dim, 1, bias=False)
        self.q_bn = nn.BatchNorm1d(dim)
        self.make_q_neurons()
        self.k_conv = nn.Conv1d(dim, dim, 1, bias=False)
        self.k_bn = nn.BatchNorm1d(dim)
        self.k_lif = lif()
        self.attn_lif = lif(0.5)
        self.proj_conv = nn.Conv1d(dim, dim, 1)
        self.proj_bn = nn.BatchNorm1d(dim)
        self.proj_lif = lif()

    def make_q_neurons(self) -> None:
        """Create the neurons that read the Q projection."""
        self.q_lif = lif()

    def split_heads(self, x: Tensor) -> Tensor:
        """``[T, B, C, N]`` -> ``[T, B, heads, C / heads, N]``."""
        t, b, c, n = x.shape
        return x.reshape(t, b, self.heads, c // self.heads, n)

    def token_drive(self, q: Tensor) -> Tensor:
        """Current ``[T, B, heads, 1, N]`` into the mask neuron from Q ``[T, B, C, N]``."""
        return self.split_heads(self.q_lif(q)).sum(3, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        t, b, c, h, w = x.shape
        x = x.flatten(3)
        mask = self.attn_lif(self.token_drive(over_time(x, self.q_conv, self.q_bn)))
        k = self.split_heads(fire(self.k_lif, x, self.k_conv, self.k_bn))
        y = (mask * k).flatten(2, 3)
        return fire(self.proj_lif, y, self.proj_conv, self.proj_bn).reshape(t, b, c, h, w)


class SpikingSelfAttention(nn.Module):
    """Softmax-free self-attention ``Q (K^T V) * 0.125`` on spikes: ``[T, B, C, H, W]`` -> same.

    ``proj_lif="official"`` lets the last neuron run over the flattened time x batch axis, as the
    published code does: one image's output then depends on its batch mates. ``"per_sample"`` keeps
    every image apart. ``differential`` doubles the channels and heads of K and V and subtracts the
    contexts ``K^T V`` of each pair of heads (released SpiLiFormer for CIFAR10-DVS).
    """

    kind = "linear"

    def __init__(self, dim: int, heads: int, proj_lif: ProjLif, differential: bool = False) -> None:
        super().__init__()
        self.heads, self.head_width = heads, dim // heads
        self.differential = differential
        self.official = proj_lif == "official"
        self.scale = LINEAR_SCALE
        for name in ("q", "k", "v"):
            width = 2 * dim if differential and name != "q" else dim
            self.add_module(f"{name}_conv", nn.Conv1d(dim, width, 1, bias=False))
            self.add_module(f"{name}_bn", nn.BatchNorm1d(width))
            self.add_module(f"{name}_lif", lif())
        self.attn_lif: nn.Module = lif(0.5)
        self.proj_conv = nn.Conv1d(dim, dim, 1)
        self.proj_bn = nn.BatchNorm1d(dim)
        self.proj_lif = lif()

    def spikes(self, name: str, x: Tensor) -> Tensor:
        """Spikes of projection ``q``, ``k`` or ``v``: ``[T, B, C, N]``."""
        conv, bn = getattr(self, f"{name}_conv"), getattr(self, f"{name}_bn")
        return fire(getattr(self, f"{name}_lif"), x, conv, bn)

    def heads_last(self, x: Tensor) -> Tensor:
        """``[T, B, C, N]`` -> ``[T, B, heads, N, C / heads]``; K and V may have twice the heads."""
        t, b, c, n = x.shape
        return x.view(t, b, c // self.head_width, self.head_width, n).transpose(-1, -2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The attention core before its neuron: ``[T, B, C, N]``."""
        context = self.heads_last(k).transpose(-1, -2) @ self.heads_last(v)
        if self.differential:
            context = context[:, :, 0::2] - context[:, :, 1::2]
        y = self.heads_last(q) @ context * self.scale
        return y.transpose(-1, -2).reshape(q.shape)

    def forward(self, x: Tensor, feedback: Tensor | None = None) -> Tensor:
        t, b, c, h, w = x.shape
        x = x.flatten(3)
        q, k = self.spikes("q", x), self.spikes("k", x)
        v = self.spikes("v", x if feedback is None else x + feedback)
        y = self.attn_lif(self.attend(q, k, v))
        if self.official:
            y = over_time(y, self.proj_conv, self.proj_bn)
            y = self.proj_lif(y.flatten(0, 1)).view(t, b, c, -1)
        else:
            y = fire(self.proj_lif, y, self.proj_conv, self.proj_bn)
        return y.reshape(t, b, c, w, h)


class TransformerBlock(nn.Module):
    """Attention and MLP, each added to its input (integer residual stream)."""

    def __init__(self, attention: nn.Module, key: str, mlp: SpikingMLP) -> None:
        super().__init__()
        self.key = key
        self.add_module(key, attention)
        self.mlp = mlp

    @property
    def attention(self) -> nn.Module:
        """The attention module, whatever its checkpoint key is."""
        return getattr(self, self.key)

    def forward(self, x: Tensor, feedback: Tensor | None = None) -> Tensor:
        attention = self.attention
        x = x + (attention(x) if feedback is None else attention(x, feedback))
        return x + self.mlp(x)


@dataclass(frozen=True)
class EmbedSpec:
    """One spiking patch embedding: the main path and where its residual branch starts.

    Attributes:
        layers: (key stem, output channels, pooled) of each 3x3 convolution.
        branch: the residual starts before layer ``branch`` of the main path.
        stride: stride of the residual 1x1 convolution.
    """

    layers: Sequence[tuple[str, int, bool]]
    branch: int
    stride: int


class PatchEmbed(nn.Module):
    """Spiking patch embedding with deformed shortcut (QKFormer, Section 3.4)."""

    def __init__(self, c_in: int, spec: EmbedSpec) -> None:
        super().__init__()
        self.spec = spec
        c_branch = c_in
        for i, (key, c_out, _) in enumerate(spec.layers):
            if i == spec.branch:
                c_branch = c_in
            self.add_module(f"{key}_conv", conv3(c_in, c_out))
            self.add_module(f"{key}_bn", nn.BatchNorm2d(c_out))
            self.add_module(f"{key}_lif", lif())
            c_in = c_out
        self.pool = pool()
        self.proj_res_conv = nn.Conv2d(c_branch, c_in, 1, stride=spec.stride, bias=False)
        self.proj_res_bn = nn.BatchNorm2d(c_in)
        self.proj_res_lif = lif()

    def forward(self, x: Tensor) -> Tensor:
        start = x
        for i, (key, _, pooled) in enumerate(self.spec.layers):
            if i == self.spec.branch:
                start = x
            conv, bn = getattr(self, f"{key}_conv"), getattr(self, f"{key}_bn")
            node = getattr(self, f"{key}_lif")
            x = node(over_time(x, conv, bn, self.pool)) if pooled else fire(node, x, conv, bn)
        return x + fire(self.proj_res_lif, start, self.proj_res_conv, self.proj_res_bn)


def embeddings(layout: Layout, dim: int) -> list[tuple[int, EmbedSpec]]:
    """(output channels, specification) of each stage's patch embedding."""
    if layout == "cifar":
        c1, c2 = dim // 4, dim // 2
        later = [("proj3", c2, False), ("proj4", c2, True)]
        last = [("proj3", dim, False), ("proj4", dim, True)]
        first = EmbedSpec([("proj", c1 // 2, False), ("proj1", c1, False)], 1, 1)
        return [(c1, first), (c2, EmbedSpec(later, 0, 2)), (dim, EmbedSpec(last, 0, 2))]
    if layout == "imagenet":
        c0, c1, c2 = dim // 8, dim // 4, dim // 2
        first = EmbedSpec([("proj", c0, True), ("proj1", c1, True), ("proj2", c1, False)], 1, 2)
        later = [("proj3", c2, True), ("proj4", c2, False)]
        last = [("proj3", dim, True), ("proj4", dim, False)]
        return [(c1, first), (c2, EmbedSpec(later, 0, 2)), (dim, EmbedSpec(last, 0, 2))]
    e = dim // 2
    stem = [("proj", e // 8, False), ("proj1", e // 4, True)]
    stem += [("proj2", e // 2, True), ("proj3", e, True)]
    last = [("proj", dim, False), ("proj4", dim, True)]
    return [(e, EmbedSpec(stem, 2, 4)), (dim, EmbedSpec(last, 0, 2))]


class QKFormer(nn.Module):
    """Hierarchical spiking transformer with QK attention: ``[T, B, C, H, W]`` -> ``[B, K]``.

    Args:
        layout: ``cifar``, ``imagenet`` or ``dvs``; fixes the stems, key names and block counts.
        dim: channels of the last stage (D).
        depth: total number of blocks (ignored by ``dvs``, which always has one a stage).
        heads: attention heads of every stage; must divide the channels of every stage.
        mlp_ratio: hidden width of the MLPs.
        num_classes: K.
        in_channels: channels of the input.
        ssa_proj_lif: see :class:`SpikingSelfAttention`.

    Raises:
        UsageError: a width that the heads or stems do not divide, or too few blocks.
    """

    def __init__(
        self,
        layout: Layout,
        dim: int,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: int = 4,
        num_classes: int = 10,
        in_channels: int = 3,
        ssa_proj_lif: ProjLif = "per_sample",
    ) -> None:
        super().__init__()
        if ssa_proj_lif not in ("per_sample", "official"):
            raise UsageError(
                f"ssa_proj_lif={ssa_proj_lif!r} is unknown: use 'per_sample' or 'official'."
            )
        self.layout, self.heads, self.mlp_ratio = layout, heads, mlp_ratio
        self.ssa_proj_lif: ProjLif = ssa_proj_lif
        specs = embeddings(layout, dim)
        blocks = block_counts(layout, depth)
        channels = in_channels
        for i, ((c_out, spec), count) in enumerate(zip(specs, blocks, strict=True), start=1):
            if c_out % heads:
                raise UsageError(f"{heads} heads do not divide the {c_out} channels of stage {i}.")
            self.add_module(f"patch_embed{i}", PatchEmbed(channels, spec))
            make = self.linear_block if i == len(specs) else self.token_block
            self.add_module(f"stage{i}", nn.ModuleList(make(c_out) for _ in range(count)))
            channels = c_out
        self.stages = len(specs)
        self.head = nn.Linear(dim, num_classes)
        self.apply(init_weights)

    def token_block(self, dim: int) -> TransformerBlock:
        """A block of the early stages (token mask attention)."""
        return TransformerBlock(TokenQKAttention(dim, self.heads), "tssa", self.mlp(dim))

    def linear_block(self, dim: int) -> TransformerBlock:
        """A block of the last stage (linear self-attention)."""
        attention = SpikingSelfAttention(dim, self.heads, self.ssa_proj_lif)
        return TransformerBlock(attention, self.linear_key, self.mlp(dim))

    @property
    def linear_key(self) -> str:
        """Checkpoint key of the linear attention, which differs between layouts."""
        return "attn" if self.layout == "imagenet" else "ssa"

    def mlp(self, dim: int) -> SpikingMLP:
        """The MLP with the layout's key names."""
        names = ("fc1", "fc2") if self.layout == "imagenet" else ("mlp1", "mlp2")
        return SpikingMLP(dim, self.mlp_ratio, names)

    def embed(self, x: Tensor) -> Tensor:
        """Everything before the last stage's blocks: ``[T, B, D, H, W]``."""
        for i in range(1, self.stages + 1):
            x = getattr(self, f"patch_embed{i}")(x)
            if i < self.stages:
                for block in getattr(self, f"stage{i}"):
                    x = block(x)
        return x

    @property
    def last_stage(self) -> nn.ModuleList:
        """The blocks of the last stage."""
        return getattr(self, f"stage{self.stages}")

    def classify(self, x: Tensor) -> Tensor:
        """Logits ``[B, K]`` from the last stage's output: mean over tokens, then over time."""
        return self.head(token_mean(x).mean(0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.last_stage:
            x = block(x)
        return self.classify(x)


def block_counts(layout: Layout, depth: int) -> list[int]:
    """Blocks of each stage for a total of ``depth`` (QKFormer, Tables 1 and 2)."""
    if layout == "dvs":
        return [1, 1]
    early = [1, 1] if layout == "cifar" else [1, 2]
    if depth <= sum(early):
        raise UsageError(f"depth {depth} leaves no block for the last stage of '{layout}'.")
    return [*early, depth - sum(early)]
