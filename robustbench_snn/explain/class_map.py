"""Class maps: the part of a logit that comes from each token, where the head is linear.

QKFormer's head is linear on the mean over tokens and time, so
``logit_k = b_k + mean_n <w_k, mean_t x[t, n]>`` and ``M_k[n] = <w_k, mean_t x[t, n]>`` is exact
(class activation map, Zhou et al. 2016, arXiv 1512.04150). In Spike-driven Transformer a neuron
sits between pooling and head; the same formula is then only approximate.

An adapter of another network offers its maps through a method ``class_head() -> ClassHead``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.models.qkformer import QKFormer
from robustbench_snn.models.spike_driven_transformer import SpikeDrivenTransformer

Features = Callable[[tuple[Any, ...], Tensor], Tensor]


@dataclass(frozen=True)
class ClassHead:
    """Where a network's last token features are, and the linear layer that reads them.

    Attributes:
        module: called once a pass; its call yields the features.
        features: (inputs, output) of that call to ``[T, B, D, H, W]``.
        linear: the head, D to K classes.
        exact: whether the logit is linear in the features' mean over tokens and time.
    """

    module: nn.Module
    features: Features
    linear: nn.Linear
    exact: bool


def class_head(model: ModelAdapter) -> ClassHead | None:
    """The head of ``model``, or None where no class map is defined."""
    offered = getattr(model, "class_head", None)
    if offered is not None:
        head: ClassHead | None = offered()
        return head
    net = model.net
    if isinstance(net, QKFormer):
        last = net.last_stage[-1]
        return ClassHead(last.mlp, lambda inputs, out: inputs[0] + out, net.head, True)  # type: ignore[arg-type]
    if isinstance(net, SpikeDrivenTransformer):
        return ClassHead(net.block[-1], lambda _, out: out, net.head, False)
    return None


@contextmanager
def recorded_features(head: ClassHead | None) -> Iterator[list[Tensor]]:
    """A list that receives the features ``[T, B, D, H, W]`` of every pass made inside."""
    found: list[Tensor] = []

    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if head is not None:
            found.append(head.features(inputs, output))

    handle = head.module.register_forward_hook(hook) if head is not None else None
    try:
        yield found
    finally:
        if handle is not None:
            handle.remove()


def class_map(features: Tensor, linear: nn.Linear, target: Tensor) -> Tensor:
    """``M[b, n] = <w_target, mean_t x[t, b, :, n]>``; mean over tokens plus bias is the logit.

    Args:
        features: ``[T, B, D, H, W]``.
        linear: the head.
        target: class of each sample, int64 [B].

    Returns:
        float [B, H, W], in logits.
    """
    return torch.einsum("bdhw,bd->bhw", features.mean(0), linear.weight[target])
