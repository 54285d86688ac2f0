"""The variants of SpiLiFormer: what its released models and its paper each do. No torch here.

Source: the authors' code of January 2026 (github.com/KirinZheng/SpiLiFormer), which is another
model for each data set, and the equations of arXiv 2503.15986.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from robustbench_snn.errors import UsageError

Decoder = Literal["linear-bn", "bn-linear", "linear"]


@dataclass(frozen=True)
class Variant:
    """Every choice that the paper leaves open or the released models make differently.

    The defaults are the released CIFAR-10 model.

    Attributes:
        ff: FF-LiDiff in the early stages; False is QKFormer's token attention, no inhibition.
        fb: FB-LiDiff in the last stage and a second pass; False makes a single pass.
        attn_differential: the last stage's K and V have 2D channels and twice the heads, and the
            contexts ``K^T V`` of each pair of heads are subtracted.
        attn_neuron: the neuron and scale before the last stage's projection, as in QKFormer; the
            paper's equations show neither.
        fb_source: what is fed back: the last block's ``block`` output or its ``attn`` output.
        fb_prompt: ``token`` gates tokens by their product with the prompts, ``channel`` multiplies
            channel by channel (the literal shapes of Eq. 12-15).
        fb_cosine: token masks are cosines of tokens and prompts; False takes the dot product.
        fb_gain: factor of the masked feedback signal (``aug`` in the released code).
        fb_decoder: layers of a block's feedback decoder before its neuron, in order.
        fb_reorder: a decoder's spikes, stored ``[N, D]``, are read as ``[D, N]``, which mixes
            tokens and channels.
        fb_chain: what a decoder reads: the spikes of the block above (``top-down``, the last block
            reads the signal), of the block below (``bottom-up``, the first one does), or the
            signal itself (``none``).
        carry_state: keep the last stage's membranes between the passes.
        logits: which pass predicts: ``second``, ``first`` or ``mean``.
    """

    ff: bool = True
    fb: bool = True
    attn_differential: bool = False
    attn_neuron: bool = True
    fb_source: Literal["block", "attn"] = "block"
    fb_prompt: Literal["token", "channel"] = "token"
    fb_cosine: bool = True
    fb_gain: float = 1.0
    fb_decoder: Decoder = "linear-bn"
    fb_reorder: bool = True
    fb_chain: Literal["top-down", "bottom-up", "none"] = "top-down"
    carry_state: bool = False
    logits: Literal["second", "first", "mean"] = "second"


READINGS = {
    "cifar10": Variant(),
    "cifar100": Variant(fb_gain=2.0, fb_decoder="bn-linear", fb_reorder=False),
    "imagenet": Variant(fb_reorder=False, fb_chain="bottom-up"),
    "cifar10dvs": Variant(ff=False, attn_differential=True, fb_decoder="linear"),
    "ncaltech101": Variant(ff=False),
    "paper": Variant(fb_cosine=False, fb_reorder=False, fb_chain="none"),
}
SWITCHES = tuple(field.name for field in fields(Variant))
_WORDS: dict[str, tuple[object, ...]] = {
    "fb_source": ("block", "attn"),
    "fb_prompt": ("token", "channel"),
    "fb_decoder": ("linear-bn", "bn-linear", "linear"),
    "fb_chain": ("top-down", "bottom-up", "none"),
    "logits": ("second", "first", "mean"),
}


def choose(reading: str, switches: Mapping[str, Any]) -> Variant:
    """The variant called ``reading``, with ``switches`` in place of its own.

    Raises:
        UsageError: an unknown reading or value, or switches that contradict each other.
    """
    _require("reading", reading, tuple(READINGS))
    for name, value in switches.items():
        if name != "fb_gain":
            _require(name, value, _WORDS.get(name, (True, False)))
        elif isinstance(value, bool) or not isinstance(value, int | float) or not _positive(value):
            raise UsageError(f"fb_gain={value!r} is no factor: give a number above 0.")
    found = replace(READINGS[reading], **switches)
    idle = [name for name in switches if name.startswith("fb_") or name == "carry_state"]
    if idle and not found.fb:
        raise UsageError(
            f"{idle[0]}={switches[idle[0]]!r} belongs to the feedback, which fb=False leaves out: "
            "drop one of the two."
        )
    if found.fb and found.fb_prompt == "channel" and found.fb_cosine:
        raise UsageError(
            "fb_prompt='channel' multiplies channel by channel, which is no cosine: add "
            "fb_cosine=False."
        )
    return found


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _require(name: str, value: object, allowed: tuple[object, ...]) -> None:
    # By type as well: 1 and 0 are not switch positions.
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise UsageError(f"{name}={value!r} is unknown: use one of {', '.join(map(str, allowed))}.")
