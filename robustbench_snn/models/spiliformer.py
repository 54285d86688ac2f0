"""SpiLiFormer (arXiv 2503.15986): QKFormer with lateral inhibition, forward and feedback.

The reading whose parameter counts match all three published ones (7.04 M, 69.10 M, 1.57 M); every
choice the paper leaves open is a constructor argument, the released code's choice among its
values. Shapes inside are time-first, ``[T, B, C, ...]``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from robustbench_snn.errors import UsageError
from robustbench_snn.models.neuron import LIF
from robustbench_snn.models.qkformer import (
    Layout,
    ProjLif,
    QKFormer,
    SpikingSelfAttention,
    TokenQKAttention,
    TransformerBlock,
)
from robustbench_snn.models.spiking import lif, over_time

PROMPT_STD = 0.02  # larger prompts saturate the clamp of the feedback masks


class FFLiDiffAttention(TokenQKAttention):
    """Feedforward lateral inhibition (Eq. 4-9): excitatory minus inhibitory token drive.

    Q is split along the channels into two halves with their own neurons; the mask neuron
    (threshold 0.5) sees the difference of their channel sums, per head.
    """

    kind = "ff_lidiff"

    def make_q_neurons(self) -> None:
        self.q1_lif = lif()
        self.q2_lif = lif()

    def token_drive(self, q: Tensor) -> Tensor:
        excite, inhibit = q.chunk(2, dim=2)
        a_e = self.split_heads(self.q1_lif(excite)).sum(3, keepdim=True)
        a_i = self.split_heads(self.q2_lif(inhibit)).sum(3, keepdim=True)
        return a_e - a_i


class FBLiDiffAttention(SpikingSelfAttention):
    """Linear self-attention whose V also reads feedback spikes ``[T, B, D, N]`` (Eq. 15-18)."""

    kind = "fb_lidiff"

    def __init__(self, dim: int, heads: int, proj_lif: ProjLif, attn_neuron: bool) -> None:
        super().__init__(dim, heads, proj_lif)
        self.fb_linear = nn.Linear(dim, dim, bias=False)
        self.fb_bn = nn.BatchNorm1d(dim)
        self.fb_lif = lif()
        if not attn_neuron:
            self.attn_lif, self.scale = nn.Identity(), 1.0

    def feedback_spikes(self, signal: Tensor) -> Tensor:
        """``X_FB = LIF(BN(W_FB F))`` from the masked feedback ``[T, B, D, N]``."""
        projected = self.fb_linear(signal.transpose(-1, -2)).transpose(-1, -2)
        return self.fb_lif(over_time(projected, self.fb_bn))


class SpiLiFormer(QKFormer):
    """Spiking transformer with lateral inhibition: ``[T, B, C, H, W]`` -> ``[B, K]``.

    Args beyond :class:`QKFormer`'s:
        ff: FF-LiDiff in the early stages; False keeps QKFormer's token attention (ablation).
        fb: FB-LiDiff in the last stage; False makes a single pass (ablation).
        fb_source: what is fed back: the last block's ``block`` output or its ``attn`` output.
        fb_prompt: ``token`` gates tokens by their dot product with the prompts, ``channel``
            multiplies channel by channel (the literal shapes of Eq. 12-15).
        fb_cosine: normalise the token dot product to a cosine.
        fb_decoder: what each block's ``W_FB`` reads: ``parallel`` the masked output itself,
            ``chained`` the feedback spikes of the block above, ``released`` the same in the
            released code's memory order, which mixes tokens and channels.
        carry_state: keep the last stage's membranes between the passes.
        attn_neuron: the neuron and scale before the projection, as in QKFormer; the paper's
            equations show neither.
        logits: which pass predicts: ``second``, ``first`` or ``mean``.

    Raises:
        UsageError: an unknown switch value, or a shape the layout cannot have.
    """

    def __init__(
        self,
        layout: Layout,
        dim: int,
        *,
        ff: bool = True,
        fb: bool = True,
        fb_source: Literal["block", "attn"] = "block",
        fb_prompt: Literal["token", "channel"] = "token",
        fb_cosine: bool = True,
        fb_decoder: Literal["parallel", "chained", "released"] = "released",
        carry_state: bool = False,
        attn_neuron: bool = True,
        logits: Literal["second", "first", "mean"] = "second",
        **qkformer: Any,
    ) -> None:
        require("fb_source", fb_source, ("block", "attn"))
        require("fb_prompt", fb_prompt, ("token", "channel"))
        require("fb_decoder", fb_decoder, ("parallel", "chained", "released"))
        require("logits", logits, ("second", "first", "mean"))
        self._ff, self._fb, self._attn_neuron = ff, fb, attn_neuron
        super().__init__(layout, dim, **qkformer)
        self.fb_source, self.fb_prompt, self.fb_cosine = fb_source, fb_prompt, fb_cosine
        self.fb_decoder, self.carry_state, self.logits = fb_decoder, carry_state, logits
        for unit in self.last_stage.modules():
            if isinstance(unit, LIF):
                unit.keep_state = carry_state
        if fb:
            self.prompt1 = nn.Parameter(torch.empty(dim))
            self.prompt2 = nn.Parameter(torch.empty(dim))
            # A cosine does not depend on the prompts' length, so they start as released.
            init = nn.init.normal_ if fb_cosine else partial(nn.init.trunc_normal_, std=PROMPT_STD)
            init(self.prompt1)
            init(self.prompt2)

    def token_block(self, dim: int) -> TransformerBlock:
        if not self._ff:
            return super().token_block(dim)
        if dim % (2 * self.heads):
            raise UsageError(
                f"{self.heads} heads do not divide half of {dim} channels (FF-LiDiff)."
            )
        return TransformerBlock(FFLiDiffAttention(dim, self.heads), "tssa", self.mlp(dim))

    def linear_block(self, dim: int) -> TransformerBlock:
        if not self._fb:
            return super().linear_block(dim)
        attention = FBLiDiffAttention(dim, self.heads, self.ssa_proj_lif, self._attn_neuron)
        return TransformerBlock(attention, self.linear_key, self.mlp(dim))

    def mask(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """Feedback mask in [0, 1] from ``[T, B, D, N]``: one value a token, or a channel."""
        if self.fb_prompt == "channel":
            return (tokens * prompt[:, None]).clamp(0, 1)
        score = torch.einsum("tbdn,d->tbn", tokens, prompt).unsqueeze(2)
        if self.fb_cosine:
            norm = tokens.norm(dim=2, keepdim=True) * prompt.norm()
            score = score / norm.clamp_min(1e-6)
        return score.clamp(0, 1)

    def feedback(self, output: Tensor) -> Tensor:
        """Masked feedback signal ``(M_e - M_i) * O`` (Eq. 12-14): ``[T, B, D, N]``."""
        tokens = output.flatten(3).to(self.prompt1.dtype)
        return (self.mask(tokens, self.prompt1) - self.mask(tokens, self.prompt2)) * tokens

    def decode(self, signal: Tensor) -> list[Tensor]:
        """Feedback spikes of each block of the last stage from the masked signal ``[T,B,D,N]``."""
        found: list[Tensor] = []
        for block in reversed(cast(list[TransformerBlock], list(self.last_stage))):
            spikes = cast(FBLiDiffAttention, block.attention).feedback_spikes(signal)
            if self.fb_decoder == "released":
                spikes = spikes.transpose(-1, -2).reshape(spikes.shape)
            if self.fb_decoder != "parallel":
                signal = spikes
            found.insert(0, spikes)
        return found

    def run_stage(self, x: Tensor, signal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The last stage: (last block's output, last attention's output), ``[T, B, D, H, W]``."""
        attended = x
        blocks = cast(list[TransformerBlock], list(self.last_stage))
        spikes = [None] * len(blocks) if signal is None else self.decode(signal)
        for block, feedback in zip(blocks, spikes, strict=True):
            attended = block.attention(x) if feedback is None else block.attention(x, feedback)
            x = x + attended
            x = x + block.mlp(x)
        return x, attended

    def passes(self, x: Tensor) -> list[Tensor]:
        """Logits ``[B, K]`` of the first pass and, with feedback, of the second."""
        stem = self.embed(x)
        output, attended = self.run_stage(stem)
        first = self.classify(output)
        if not self._fb:
            return [first]
        if not self.carry_state:
            functional.reset_net(self.last_stage)
        signal = self.feedback(output if self.fb_source == "block" else attended)
        second, _ = self.run_stage(stem, signal)
        return [first, self.classify(second)]

    def forward(self, x: Tensor) -> Tensor:
        logits = self.passes(x)
        if self.logits == "mean":
            return torch.stack(logits).mean(0)
        return logits[0] if self.logits == "first" else logits[-1]


def require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise UsageError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise UsageError(f"{name}={value!r} is unknown: use one of {', '.join(allowed)}.")
