"""Attention maps: what the spikes of one attention module say about each token.

All maps come from one forward pass that starts from reset state, and hold raw units. The
published heatmaps of these models cannot be reproduced exactly by anyone, since no definition of
them was published; these definitions are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.errors import UsageError
from robustbench_snn.explain.class_map import class_head, class_map, recorded_features
from robustbench_snn.explain.kinds import map_kind
from robustbench_snn.explain.units import Unit, by_head, by_token, read_unit, wanted_units

LINEAR = ("linear", "fb_lidiff")
TOKEN_MASKS = ("token_mask", "ff_lidiff")


@dataclass(frozen=True)
class AttentionMaps:
    """Maps of one batch.

    Attributes:
        logits: [B, K].
        values: kind to float32 [B, rows, columns], raw units.
        undefined: kind to the reason why this model and block have no such map.
        notes: kind to what a caption must add (an approximation).
        block: name of the attention module read.
        number: of the pass read, from 1; ``passes`` is how many the module made.
        grid: (rows, columns) of the block's tokens.
    """

    logits: Tensor
    values: dict[str, Tensor]
    undefined: dict[str, str]
    notes: dict[str, str]
    block: str
    number: int
    passes: int
    grid: tuple[int, int]


class _NotDefinedError(Exception):
    """A map that this attention does not have; the message says why."""


@torch.no_grad()
def attention_maps(
    model: ModelAdapter,
    x: Tensor,
    kinds: Sequence[str] = ("rate",),
    block: str = "last",
    number: int | None = None,
    target: Tensor | None = None,
) -> AttentionMaps:
    """Attention maps of a batch, all from one forward pass.

    Args:
        model: an adapter.
        x: images [B, \\*input_shape] in [0, 1].
        kinds: names of attention maps.
        block: ``last``, a place from 1, or a name (see ``choose_block``).
        number: pass to read, from 1; None takes the one that predicts.
        target: class of each image for class maps, int64 [B]; None takes the predicted one.

    Raises:
        UsageError: an unknown map, block or pass, or an input the model does not take.
    """
    head = class_head(model) if "class" in kinds else None
    with recorded_features(head) as features:
        trace = model.forward_trace(x, wanted_units(model, block))
    unit = read_unit(model, trace, (x.shape[-2], x.shape[-1]), block, number)
    found = AttentionMaps(trace.logits, {}, {}, {}, unit.name, unit.number, unit.passes, unit.grid)
    for kind in kinds:
        try:
            if kind == "class":
                chosen = trace.logits.argmax(1) if target is None else target
                found.values[kind] = _class(model, unit, features, chosen)
                if head is not None and not head.exact:
                    found.notes[kind] = "approximate: a neuron sits between pooling and head"
            else:
                found.values[kind] = _attention_map(kind, unit)
        except _NotDefinedError as reason:
            found.undefined[kind] = str(reason)
    return found


def _attention_map(kind: str, unit: Unit) -> Tensor:
    if kind not in _FORMULAS:
        raise UsageError(f"map '{kind}' is an {map_kind(kind).source}, not read from attention.")
    value = _FORMULAS[kind](unit)
    return value.reshape(-1, *unit.grid)


def _class(model: ModelAdapter, unit: Unit, features: list[Tensor], target: Tensor) -> Tensor:
    head = class_head(model)
    if head is None:
        raise _NotDefinedError("its adapter offers no class_head()")
    last = list(model.attention_units())[-1]
    if unit.name != last:
        raise _NotDefinedError(f"the head reads block '{last}' only")
    return class_map(features[unit.number - 1], head.linear, target)


def _rate(unit: Unit) -> Tensor:
    """Mean over time and channels of the core's output in spike form: [B, N]."""
    if unit.kind in LINEAR:
        if "output" not in unit.spikes:
            raise _NotDefinedError("its attention core has no neuron, so its output is no spikes")
        return by_token(unit.spikes["output"]).mean((1, 2))
    if unit.kind in TOKEN_MASKS:
        mask = _open(unit)
        key = by_head(unit.spikes["key"], mask.shape[2])
        return (mask.unsqueeze(3) * key).mean((1, 2, 3))
    query = by_token(unit.spikes["query"])
    gated = query * unit.spikes["mask"].reshape(*query.shape[:3], 1)
    return _as_computed(unit, gated).mean((1, 2))


def _as_computed(unit: Unit, gated: Tensor) -> Tensor:
    """The event layout pools Q * m once more, over the plane of tokens and head channels."""
    if not getattr(unit.module, "dvs", False):
        return gated
    heads = by_head(gated, unit.heads).permute(1, 0, 2, 4, 3)
    pooled: Tensor = unit.module.pool_plane(heads)  # type: ignore[operator]
    return by_token(pooled.permute(1, 0, 2, 4, 3).flatten(2, 3))


def _open(unit: Unit) -> Tensor:
    """Token masks [B, T, heads, N] in {0, 1}."""
    mask, n = unit.spikes["mask"], unit.grid[0] * unit.grid[1]
    return mask.reshape(*mask.shape[:2], -1, n)


def _gate(unit: Unit) -> Tensor:
    if unit.kind not in TOKEN_MASKS:
        what = "gates channels, not tokens" if unit.kind == "channel_mask" else "gates nothing"
        raise _NotDefinedError(f"its attention {what}")
    return _open(unit).mean((1, 2))


def _signed(unit: Unit) -> Tensor:
    if unit.kind != "ff_lidiff":
        raise _NotDefinedError("only FF-LiDiff attention subtracts inhibition from excitation")
    drive, n = unit.currents["mask"], unit.grid[0] * unit.grid[1]
    return drive.reshape(*drive.shape[:2], -1, n).mean((1, 2))


def received_by_head(query: Tensor, key: Tensor) -> Tensor:
    """Column sums of ``Q K^T`` without building it: ``r_j = <sum_i Q_i, K_j>``, O(N d).

    Args:
        query, key: spikes [B, T, heads, d, N].

    Returns:
        [B, T, heads, N].
    """
    return (query.sum(-1, keepdim=True) * key).sum(3)


def _received(unit: Unit, weight: bool = False) -> Tensor:
    if unit.kind not in LINEAR:
        raise _NotDefinedError("only linear attention compares tokens with each other")
    if getattr(unit.module, "differential", False):
        raise _NotDefinedError("its heads subtract two attentions, which share no weights")
    q, k, v = (by_head(unit.spikes[r], unit.heads) for r in ("query", "key", "value"))
    received = received_by_head(q, k)
    return (received * v.sum(3) if weight else received).mean((1, 2))


def _contribution(unit: Unit) -> Tensor:
    return _received(unit, weight=True)


_FORMULAS: dict[str, Callable[[Unit], Tensor]] = {
    "rate": _rate,
    "gate": _gate,
    "signed": _signed,
    "received": _received,
    "contribution": _contribution,
}
