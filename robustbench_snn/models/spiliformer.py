"""SpiLiFormer (arXiv 2503.15986): QKFormer with lateral inhibition, forward and feedback.

The released code is five models, the paper a sixth; ``readings`` says where they differ. Every
difference, and every choice the paper leaves open, is a constructor argument. Shapes inside are
time-first, ``[T, B, C, ...]``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

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
from robustbench_snn.models.readings import SWITCHES, Decoder, choose
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

    def __init__(
        self,
        dim: int,
        heads: int,
        proj_lif: ProjLif,
        decoder: Decoder = "linear-bn",
        differential: bool = False,
    ) -> None:
        super().__init__(dim, heads, proj_lif, differential)
        self.decoder = decoder
        self.fb_linear = nn.Linear(dim, dim, bias=False)
        if decoder != "linear":
            self.fb_bn = nn.BatchNorm1d(dim)
        self.fb_lif = lif()

    def feedback_spikes(self, signal: Tensor) -> Tensor:
        """``X_FB = LIF(BN(W_FB F))`` from the masked feedback ``[T, B, D, N]``.

        Its decoder may have the batch norm before the linear layer, or none.
        """
        if self.decoder == "bn-linear":
            signal = over_time(signal, self.fb_bn)
        current = self.fb_linear(signal.transpose(-1, -2)).transpose(-1, -2)
        if self.decoder == "linear-bn":
            current = over_time(current, self.fb_bn)
        return self.fb_lif(current)


class SpiLiFormer(QKFormer):
    """Spiking transformer with lateral inhibition: ``[T, B, C, H, W]`` -> ``[B, K]``.

    Args beyond :class:`QKFormer`'s:
        reading: whose choices hold where no switch says otherwise: the released model of a data
            set (``cifar10``, ``cifar100``, ``imagenet``, ``cifar10dvs``, ``ncaltech101``), or
            ``paper``, the equations.
        arguments: the switches, which are the fields of
            :class:`~robustbench_snn.models.readings.Variant`, and QKFormer's own.

    Raises:
        UsageError: an unknown switch value, switches that contradict each other, or a shape the
            layout cannot have.
    """

    def __init__(
        self, layout: Layout, dim: int, *, reading: str = "cifar10", **arguments: Any
    ) -> None:
        switches = {name: arguments.pop(name) for name in SWITCHES if name in arguments}
        self.variant = choose(reading, switches)
        self.logits = self.variant.logits
        super().__init__(layout, dim, **arguments)
        for unit in self.last_stage.modules():
            if isinstance(unit, LIF):
                unit.keep_state = self.variant.carry_state
        if self.variant.fb:
            self.prompt1 = nn.Parameter(torch.empty(dim))
            self.prompt2 = nn.Parameter(torch.empty(dim))
            # A cosine does not depend on the prompts' length, so they start as released.
            cosine = self.variant.fb_cosine
            init = nn.init.normal_ if cosine else partial(nn.init.trunc_normal_, std=PROMPT_STD)
            init(self.prompt1)
            init(self.prompt2)

    def token_block(self, dim: int) -> TransformerBlock:
        if not self.variant.ff:
            return super().token_block(dim)
        if dim % (2 * self.heads):
            raise UsageError(
                f"{self.heads} heads do not divide half of {dim} channels (FF-LiDiff)."
            )
        return TransformerBlock(FFLiDiffAttention(dim, self.heads), "tssa", self.mlp(dim))

    def linear_block(self, dim: int) -> TransformerBlock:
        chosen, shape = self.variant, (dim, self.heads, self.ssa_proj_lif)
        attention = (
            FBLiDiffAttention(*shape, chosen.fb_decoder, chosen.attn_differential)
            if chosen.fb
            else SpikingSelfAttention(*shape, chosen.attn_differential)
        )
        if not chosen.attn_neuron:
            attention.attn_lif, attention.scale = nn.Identity(), 1.0
        return TransformerBlock(attention, self.linear_key, self.mlp(dim))

    def mask(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """Feedback mask in [0, 1] from ``[T, B, D, N]``: one value a token, or a channel."""
        if self.variant.fb_prompt == "channel":
            return (tokens * prompt[:, None]).clamp(0, 1)
        score = torch.einsum("tbdn,d->tbn", tokens, prompt).unsqueeze(2)
        if self.variant.fb_cosine:
            norm = tokens.norm(dim=2, keepdim=True) * prompt.norm()
            score = score / norm.clamp_min(1e-6)
        return score.clamp(0, 1)

    def feedback(self, output: Tensor) -> Tensor:
        """Masked feedback signal ``gain (M_e - M_i) * O`` (Eq. 12-14): ``[T, B, D, N]``."""
        tokens = output.flatten(3).to(self.prompt1.dtype)
        signal = (self.mask(tokens, self.prompt1) - self.mask(tokens, self.prompt2)) * tokens
        return signal * self.variant.fb_gain

    def decode(self, signal: Tensor) -> list[Tensor]:
        """Feedback spikes of each block of the last stage from the masked signal ``[T,B,D,N]``."""
        chosen, blocks = self.variant, cast(list[TransformerBlock], list(self.last_stage))
        found: dict[int, Tensor] = {}
        places = range(len(blocks))
        for place in reversed(places) if chosen.fb_chain == "top-down" else places:
            attention = cast(FBLiDiffAttention, blocks[place].attention)
            spikes = attention.feedback_spikes(signal)
            if chosen.fb_reorder:
                spikes = spikes.transpose(-1, -2).reshape(spikes.shape)
            if chosen.fb_chain != "none":
                signal = spikes
            found[place] = spikes
        return [found[place] for place in places]

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
        if not self.variant.fb:
            return [first]
        if not self.variant.carry_state:
            functional.reset_net(self.last_stage)
        signal = self.feedback(output if self.variant.fb_source == "block" else attended)
        second, _ = self.run_stage(stem, signal)
        return [first, self.classify(second)]

    def forward(self, x: Tensor) -> Tensor:
        logits = self.passes(x)
        if self.logits == "mean":
            return torch.stack(logits).mean(0)
        return logits[0] if self.logits == "first" else logits[-1]
