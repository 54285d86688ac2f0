"""Gradient estimators by name: ``atan:alpha=2``, ``assg:target=0.425``; no torch here.

One text names an estimator with all its numbers, so that it can be an option of an attack and
part of a result's key. Canonical texts give every parameter: ``name:key=value:key=value``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from robustbench_snn.errors import UsageError
from robustbench_snn.registry import Registry, did_you_mean

TRAINING = "training"

Kind = Literal["none", "slope", "adaptive", "neuron"]


class NotApplicable(UsageError):  # noqa: N818 - an answer, not an error of the program
    """An estimator cannot be used on this model; the message says why.

    Suites report it as such; a single attack stops with it.
    """


@dataclass(frozen=True)
class Estimator:
    """One way to differentiate spikes.

    Attributes:
        name: registered name.
        impl: ``"module:attribute"`` of what computes it; empty for the training surrogate.
        kind: ``slope`` (a fixed function of u), ``adaptive`` (a function of u and of what was
            seen before), ``neuron`` (the backward pass of a whole neuron), or ``none``.
        summary: one line for listings.
        defaults: parameters and their values; all are numbers or one of ``choices``.
        choices: allowed texts of parameters that are not numbers.
        main: the parameter that a bare value stands for (``atan:4``).
    """

    name: str
    impl: str
    kind: Kind
    summary: str
    defaults: Mapping[str, float | str] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    main: str = ""


ESTIMATORS: Registry[Estimator] = Registry("gradient estimator")

_SLOPES = "robustbench_snn.estimators.slopes"
_ADAPTIVE = "robustbench_snn.estimators.adaptive"
_NEURON = "robustbench_snn.estimators.neuron"


def _add(estimator: Estimator) -> None:
    ESTIMATORS.add(estimator.name, estimator)


_add(Estimator(TRAINING, "", "none", "the surrogate the model was trained with"))
_add(Estimator("atan", f"{_SLOPES}:atan", "slope", "arctangent", {"alpha": 2.0}, main="alpha"))
_add(Estimator("sigmoid", f"{_SLOPES}:sigmoid", "slope", "logistic", {"alpha": 4.0}, main="alpha"))
_add(
    Estimator("triangle", f"{_SLOPES}:triangle", "slope", "triangle", {"gamma": 1.0}, main="gamma")
)
_add(Estimator("rect", f"{_SLOPES}:rect", "slope", "rectangle", {"gamma": 1.0}, main="gamma"))
_add(
    Estimator(
        "exp",
        f"{_SLOPES}:exponential",
        "slope",
        "two-sided exponential",
        {"beta": 1.0, "scale": 1.0},
        main="beta",
    )
)
_add(Estimator("ste", f"{_SLOPES}:straight_through", "slope", "straight-through: slope 1"))
_add(
    Estimator(
        "assg",
        f"{_ADAPTIVE}:AdaptiveSharpness",
        "adaptive",
        "sharpness follows each neuron's potential",
        {"target": 0.425, "relax": 1.5, "beta": 0.9},
        main="target",
    )
)
_add(
    Estimator(
        "pdsg",
        f"{_ADAPTIVE}:PotentialDependent",
        "adaptive",
        "gaussian as wide as the potential's spread",
        {"over": "sample"},
        {"over": ("sample", "batch")},
        main="over",
    )
)
_add(
    Estimator(
        "bptr",
        f"{_NEURON}:RateThrough",
        "neuron",
        "straight through firing rates",
        {"gain": "unit"},
        {"gain": ("unit", "one")},
        main="gain",
    )
)
_add(
    Estimator(
        "rga",
        f"{_NEURON}:RateGradient",
        "neuron",
        "slope of the rate over the mean current",
        {"gamma": 0.2, "kappa": 1.0},
        main="gamma",
    )
)
_add(
    Estimator(
        "hart",
        f"{_NEURON}:Hart",
        "neuron",
        "triangle without membrane carry, averaged over time",
        {"gamma": 1.0},
        main="gamma",
    )
)


def parse_estimator(text: str) -> tuple[Estimator, dict[str, float | str]]:
    """The estimator and all its parameters named by ``text``.

    Raises:
        UsageError: unknown name or parameter, or a value that cannot be.
    """
    name, *parts = str(text).split(":")
    estimator = ESTIMATORS.get(name)
    params = dict(estimator.defaults)
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            key, value = estimator.main, part
        if key not in params:
            known = did_you_mean(key, list(params)) if params else "it has none"
            raise UsageError(f"gradient estimator '{name}' has no parameter '{key}': {known}")
        params[key] = _value(estimator, key, value)
    if name == "assg" and not float(params["target"]) < 0.5:
        raise UsageError(
            f"assg target {params['target']} is half of a share of slope, so it lies between 0 "
            "and 0.5: write 0.425, or 0.35 for a wider and 0.49 for a narrower surrogate."
        )
    return estimator, params


def _value(estimator: Estimator, key: str, text: str) -> float | str:
    allowed = estimator.choices.get(key)
    if allowed is not None:
        if text not in allowed:
            raise UsageError(
                f"{estimator.name} {key} '{text}' is unknown: choose {' or '.join(allowed)}."
            )
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UsageError(f"{estimator.name} {key} '{text}' is not a number above 0.")
    return value


def estimator_name(text: str) -> str:
    """``text`` with every parameter written out: equal estimators, equal texts.

    Raises:
        UsageError: as ``parse_estimator``.
    """
    estimator, params = parse_estimator(text)
    values = [f"{k}={v if isinstance(v, str) else f'{v:g}'}" for k, v in params.items()]
    return ":".join([estimator.name, *values])
