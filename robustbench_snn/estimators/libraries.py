"""Spiking units of other libraries: which modules they are, their surrogate, and their state.

A module emits spikes when it has a spikingjelly ``surrogate_function``, a snnTorch ``spike_grad``,
a sinabs ``surrogate_grad_fn`` or norse parameters ``p`` with a ``method`` and an ``alpha``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from typing import Any
from weakref import WeakKeyDictionary

from spikingjelly.activation_based import functional
from torch import Tensor, nn

from robustbench_snn.estimators.names import NotApplicable

_MEMBRANES = ("mem", "syn", "syn_exc", "syn_inh", "spk")
SPIKINGJELLY, SNNTORCH, SINABS, NORSE = "spikingjelly", "snnTorch", "sinabs", "norse"


def library_of(module: nn.Module) -> str:
    """Which library's spiking unit ``module`` is; empty for a module that emits no spikes."""
    if hasattr(module, "surrogate_function"):
        return SPIKINGJELLY
    if callable(getattr(module, "spike_grad", None)):
        return SNNTORCH
    if callable(getattr(module, "surrogate_grad_fn", None)) and getattr(module, "spike_fn", None):
        return SINABS
    parameters = getattr(module, "p", None)
    return NORSE if hasattr(parameters, "method") and hasattr(parameters, "alpha") else ""


def spike_emitters(net: nn.Module) -> dict[str, nn.Module]:
    """Every module of ``net`` that emits spikes, by name."""
    return {name: module for name, module in net.named_modules() if library_of(module)}


def surrogate_of(unit: nn.Module) -> str:
    """Name and sharpness of the surrogate of a spiking unit, for example ``sigmoid(alpha=4)``."""
    library = library_of(unit)
    if library == NORSE:
        parameters: Any = unit.p
        return f"{parameters.method}(alpha={float(parameters.alpha):g})"
    if library == SNNTORCH:
        return _described(unit.spike_grad)
    if library == SINABS:
        return _described(unit.surrogate_grad_fn)
    return _described(unit.surrogate_function) if library else type(unit).__name__.lower()


def _described(function: Any) -> str:
    """``name(alpha=4)`` of a surrogate: an object, or a function that holds its parameters."""
    values: dict[str, Any] = {}
    name = type(function).__name__
    if is_dataclass(function):
        values = {field.name: getattr(function, field.name) for field in fields(function)}
    elif hasattr(function, "alpha"):
        values = {"alpha": function.alpha}
    elif hasattr(function, "__qualname__"):
        name = function.__qualname__.partition(".<locals>")[0]
        cells = getattr(function, "__closure__", None) or ()
        held = zip(function.__code__.co_freevars, cells, strict=True) if cells else ()
        values = {key: cell.cell_contents for key, cell in held}
    shown = [f"{key}={float(v):g}" for key, v in values.items() if _is_number(v)]
    return name.lower() + (f"({', '.join(shown)})" if shown else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)


# Networks do not change their modules between forward passes, of which there are many.
_STATEFUL: WeakKeyDictionary[nn.Module, tuple[nn.Module, ...]] = WeakKeyDictionary()


def reset_state(net: nn.Module) -> None:
    """Forget the membranes of every spiking unit that keeps its own, whatever its library."""
    if net not in _STATEFUL:
        _STATEFUL[net] = tuple(module for module in net.modules() if _keeps_state(module))
    for module in _STATEFUL[net]:
        forget = getattr(module, "reset_states", None)
        if callable(forget):
            forget()
            continue
        for name in _MEMBRANES:
            if isinstance(getattr(module, name, None), Tensor):
                # snnTorch takes a membrane of another shape for none at all.
                setattr(module, name, getattr(module, name).detach().new_zeros(0))
        # A tensor of that name hides from spikingjelly that there is nothing to call.
        module.__dict__.pop("reset", None)
    functional.reset_net(net)


def _keeps_state(module: nn.Module) -> bool:
    if library_of(module) == SNNTORCH:
        return True
    return type(module).__module__.startswith("sinabs.") and hasattr(module, "reset_states")


def in_fire(unit: nn.Module, fires: Callable[[Tensor], Tensor], undo: ExitStack) -> None:
    """Let the snnTorch ``unit`` make its spikes with ``fires`` until ``undo`` unwinds.

    Only where it fires: its reset asks the same function again, once more in every time step.

    Raises:
        NotApplicable: a unit whose neurons inhibit each other.
    """
    own: Any = unit.fire
    if getattr(unit, "inhibition", False):
        raise NotApplicable("neurons of snnTorch that inhibit each other have no derivative here")

    def fire(membrane: Tensor) -> Tensor:
        held = unit.__dict__.get("spike_grad")
        # Not by assignment, which registers modules as children of the unit.
        unit.__dict__["spike_grad"] = fires
        try:
            spikes: Tensor = own(membrane)
            return spikes
        finally:
            if held is None:
                del unit.__dict__["spike_grad"]
            else:
                unit.__dict__["spike_grad"] = held

    unit.__dict__["fire"] = fire
    undo.callback(unit.__dict__.pop, "fire")


def in_backward(unit: nn.Module, slope: Callable[[Tensor], Tensor], undo: ExitStack) -> None:
    """Let the sinabs ``unit`` differentiate its spikes with ``slope`` until ``undo`` unwinds."""
    held = unit.__dict__.get("surrogate_grad_fn")
    unit.__dict__["surrogate_grad_fn"] = lambda membrane, threshold: slope(membrane - threshold)

    def put_back() -> None:
        if held is None:
            del unit.__dict__["surrogate_grad_fn"]
        else:
            unit.__dict__["surrogate_grad_fn"] = held

    undo.callback(put_back)
