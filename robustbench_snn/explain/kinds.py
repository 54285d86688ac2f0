"""The maps that can be asked for by name, and those refused with a reason; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean


@dataclass(frozen=True)
class MapKind:
    """One kind of map.

    Attributes:
        name: what ``--map`` takes.
        source: ``attention`` (read from spikes of one forward pass) or ``attribution`` (computed
            from the logits by gradients or by changing pixels).
        summary: the definition in one line.
        unit: unit of the raw values.
        limits: the range raw values cannot leave; None when it depends on the network.
        class_specific: whether the map belongs to one class.
        signed: whether values can be negative.
    """

    name: str
    source: Literal["attention", "attribution"]
    summary: str
    unit: str
    limits: tuple[float, float] | None = None
    class_specific: bool = False
    signed: bool = False


def _attribution(name: str, summary: str, unit: str, signed: bool) -> MapKind:
    return MapKind(name, "attribution", summary, unit, None, True, signed)


_ALL = (
    MapKind(
        "rate",
        "attention",
        "firing rate of the attention core's output, mean over time and channels",
        "spikes per neuron and step",
        (0.0, 1.0),
    ),
    MapKind(
        "gate",
        "attention",
        "share of heads and steps whose token mask is open (token-mask attention only)",
        "open masks per head and step",
        (0.0, 1.0),
    ),
    MapKind(
        "signed",
        "attention",
        "excitation minus inhibition before the mask neuron, mean over heads and time (FF-LiDiff)",
        "spikes per head and step",
        None,
        signed=True,
    ),
    MapKind(
        "received",
        "attention",
        "attention a token receives: column sums of Q K^T, mean over heads and time (linear)",
        "shared active channels per head and step",
    ),
    MapKind(
        "contribution",
        "attention",
        "attention received times the L1 norm of the token's V (linear)",
        "weighted spikes per head and step",
    ),
    MapKind(
        "class",
        "attention",
        "part of the class's logit that comes from each token (class activation map)",
        "logit",
        None,
        class_specific=True,
        signed=True,
    ),
    _attribution("saliency", "absolute input gradient, summed over channels", "logit / px", False),
    _attribution("input_x_gradient", "input times gradient, summed over channels", "logit", True),
    _attribution("integrated_gradients", "integrated gradients from black", "logit", True),
    _attribution(
        "occlusion", "fall of the logit when a window turns to the mean colour", "logit", True
    ),
    _attribution("noise_tunnel", "saliency averaged over noisy copies", "logit / px", False),
    _attribution("grad_cam", "Grad-CAM with one weight per channel and time step", "logit", False),
)
KINDS: dict[str, MapKind] = {kind.name: kind for kind in _ALL}

_PLAIN_GRADIENT = (
    "it only changes ReLU layers, and a spiking network has none, so it silently equals the plain "
    "gradient: use saliency"
)
REFUSED: dict[str, str] = {
    "deep_lift": "it has no rule for spiking neurons and silently equals input times gradient: "
    "use input_x_gradient",
    "guided_backprop": _PLAIN_GRADIENT,
    "deconvolution": _PLAIN_GRADIENT,
    "lrp": "it has no propagation rule for spiking neurons: use integrated_gradients or occlusion",
    "layer_grad_cam": "it takes the time axis of a time-first layer for the batch: use grad_cam",
    "rollout": "it needs attention whose rows sum to one, which no spiking attention here has: "
    "use rate or class",
}


def map_kind(name: str) -> MapKind:
    """The kind called ``name``.

    Raises:
        UsageError: a map that is refused (with the reason), or an unknown one.
    """
    plain = name.strip().lower().replace("-", "_")
    alike = {key.replace("_", ""): key for key in REFUSED}
    if plain not in KINDS and plain.replace("_", "") in alike:
        raise UsageError(f"map '{name}' is not offered: {REFUSED[alike[plain.replace('_', '')]]}.")
    if plain not in KINDS:
        raise UsageError(f"unknown map '{name}': {did_you_mean(plain, list(KINDS))}")
    return KINDS[plain]


def parse_maps(texts: Sequence[str]) -> tuple[str, ...]:
    """Names of maps from texts that may hold several, separated by commas; repeats dropped.

    ``attention`` stands for all maps read from spikes, ``all`` for every map.

    Raises:
        UsageError: a name that is unknown or refused, or no name at all.
    """
    groups = {
        "all": list(KINDS),
        "attention": [kind.name for kind in _ALL if kind.source == "attention"],
    }
    names: list[str] = []
    for word in (part.strip() for text in texts for part in text.split(",")):
        if word:
            names += groups[word] if word in groups else [map_kind(word).name]
    if not names:
        raise UsageError("no map was named: give --map rate, for example.")
    return tuple(dict.fromkeys(names))
