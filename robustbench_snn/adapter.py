"""The extension point: one class turns any spiking network into a map from images to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from robustbench_snn.card import ModelCard
from robustbench_snn.errors import UsageError

RANGE_TOLERANCE = 1e-4


@dataclass
class Trace:
    """What one forward pass did.

    Attributes:
        logits: [B, K].
        spikes: per spiking unit its outputs, one tensor ``[B, T, ...]`` per pass (a network with
            two passes runs a unit twice; single-step units are called T times in each).
        currents: the same for the input currents.
    """

    logits: Tensor
    spikes: dict[str, list[Tensor]] = field(default_factory=dict)
    currents: dict[str, list[Tensor]] = field(default_factory=dict)


class ModelAdapter(nn.Module, ABC):
    """A spiking network as a function from images in [0, 1] to logits.

    Subclass it, set ``card`` and write ``build``. ``forward`` checks the input, normalises it,
    resets every neuron, encodes over time, runs the network and reads out: attacks, captum and
    corruptions need nothing else. The network stays in eval mode whatever a library asks for;
    ``unlock`` lifts that for training.

    Attributes:
        stochastic: set it where ``encode`` draws at random, so that two calls differ; attacks on
            such a model must average gradients (``--eot``).
        beta: share of the last term of ``training_logits`` in the loss, where there are two.
        weights_sha256: hash of the file the weights came from, or ``untrained``.
        weights_source: that file as it was asked for: a path or an address of the Hub.
    """

    card: ModelCard
    stochastic: bool = False
    beta: float = 1.0
    weights_sha256: str = "untrained"
    weights_source: str = ""
    mean: Tensor
    std: Tensor

    def __init__(self, card: ModelCard | None = None) -> None:
        super().__init__()
        self.card = card or type(self).card
        self._unlocked = False
        shape = (-1, *[1] * 2)
        self.register_buffer("mean", torch.tensor(self.card.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(self.card.std).view(shape), persistent=False)
        self.net = self.build()
        self.time_steps = self.card.time_steps
        self.eval()

    @abstractmethod
    def build(self) -> nn.Module:
        """The untrained network, ``[T, B, C, H, W]`` -> ``[T, B, K]`` or ``[B, K]``."""

    def encode(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` repeated (as a view), or ``[B, T, C, H, W]`` turned, to time-first."""
        if x.dim() == 4:
            return x.unsqueeze(0).expand(self.time_steps, *x.shape)
        return x.transpose(0, 1)

    def readout(self, output: Tensor) -> Tensor:
        """Logits [B, K]: the mean over time of ``[T, B, K]``, or ``[B, K]`` as it is."""
        return output.mean(0) if output.dim() == 3 else output

    def spiking_units(self) -> dict[str, nn.Module]:
        """Every module that emits spikes, by name (those with a ``surrogate_function``)."""
        return {
            name: module
            for name, module in self.net.named_modules()
            if hasattr(module, "surrogate_function")
        }

    def attention_units(self) -> dict[str, nn.Module]:
        """Attention modules whose spikes heatmaps read, by name, in forward order.

        A module counts when it has a ``kind``: ``token_mask``, ``ff_lidiff``, ``linear``,
        ``fb_lidiff`` or ``channel_mask``.
        """
        return {
            name: module
            for name, module in self.net.named_modules()
            if isinstance(getattr(module, "kind", None), str)
        }

    def state_dict_map(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Checkpoint keys -> this network's keys. Loading afterwards is always strict."""
        return state

    def training_logits(self, x: Tensor) -> list[tuple[float, Tensor]]:
        """(weight, logits [B, K]) of every term of the training loss."""
        return [(1.0, self(x))]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] of images ``x`` [B, \\*input_shape] in [0, 1] (see ``card.max_value``).

        Raises:
            UsageError: a wrong shape, or values outside the range.
        """
        return self.readout(self.net(self.prepare(x)))

    def prepare(self, x: Tensor) -> Tensor:
        """Check, normalise, reset and encode: the network's input ``[T, B, C, H, W]``."""
        self.check_input(x)
        functional.reset_net(self.net)
        return self.encode(self.normalise(x))

    def normalise(self, x: Tensor) -> Tensor:
        """``(x - mean) / std`` per channel, as the card declares; x when it declares none."""
        return (x - self.mean) / self.std if self.card.mean else x

    def check_input(self, x: Tensor) -> None:
        """Raise UsageError unless ``x`` has the card's shape and range."""
        # Reading the range back is impossible while a CUDA graph is recorded.
        if torch.compiler.is_compiling() or (
            x.is_cuda and torch.cuda.is_current_stream_capturing()
        ):
            return
        name, shape = self.card.name, self.card.input_shape
        # Sides and time steps may differ: the networks accept any square multiple of their stride.
        if x.dim() != len(shape) + 1 or x.shape[-3] != shape[-3]:
            raise UsageError(
                f"model '{name}' takes inputs [B, {', '.join(map(str, shape))}] and got "
                f"{list(x.shape)}: check the data set and the order of the axes."
            )
        low, high = (float(value) for value in torch.aminmax(x.detach()))
        top = self.card.max_value
        if not low >= -RANGE_TOLERANCE or (top is not None and high > top + RANGE_TOLERANCE):
            bound = "[0, inf)" if top is None else f"[0, {top:g}]"
            raise UsageError(
                f"model '{name}' got inputs in [{low:.2f}, {high:.2f}]; adapters take {bound}. "
                "It looks as if Normalize() is still in the loader: remove it and put mean and "
                "std in the ModelCard."
            )

    def forward_trace(self, x: Tensor, units: Collection[str] | None = None) -> Trace:
        """The same as ``forward``, with spikes and currents of ``units`` (all), batch-first.

        Naming the units wanted keeps large networks from holding all their activations at once.
        """
        trace = Trace(torch.empty(0))
        steps, batch = self.time_steps if x.dim() == 4 else x.shape[1], x.shape[0]
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
        modes: dict[str, str | None] = {}

        def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def hook(unit: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                # Some libraries return the spikes together with the state.
                spikes = output[0] if isinstance(output, tuple) else output
                seen.setdefault(name, []).append((spikes, inputs[0]))
                modes[name] = getattr(unit, "step_mode", None)

            return hook

        handles = [
            module.register_forward_hook(record(name))
            for name, module in self.spiking_units().items()
            if units is None or name in units
        ]
        try:
            trace.logits = self(x)
        finally:
            for handle in handles:
                handle.remove()
        for name, calls in seen.items():
            spikes, currents = (list(values) for values in zip(*calls, strict=True))
            trace.spikes[name] = _batch_first(spikes, steps, batch, modes[name])
            trace.currents[name] = _batch_first(currents, steps, batch, modes[name])
        return trace

    def train(self, mode: bool = True) -> ModelAdapter:
        """Stay in eval mode unless unlocked: attack libraries switch modes on their own."""
        return super().train(mode and self._unlocked)

    def unlock(self, unlocked: bool = True) -> ModelAdapter:
        """Allow (or forbid again) training mode and gradients of the parameters."""
        self._unlocked = unlocked
        for parameter in self.parameters():
            parameter.requires_grad_(unlocked)
        return self.train(unlocked)

    @property
    def config_json(self) -> str:
        """The network's constructor arguments as canonical JSON."""
        return self.card.config_json()

    @property
    def surrogate(self) -> str:
        """How spikes are differentiated, for example ``sigmoid(alpha=4)``."""
        found = {describe_surrogate(m.surrogate_function) for m in self.spiking_units().values()}
        return ", ".join(sorted(found)) or "none"


def _batch_first(values: list[Tensor], steps: int, batch: int, mode: str | None) -> list[Tensor]:
    """What a unit saw or gave, ``[B, T, ...]`` for each pass of the network.

    Args:
        values: one tensor for each call, in order.
        steps, batch: T and B.
        mode: of the unit: ``m`` for calls with all steps, ``s`` for one call a step; None asks
            the shapes.
    """
    first = values[0].shape
    single = first[0] == batch and (mode == "s" or (mode is None and first[:2] != (steps, batch)))
    if single:
        size = steps if len(values) % steps == 0 else 1
        return [torch.stack(values[i : i + size], 1) for i in range(0, len(values), size)]

    def turned(value: Tensor) -> Tensor:
        if value.shape[0] == steps * batch and value.dim() == 3 and steps > 1:
            value = value.view(steps, batch, *value.shape[1:])
        return value.transpose(0, 1)

    return [turned(value) for value in values]


def describe_surrogate(function: Any) -> str:
    """Name and sharpness of a surrogate function."""
    alpha = getattr(function, "alpha", None)
    name = type(function).__name__.lower()
    return name if alpha is None else f"{name}(alpha={float(alpha):g})"


def load_model(
    name: str,
    weights: str | None = None,
    device: str = "cpu",
    plugins: Sequence[str] = (),
    model_args: Mapping[str, Any] | None = None,
) -> ModelAdapter:
    """A registered model in eval mode with frozen parameters.

    Args:
        name: catalogue name.
        weights: a checkpoint path or ``hub:OWNER/REPO/FILE``; None takes the card's, if any.
        device: where to put it.
        plugins: files that register further models.
        model_args: constructor arguments that overrule the card's ``config``.

    Raises:
        UsageError: unknown model or argument, or weights that do not fit.
    """
    from robustbench_snn.catalogue import MODELS, load_plugin
    from robustbench_snn.registry import import_target
    from robustbench_snn.weights import load_weights

    for path in plugins:
        load_plugin(path)
    entry = MODELS.get(name)
    card = entry.card
    if model_args:
        card = replace(card, config={**card.config, **model_args})
    kind = import_target(entry.adapter) if isinstance(entry.adapter, str) else entry.adapter
    try:
        model: ModelAdapter = kind(card)
    except TypeError as error:
        if not model_args:
            raise
        raise UsageError(
            f"model '{name}' cannot be built with {dict(model_args)} ({error}): its card sets "
            f"{', '.join(sorted(entry.card.config))}."
        ) from error
    load_weights(model, weights)
    model.unlock(False)
    return model.to(device)
