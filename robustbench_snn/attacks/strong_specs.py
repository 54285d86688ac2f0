"""Options of the attacks that decide robustness: APGD, SA-PGD, worst-iterate PGD, Square, others.

Importing this module registers them; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from robustbench_snn.attacks.specs import ATTACKS, AttackType, option
from robustbench_snn.attacks.values import Given, parse_count, parse_eps, parse_number, parse_step
from robustbench_snn.errors import UsageError
from robustbench_snn.estimators.names import TRAINING, estimator_name
from robustbench_snn.registry import import_target

_HOME = "robustbench_snn.attacks"


def parse_choice(*allowed: str) -> Callable[[Given, str], str]:
    """A parser that takes one of ``allowed`` and raises UsageError on anything else."""

    def parse(text: Given, what: str) -> str:
        if text not in allowed:
            raise UsageError(f"{what} '{text}' is unknown: choose one of {', '.join(allowed)}.")
        return str(text)

    return parse


def parse_distance(text: Given, what: str = "eps") -> float:
    """A distance of at least 0; the limit of 1 that holds for a pixel is checked with the norm.

    Raises:
        UsageError: not a number, or negative.
    """
    value = parse_number(text, what)
    if value < 0:
        raise UsageError(f"{what} '{text}' is negative: distances start at 0.")
    return value


def parse_estimator_name(text: Given, what: str) -> str:
    """A gradient estimator with all its parameters written out."""
    return estimator_name(str(text))


def parse_source(text: Given, what: str) -> str:
    """A model as ``NAME@HASH``; the hash of its weights is filled in, so that results name it.

    The hash of a plug-in's model covers its weights, loaded or drawn, and its code. No name stays
    no name: the attack itself then says what it lacks.

    Raises:
        UsageError: unknown model, or other weights than those asked for.
    """
    from robustbench_snn.catalogue import is_foreign, model_card

    name, _, wanted = str(text).partition("@")
    if not name:
        return ""
    checkpoint = model_card(name).checkpoint
    found = (checkpoint.sha256 or "")[:12] if checkpoint is not None else "untrained"
    if is_foreign(name):
        # By name, so that results of other attacks do not depend on this one's source.
        found = import_target(f"{_HOME}.transfer:source_sha256")(name)
    if wanted and wanted != found:
        raise UsageError(
            f"transfer source '{text}' asks for weights and code {wanted}, but those of '{name}' "
            f"are {found}: leave the hash out to take them."
        )
    return f"{name}@{found}"


_EPS = "largest distance from the image, in pixel units of images in [0, 1]"
_ESTIMATOR = "how spikes are differentiated, as atan:alpha=2; 'training' is the model's own"
_EOT = "gradients averaged at each step, for random encoders"
_UNTARGETED = parse_choice("ce", "dlr", "margin")
_NORM = parse_choice("linf", "l2")


@dataclass(frozen=True)
class APGDParams:
    """Options of auto-PGD (Croce and Hein 2020, arXiv 2003.01690)."""

    norm: str = option("linf", "norm that bounds the change: linf or l2", _NORM)
    eps: float = option(8 / 255, _EPS, parse_distance)
    loss: str = option(
        "ce",
        "loss to climb: ce, dlr, dlr-targeted or margin",
        parse_choice("ce", "dlr", "dlr-targeted", "margin"),
    )
    steps: int = option(100, "number of gradient steps", parse_count)
    restarts: int = option(1, "runs from fresh starts (for each target)", parse_count)
    targets: int = option(
        9, "wrong classes aimed at (all, if fewer), with dlr-targeted", parse_count
    )
    estimator: str = option(TRAINING, _ESTIMATOR, parse_estimator_name)
    eot: int = option(1, _EOT, parse_count)


@dataclass(frozen=True)
class SAPGDParams:
    """Options of stable-and-adaptive PGD (arXiv 2512.22522)."""

    eps: float = option(8 / 255, _EPS, parse_eps)
    loss: str = option("ce", "loss to climb: ce or dlr", parse_choice("ce", "dlr"))
    steps: int = option(100, "number of gradient steps", parse_count)
    restarts: int = option(1, "runs from fresh starts", parse_count)
    estimator: str = option(TRAINING, _ESTIMATOR, parse_estimator_name)
    eot: int = option(1, _EOT, parse_count)


@dataclass(frozen=True)
class WorstPGDParams:
    """Options of PGD that keeps each sample's worst iterate (Madry et al. 2018)."""

    norm: str = option("linf", "norm that bounds the change: linf or l2", _NORM)
    eps: float = option(8 / 255, _EPS, parse_distance)
    step_size: float = option(2 / 255, "length of one step", parse_step)
    loss: str = option(
        "ce", "loss to climb: ce, dlr or margin", parse_choice("ce", "dlr", "margin")
    )
    steps: int = option(50, "number of gradient steps", parse_count)
    restarts: int = option(1, "runs from fresh starts", parse_count)
    estimator: str = option(TRAINING, _ESTIMATOR, parse_estimator_name)
    eot: int = option(1, _EOT, parse_count)


@dataclass(frozen=True)
class SquareParams:
    """Options of the Square attack (Andriushchenko et al. 2020, arXiv 1912.00049)."""

    norm: str = option("linf", "norm that bounds the change: linf or l2", _NORM)
    eps: float = option(8 / 255, _EPS, parse_distance)
    queries: int = option(5000, "proposals tried for each image", parse_count)
    p_init: float = option(0.8, "share of the image changed at first", parse_step)
    restarts: int = option(1, "runs from fresh starts", parse_count)


@dataclass(frozen=True)
class NoiseParams:
    """Options of the noise floor: the worst of several uniform draws."""

    eps: float = option(8 / 255, _EPS, parse_eps)
    draws: int = option(100, "noisy copies tried for each image", parse_count)


@dataclass(frozen=True)
class TransferParams:
    """Options of a transfer attack: PGD on another model of the same data set."""

    source: str = option("", "model the attack is made on", parse_source)
    eps: float = option(8 / 255, _EPS, parse_eps)
    step_size: float = option(2 / 255, "length of one step", parse_step)
    steps: int = option(50, "number of gradient steps on the source", parse_count)
    estimator: str = option(
        TRAINING, "how the source's spikes are differentiated", parse_estimator_name
    )


def _add(name: str, params: type, target: str, summary: str, shares: tuple[str, ...] = ()) -> None:
    ATTACKS.add(name, AttackType(name, params, f"{_HOME}.{target}", summary, shares))


_add("apgd", APGDParams, "apgd:APGD", "auto-PGD: steps that shrink by themselves, worst iterate")
_add("sapgd", SAPGDParams, "sapgd:SAPGD", "momentum scaled for spiking networks, worst iterate")
_add(
    "pgd-worst",
    WorstPGDParams,
    "worst_pgd:WorstPGD",
    "PGD with restarts, losses and estimators, worst iterate",
    ("steps",),
)
_add("square", SquareParams, "square:Square", "random squares, no gradients")
_add("noise", NoiseParams, "noise:Noise", "worst of many uniform draws: a floor for attacks")
_add("transfer", TransferParams, "transfer:Transfer", "PGD made on another model")
