"""The attacks of the torchattacks package as AttackTypes, read from their class signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import make_dataclass
from functools import lru_cache
from typing import Any

from robustbench_snn.attack_spec import Scalar
from robustbench_snn.attacks.specs import BRIDGE_PREFIX, AttackType, option
from robustbench_snn.attacks.values import (
    Given,
    parse_free,
    parse_number,
    parse_switch,
)
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

# Set by the bridge from the run and the model, so they are no options.
SUPPLIED = frozenset({"model", "seed", "n_classes", "verbose"})
_NEED_OBJECTS = {
    "MultiAttack": "other attacks",
    "LGV": "a training set",
}
_NORMS = {
    "l2": {"CW", "PGDL2", "PGDRSL2", "DeepFool"},
    "l1": {"EADL1"},
    "l0": {"SparseFool", "OnePixel", "Pixle", "JSMA"},
    "none": {"VANILA", "GN", "EADEN"},
}
# What they climb, where that is not cross-entropy; nothing where they only ask for answers.
_LOSSES = {
    "": {"VANILA", "GN", "SPSA", "OnePixel", "Pixle", "Square"},
    "margin": {"APGDT", "AutoAttack", "CW", "DeepFool", "EADL1", "EADEN", "FAB", "JSMA"}
    | {"SparseFool"},
}
# The class takes any text and fails, or falls through, in the middle of an attack.
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "norm": {"FAB": ("Linf", "L2", "L1"), "": ("Linf", "L2")},
    "loss": {"APGD": ("ce", "dlr"), "UPGD": ("ce", "dlr", "margin"), "Square": ("margin", "ce")},
    "version": {"AutoAttack": ("standard", "plus", "rand")},
    "noise_type": {"": ("guassian", "uniform")},
    "kernel_name": {"": ("gaussian", "linear", "uniform")},
}


@lru_cache
def attack_classes() -> dict[str, type]:
    """Attack name to class of the installed torchattacks; imports torch.

    Raises:
        UsageError: torchattacks cannot be imported.
    """
    try:
        import torchattacks
    except Exception as error:  # a broken companion package raises more than ImportError
        raise UsageError(
            f"torchattacks cannot be imported here ({type(error).__name__}: {error}); "
            "install it with `pip install torchattacks`, or use fgsm or pgd, which do without."
        ) from error
    base = torchattacks.attack.Attack
    return {
        name: found
        for name, found in vars(torchattacks).items()
        if inspect.isclass(found) and issubclass(found, base)
    }


@lru_cache
def bridge_type(name: str) -> AttackType:
    """The AttackType of torchattacks' class ``name``, its options those of the class.

    Distances are in pixel units; tuples are written ``2,10``.

    Raises:
        UsageError: no such class, or one that needs Python objects as arguments.
    """
    classes = attack_classes()
    if name in _NEED_OBJECTS:
        raise UsageError(
            f"torchattacks:{name} needs {_NEED_OBJECTS[name]} as an argument, which a command "
            "line cannot give; name the attacks one by one instead."
        )
    if name not in classes:
        known = [known for known in classes if known not in _NEED_OBJECTS]
        near = {known.lower(): known for known in known}.get(name.lower())
        hint = f"did you mean '{near}'?" if near else did_you_mean(name, known)
        raise UsageError(f"unknown torchattacks attack '{name}': {hint}")
    norm = next((norm for norm, names in _NORMS.items() if name in names), "linf")
    loss = next((loss for loss, names in _LOSSES.items() if name in names), "ce")
    return AttackType(
        name=BRIDGE_PREFIX + name,
        params=_params(classes[name]),
        impl="robustbench_snn.attacks.torchattacks_bridge:TorchattacksAttack",
        summary=f"{name} of the torchattacks package",
        norm=norm,
        loss=loss,
        batch_dependent=True,
    )


def accepted(name: str) -> set[str]:
    """Names of all arguments torchattacks' class ``name`` takes."""
    return set(inspect.signature(attack_classes()[name].__init__).parameters) - {"self"}  # type: ignore[misc]


def default_of(name: str, key: str) -> Any:
    """Default of argument ``key`` of torchattacks' class ``name``."""
    return inspect.signature(attack_classes()[name].__init__).parameters[key].default  # type: ignore[misc]


def _params(attack: type) -> type:
    signature = inspect.signature(attack.__init__)  # type: ignore[misc]
    made: list[tuple[str, type, Any]] = []
    for key, parameter in signature.parameters.items():
        if key == "self" or key in SUPPLIED:
            continue
        default = parameter.default
        if isinstance(default, tuple):
            default = ",".join(str(part) for part in default)
        choices = _CHOICES.get(key, {})
        allowed = choices.get(attack.__name__, choices.get("", ()))
        parse = _chooser(allowed) if allowed else _parser(default)
        made.append((key, type(default), option(default, f"{key} of {attack.__name__}", parse)))
    return make_dataclass(f"{attack.__name__}Params", made, frozen=True)


def _chooser(allowed: tuple[str, ...]) -> Callable[[Given, str], Scalar]:
    def choose(text: Given, what: str) -> Scalar:
        if text not in allowed:
            raise UsageError(f"{what} '{text}' is none of {', '.join(allowed)}.")
        return text

    return choose


def _parser(default: Scalar) -> Callable[[Given, str], Scalar]:
    if isinstance(default, bool):
        return parse_switch
    if isinstance(default, int):
        return _parse_whole_or_number
    if isinstance(default, float):
        return parse_number
    return lambda text, what: text


def _parse_whole_or_number(text: Given, what: str) -> Scalar:
    parse_number(text, what)
    return parse_free(text)
