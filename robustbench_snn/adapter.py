"""The extension point: one class turns any spiking network into a map from images to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_snn.card import ModelCard
from robustbench_snn.errors import UsageError
from robustbench_snn.estimators.libraries import reset_state, spike_emitters, surrogate_of

RANGE_TOLERANCE = 1e-4
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)


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
        weights_sha256: of the weights loaded, ``untrained`` without any; ``weights_source`` says
            where they came from, as ``Checkpoint.source`` does.
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
        for name, values in (("mean", self.card.mean), ("std", self.card.std)):
            numbers = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, numbers.view(shape), persistent=False)
        self.net = self.build()
        if not isinstance(self.net, nn.Module):
            raise UsageError(
                f"build() of model '{self.card.name}' returns {type(self.net).__name__}: it must "
                "return the network, a torch.nn.Module."
            )
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
        """Every module that emits spikes, by name (spikingjelly, snnTorch, sinabs, norse)."""
        return spike_emitters(self.net)

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
            UsageError: a wrong shape, values outside the range, or not one logit for each class.
        """
        logits = self.readout(self.net(self.prepare(x)))
        self.check_logits(logits, x)
        return logits

    def prepare(self, x: Tensor) -> Tensor:
        """Check, normalise, reset and encode: the network's input ``[T, B, C, H, W]``."""
        self.check_input(x)
        reset_state(self.net)
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
        if x.dtype != self.mean.dtype and x.dtype in (torch.float64, *_WHOLE):
            kind, own = (str(t).removeprefix("torch.") for t in (x.dtype, self.mean.dtype))
            raise UsageError(
                f"model '{name}' got {kind} inputs and computes in {own}: give x.float(), grey "
                "levels divided by 255."
            )
        low, high = (float(value) for value in torch.aminmax(x.detach()))
        top = self.card.max_value
        if top == 1.0 and low >= 0 and 2 < high <= 255:
            raise UsageError(
                f"model '{name}' got inputs in [{low:g}, {high:g}]; adapters take [0, 1]. They "
                "look like grey levels: divide them by 255."
            )
        if low != low or high != high:
            raise UsageError(
                f"model '{name}' got inputs in [{low:.2f}, {high:.2f}], which are not numbers: "
                "look for a division by zero where they were made."
            )
        if not low >= -RANGE_TOLERANCE or (top is not None and high > top + RANGE_TOLERANCE):
            bound = "[0, inf)" if top is None else f"[0, {top:g}]"
            raise UsageError(
                f"model '{name}' got inputs in [{low:.2f}, {high:.2f}]; adapters take {bound}. "
                "It looks as if Normalize() is still in the loader: remove it and put mean and "
                "std in the ModelCard."
            )

    def check_logits(self, logits: Any, x: Tensor) -> None:
        """Raise UsageError unless ``logits`` are [B, K] for the images ``x`` and the card's K."""
        name, shape = self.card.name, tuple(getattr(logits, "shape", ()))
        if len(shape) != 2 or shape[0] != len(x):
            seen = list(shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                f"model '{name}': network returns {seen} for {len(x)} images, and logits are "
                f"[{len(x)}, {self.card.num_classes}]: mend the network, or readout()."
            )
        if shape[1] != self.card.num_classes:
            raise UsageError(
                f"model '{name}': network returns {shape[1]} logits, the card says "
                f"{self.card.num_classes}: mend the last layer, or num_classes in the ModelCard."
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
        found = {surrogate_of(unit) for unit in self.spiking_units().values()}
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
        UsageError: unknown model or argument, a network that cannot be built, or weights that do
            not fit or are not finite.
    """
    from robustbench_snn.catalogue import load_plugin, model_card
    from robustbench_snn.weights import check_finite, load_weights

    for path in plugins:
        load_plugin(path)
    card = model_card(name)
    if model_args:
        card = replace(card, config={**card.config, **model_args})
    model = construct(name, card)
    load_weights(model, weights)
    check_finite(model)
    model.unlock(False)
    return model.to(device)


def construct(name: str, card: ModelCard) -> ModelAdapter:
    """The registered model ``name`` as ``card`` describes it, with the weights of ``build``.

    Raises:
        UsageError: a plugin's class fails, or the network takes no such arguments.
    """
    from robustbench_snn.catalogue import MODELS, own_line
    from robustbench_snn.registry import import_target, origin

    entry = MODELS.get(name)
    own = isinstance(entry.adapter, str)
    kind = import_target(entry.adapter) if own else entry.adapter
    changed = {k: v for k, v in card.config.items() if entry.card.config.get(k) != v}
    try:
        model: ModelAdapter = kind(card)
    except UsageError:
        raise
    except Exception as error:
        if changed:
            raise UsageError(
                f"model '{name}' cannot be built with {changed} ({error}): its card sets "
                f"{', '.join(sorted(entry.card.config))}."
            ) from error
        if own:
            raise
        where = own_line(error, origin(kind))
        raise UsageError(
            f"model '{name}' cannot be built: {where}{type(error).__name__}: {error}."
        ) from error
    return model
