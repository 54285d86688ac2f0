"""Putting a gradient estimator into a model for the length of a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from robustbench_snn.estimators.libraries import library_of, spike_emitters
from robustbench_snn.estimators.names import (
    TRAINING,
    Estimator,
    NotApplicable,
    estimator_name,
    parse_estimator,
)
from robustbench_snn.estimators.neuron import NeuronBackward, Rule
from robustbench_snn.estimators.swap import Clock, override, swap
from robustbench_snn.estimators.unit import UnitSlope
from robustbench_snn.registry import import_target


class Active:
    """An estimator as installed: what an attack tells it while it runs.

    Attributes:
        name: canonical text of the estimator.
        units: number of spiking units whose derivative was replaced.
    """

    def __init__(self, name: str, units: int, slopes: list[UnitSlope]) -> None:
        self.name = name
        self.units = units
        self._slopes = slopes

    @property
    def separable(self) -> bool:
        """Whether every sample's gradient is its own, so that the batch may shrink."""
        return all(slope.separable for slope in self._slopes)

    def restart(self) -> None:
        """A new batch or a new restart begins: forget all statistics."""
        for slope in self._slopes:
            slope.restart()

    def select(self, keep: Tensor) -> None:
        """The batch shrank to the samples at ``keep`` (int64)."""
        for slope in self._slopes:
            slope.select(keep)

    def updating(self, on: bool) -> None:
        """Whether the next forward pass counts in the statistics."""
        for slope in self._slopes:
            slope.updating = on


def spiking_units(model: nn.Module) -> dict[str, nn.Module]:
    """Every module of ``model`` that emits spikes, by name."""
    declared = getattr(model, "spiking_units", None)
    if declared is not None:
        return dict(declared())
    return spike_emitters(model)


def _all_units(model: nn.Module, estimator: str) -> dict[str, nn.Module]:
    units = spiking_units(model)
    known = {id(unit) for unit in units.values()}
    emitters = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, neuron.BaseNode) or library_of(module)
    }
    missed = [name for name, module in emitters.items() if id(module) not in known]
    if missed:
        raise NotApplicable(
            f"gradient estimator '{estimator}' reaches {len(units)} of {len(emitters)} spike "
            f"emitters and misses {', '.join(missed[:3])}: name them in spiking_units()."
        )
    if not units:
        raise NotApplicable(
            f"gradient estimator '{estimator}' replaces how spikes are differentiated, and this "
            "model has no spiking units: use the estimator 'training'."
        )
    return units


@contextmanager
def installed(model: nn.Module, estimator: str, probe: Tensor | None = None) -> Iterator[Active]:
    """Differentiate the spikes of ``model`` with ``estimator`` inside the block.

    Whatever happens inside, everything is as it was afterwards.

    Args:
        model: images to logits.
        estimator: text such as ``atan:alpha=2``; ``training`` changes nothing.
        probe: a few images [b, *]; their logits must not change by a bit. None skips the gate.

    Yields:
        Active, whose ``units`` equals the number of spiking units.

    Raises:
        UsageError: no such estimator.
        NotApplicable: the model has units the estimator cannot serve, or its logits changed.
    """
    kind, params = parse_estimator(estimator)
    name = estimator_name(estimator)
    if kind.name == TRAINING:
        yield Active(name, 0, [])
        return
    units = _all_units(model, name)
    before = None if probe is None else _logits(model, probe)
    with ExitStack() as undo:
        try:
            slopes = _install(model, units, kind, params, undo)
        except NotApplicable as reason:
            raise NotApplicable(f"'{name}' is not applicable: {reason}.") from None
        if probe is not None and not torch.equal(before, _logits(model, probe)):  # type: ignore[arg-type]
            raise NotApplicable(
                f"'{name}' is not applicable: with it installed the logits of the model change, "
                "so it would attack another model."
            )
        yield Active(name, len(units), slopes)


def not_applicable(model: nn.Module, estimator: str, probe: Tensor) -> str:
    """Why ``estimator`` cannot be used on ``model``; empty when it can."""
    try:
        with installed(model, estimator, probe):
            return ""
    except NotApplicable as reason:
        return str(reason)


def _logits(model: nn.Module, probe: Tensor) -> Tensor:
    # A random encoder must draw the same numbers both times.
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        return model(probe)


def _install(
    model: nn.Module,
    units: dict[str, nn.Module],
    kind: Estimator,
    params: dict[str, float | str],
    undo: ExitStack,
) -> list[UnitSlope]:
    if kind.kind == "neuron":
        made = import_target(kind.impl)(**params)
        for name, unit in units.items():
            if getattr(unit, "step_mode", "s") != "m" or not hasattr(unit, "multi_step_forward"):
                raise NotApplicable(f"it needs multi-step neurons, and '{name}' takes single steps")
            own = unit.multi_step_forward
            rule = made.rule(unit, own)
            override(unit, partial(_whole, rule=rule), undo)
        return []
    slopes = []
    clock = Clock(int(getattr(model, "time_steps", 0)))
    undo.callback(model.register_forward_pre_hook(clock.begin).remove)
    for unit in units.values():
        target = import_target(kind.impl)
        slope = target(**params) if kind.kind == "adaptive" else UnitSlope(target(**params))
        slopes.append(slope)
        swap(unit, slope, clock, undo)
    return slopes


def _whole(x: Tensor, rule: Rule) -> Tensor:
    return NeuronBackward.apply(x, rule)
