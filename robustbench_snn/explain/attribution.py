"""Attributions of a logit to pixels, through captum, behind a wrapper that resets the network.

Gradients are surrogate gradients: they are not gradients of the function the network computes,
so integrated gradients do not sum to the change of the logit (see ``surrogate_gap``), and only
occlusion is free of the surrogate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from captum.metrics import infidelity, sensitivity_max
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.errors import UsageError
from robustbench_snn.explain.cam import grad_cam
from robustbench_snn.explain.kinds import map_kind

INTERNAL_BATCH = 64


class ResetSafe(nn.Module):
    """A model as captum needs it: images to logits, no state left behind, eval mode.

    captum calls its model many times for one answer; a membrane left by one call changes the
    next one without any error. Inputs are clamped to the model's range first, because captum's
    noise leaves it; the gradient is that at the clamped image, so that white and black pixels keep
    theirs.
    """

    def __init__(self, model: ModelAdapter) -> None:
        super().__init__()
        self.model = model
        self.high = model.card.max_value

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] of images [B, \\*input_shape]."""
        functional.reset_net(self.model)
        self.model.eval()
        logits = self.model(x.clamp(0, self.high).detach() + (x - x.detach()))
        functional.reset_net(self.model)
        return logits


@dataclass(frozen=True)
class Settings:
    """Numbers of the attributions.

    Attributes:
        steps: of integrated gradients.
        window: side of the occluding window as a share of the image's side.
        noise_samples: noisy copies of an image.
        noise: standard deviation of their noise, in pixel units of images in [0, 1].
    """

    steps: int = 32
    window: float = 1 / 8
    noise_samples: int = 8
    noise: float = 0.1


DEFAULTS = Settings()


@contextmanager
def seeded(seed: int, sample_id: str) -> Iterator[None]:
    """torch's random numbers keyed by (seed, sample id) inside; as before afterwards."""
    digest = hashlib.sha256(f"{seed}|{sample_id}".encode()).digest()
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        yield


def attribute(
    model: ModelAdapter,
    x: Tensor,
    target: Tensor,
    kind: str,
    ids: Sequence[str],
    seed: int = 0,
    settings: Settings = DEFAULTS,
) -> Tensor:
    """Attribution of each image's ``target`` logit to its pixels.

    Args:
        model: an adapter.
        x: images [B, C, H, W] in [0, 1].
        target: classes, int64 [B].
        kind: ``saliency``, ``input_x_gradient``, ``integrated_gradients``, ``occlusion``,
            ``noise_tunnel`` or ``grad_cam``.
        ids: sample ids; with the seed they key the random numbers, so that a result depends
            neither on the batch nor on the order.
        seed, settings: see ``Settings``.

    Returns:
        float32 [B, H, W], summed over channels; of the layer's grid for ``grad_cam``.

    Raises:
        UsageError: an unknown or refused attribution, or event frames.
    """
    if map_kind(kind).source != "attribution":
        raise UsageError(f"map '{kind}' is read from spikes, it is no attribution.")
    if x.dim() != 4:
        raise UsageError(
            f"attributions need images [B, C, H, W], and model '{model.card.name}' takes event "
            "frames: use a map read from spikes, such as rate."
        )
    if kind == "grad_cam":
        return grad_cam(model, x, target)
    found = _METHODS[kind](ResetSafe(model), x.detach(), target, ids, seed, settings)
    return found.detach().sum(1).float()


def _saliency(net: nn.Module, x: Tensor, target: Tensor, *_: Any) -> Tensor:
    return Saliency(net).attribute(x.requires_grad_(), target=target)


def _input_x_gradient(net: nn.Module, x: Tensor, target: Tensor, *_: Any) -> Tensor:
    return InputXGradient(net).attribute(x.requires_grad_(), target=target)


def _integrated(
    net: nn.Module, x: Tensor, target: Tensor, ids: Sequence[str], seed: int, settings: Settings
) -> Tensor:
    return IntegratedGradients(net).attribute(
        x, target=target, n_steps=settings.steps, internal_batch_size=max(INTERNAL_BATCH, len(x))
    )


def _occlusion(
    net: nn.Module, x: Tensor, target: Tensor, ids: Sequence[str], seed: int, settings: Settings
) -> Tensor:
    side = max(1, round(x.shape[-1] * settings.window))
    stride = max(1, side // 2)
    with torch.no_grad():
        return Occlusion(net).attribute(
            x,
            sliding_window_shapes=(x.shape[1], side, side),
            strides=(x.shape[1], stride, stride),
            baselines=x.mean((2, 3), keepdim=True).expand_as(x),
            target=target,
            perturbations_per_eval=max(1, INTERNAL_BATCH // len(x)),
        )


def _noise_tunnel(
    net: nn.Module, x: Tensor, target: Tensor, ids: Sequence[str], seed: int, settings: Settings
) -> Tensor:
    tunnel = NoiseTunnel(Saliency(net))
    parts = []
    for i, sample_id in enumerate(ids):
        with seeded(seed, sample_id):
            parts.append(
                tunnel.attribute(
                    x[i : i + 1].clone().requires_grad_(),
                    nt_type="smoothgrad",
                    nt_samples=settings.noise_samples,
                    nt_samples_batch_size=settings.noise_samples,
                    stdevs=settings.noise,
                    target=target[i : i + 1],
                )
            )
    return torch.cat(parts)


_METHODS: dict[str, Callable[..., Tensor]] = {
    "saliency": _saliency,
    "input_x_gradient": _input_x_gradient,
    "integrated_gradients": _integrated,
    "occlusion": _occlusion,
    "noise_tunnel": _noise_tunnel,
}


def surrogate_gap(model: ModelAdapter, x: Tensor, target: Tensor, attribution: Tensor) -> Tensor:
    """How far integrated gradients are from complete: |sum - (F(x) - F(0))| / |F(x) - F(0)|, [B].

    It measures the surrogate, not the number of steps: more steps do not close it.
    """
    net = ResetSafe(model)
    with torch.no_grad():
        change = (net(x) - net(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
    return (attribution.flatten(1).sum(1) - change).abs() / change.abs()


def infidelity_of(
    model: ModelAdapter,
    x: Tensor,
    target: Tensor,
    maps: Tensor,
    ids: Sequence[str],
    seed: int = 0,
    noise: float = 0.1,
    samples: int = 10,
) -> Tensor:
    """Normalised infidelity (Yeh et al. 2019, arXiv 1901.09392) of maps [B, h, w], float [B].

    The map is spread over the pixels of its cells; pixels are changed by Gaussian noise. 0 is
    perfect; the scale of the map does not matter.
    """
    net = ResetSafe(model)
    spread = nn.functional.interpolate(maps[:, None].to(x), size=x.shape[-2:], mode="nearest")
    spread = spread.expand_as(x)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        # The change that is left after clamping is the one the map must account for.
        changed = (inputs - torch.randn_like(inputs) * noise).clamp(0, net.high)
        return inputs - changed, changed

    found = []
    for i, sample_id in enumerate(ids):
        one = slice(i, i + 1)
        with seeded(seed, sample_id), torch.no_grad():
            found.append(
                infidelity(
                    net,
                    perturb,
                    x[one],
                    spread[one],
                    target=target[one],
                    n_perturb_samples=samples,
                    max_examples_per_batch=min(INTERNAL_BATCH, samples),
                    normalize=True,
                )
            )
    return torch.cat(found)


def sensitivity_of(
    maps_of: Callable[[Tensor], Tensor],
    x: Tensor,
    ids: Sequence[str],
    seed: int = 0,
    radius: float = 0.02,
    samples: int = 10,
) -> Tensor:
    """Max-sensitivity (Yeh et al. 2019, arXiv 1901.09392), float [B]: 0 is perfectly stable.

    The largest ``|A(x + e) - A(x)| / |A(x)|`` over random ``|e|_inf <= radius``.

    Args:
        maps_of: images [B, C, H, W] to maps [B, h, w].
        x, ids, seed: as in ``attribute``.
        radius: in pixel units of images in [0, 1].
        samples: random changes tried.
    """

    # A bare tensor would be taken for a tuple of maps, one for each sample.
    def explain(inputs: Any, **_: Any) -> tuple[Tensor]:
        image = inputs[0] if isinstance(inputs, tuple) else inputs
        return (maps_of(image.clamp(0, 1)),)

    found = []
    for i, sample_id in enumerate(ids):
        with seeded(seed, sample_id):
            found.append(
                sensitivity_max(
                    explain,
                    x[i : i + 1],
                    perturb_radius=radius,
                    n_perturb_samples=samples,
                    max_examples_per_batch=min(INTERNAL_BATCH, samples),
                )
            )
    return torch.cat(found)
