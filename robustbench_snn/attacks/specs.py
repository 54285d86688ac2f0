"""Which attacks there are, which options each one has, and how text becomes an AttackSpec.

Nothing here imports torch, so that help and listings answer at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from robustbench_snn.attack_spec import AttackSpec, Scalar
from robustbench_snn.attacks.values import Given, parse_count, parse_eps, parse_step, parse_switch
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import Registry

# Of 32x32 images, as RobustBench's leaderboards; distances of linf would be next to none.
USUAL_EPS = {"l2": 0.5}
BRIDGE_PREFIX = "torchattacks:"


def option(default: Scalar, help: str, parse: Callable[[Given, str], Scalar]) -> Any:
    """A field of a parameter dataclass: default, help text, and how a given text is read."""
    return field(default=default, metadata={"help": help, "parse": parse})


@dataclass(frozen=True)
class FGSMParams:
    """Options of the fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572)."""

    eps: float = option(8 / 255, "largest change of a pixel, images being in [0, 1]", parse_eps)


@dataclass(frozen=True)
class PGDParams:
    """Options of projected gradient descent (Madry et al. 2018, arXiv 1706.06083)."""

    eps: float = option(8 / 255, "largest change of a pixel, images being in [0, 1]", parse_eps)
    step_size: float = option(2 / 255, "change of a pixel in one step", parse_step)
    steps: int = option(10, "number of gradient steps; the last iterate is returned", parse_count)
    random_start: bool = option(True, "start from uniform noise within eps", parse_switch)


@dataclass(frozen=True)
class Option:
    """One option of an attack, for help texts and parsers.

    Attributes:
        name: parameter name, ``step_size``; its flag is ``--step-size``.
        default: value when nothing is given; distances in pixel units.
        help: one line without a full stop.
        parse: text and parameter name to value; raises UsageError.
    """

    name: str
    default: Scalar
    help: str
    parse: Callable[[Given, str], Scalar]

    @property
    def flag(self) -> str:
        """The option on a command line."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True)
class AttackType:
    """What is known about an attack before it runs.

    Attributes:
        name: registered name.
        params: dataclass whose fields are made by ``option``.
        impl: the Attack class, or ``"module:attribute"`` for it.
        summary: one line for listings.
        shares: parameters that may differ between specs served by one computation.
        norm: the distance ``eps`` bounds: ``linf``, ``l2``, ``l1``, ``l0`` or ``none``.
        loss: of which loss it follows the model's input gradient, a key of ``losses.LOSSES``; an
            option ``loss`` takes precedence. Empty for attacks that need no gradient of the model.
        batch_dependent: whether a sample's result depends on its batch, so that the batch size
            belongs to the identity of a result.
    """

    name: str
    params: type
    impl: Any
    summary: str = ""
    shares: tuple[str, ...] = ()
    norm: str = "linf"
    loss: str = "ce"
    batch_dependent: bool = False

    def options(self) -> list[Option]:
        """All options in declaration order."""
        return [
            Option(f.name, f.default, f.metadata["help"], f.metadata["parse"])  # type: ignore[arg-type]
            for f in fields(self.params)
        ]


ATTACKS: Registry[AttackType] = Registry("attack")
ATTACKS.add(
    "fgsm",
    AttackType(
        "fgsm",
        FGSMParams,
        "robustbench_snn.attacks.gradient:FGSM",
        "one step along the sign of the gradient",
        shares=("eps",),
    ),
)
ATTACKS.add(
    "pgd",
    AttackType(
        "pgd",
        PGDParams,
        "robustbench_snn.attacks.gradient:PGD",
        "projected gradient steps from a random start, last iterate",
        shares=("steps",),
    ),
)


def attack_type(name: str) -> AttackType:
    """The type called ``name``; ``torchattacks:CLASS`` is looked up in that package.

    Raises:
        UsageError: no such attack; the message gives the closest names.
    """
    if name.startswith(BRIDGE_PREFIX):
        from robustbench_snn.attacks.torchattacks_catalogue import bridge_type

        return bridge_type(name.removeprefix(BRIDGE_PREFIX))
    return ATTACKS.get(name)


def make_spec(name: str, given: Mapping[str, Given] | None = None) -> AttackSpec:
    """The attack ``name`` with ``given`` options parsed and all others at their defaults.

    Raises:
        UsageError: unknown attack, an option the attack lacks, or an unreadable value.
    """
    kind = attack_type(name)
    options = {o.name: o for o in kind.options()}
    values = {key.replace("-", "_"): value for key, value in (given or {}).items()}
    for key in values:
        if key not in options:
            raise UsageError(_lacks(name, key, list(options)))
    params = {
        key: o.parse(values[key], key) if key in values else o.default for key, o in options.items()
    }
    if "eps" in params and "eps" not in values and "norm" in values:
        usual = _eps_of_norm(str(params["norm"]).lower(), values)
        params |= {key: value for key, value in usual.items() if key in options}
    spec = AttackSpec(name, params)
    norm, eps = budget(spec)
    if norm == "linf" and eps is not None:
        parse_eps(eps)
    return spec


def _eps_of_norm(norm: str, values: Mapping[str, Given]) -> dict[str, Scalar]:
    """The usual distance of a norm where none was given; steps are a quarter of it."""
    if norm == "linf":
        return {}
    if norm not in USUAL_EPS:
        raise UsageError(
            f"norm '{norm}' has no usual distance, and that of linf would be next to none: give "
            "eps."
        )
    usual: dict[str, Scalar] = {"eps": USUAL_EPS[norm]}
    return usual if "step_size" in values else usual | {"step_size": USUAL_EPS[norm] / 4}


def _lacks(name: str, key: str, known: list[str]) -> str:
    reason = ""
    if key == "seed":
        reason = " because the run's own seed is used"
    elif name == "fgsm" and key in {"steps", "step_size", "random_start"}:
        reason = " because it takes a single step from the clean image (use pgd for more)"
    return (
        f"attack '{name}' has no option '{key}'{reason}; it has "
        f"{', '.join(known) if known else 'no options'}."
    )


def group(specs: Iterable[AttackSpec]) -> list[list[AttackSpec]]:
    """Specs that one computation can serve, together: equal but for their shared parameters.

    Groups, and specs within a group, keep the order of first appearance; repeats are dropped.
    """
    groups: dict[str, dict[AttackSpec, None]] = {}
    for spec in specs:
        shares = attack_type(spec.name).shares
        fixed = {key: value for key, value in spec.params.items() if key not in shares}
        groups.setdefault(AttackSpec(spec.name, fixed).json(), {})[spec] = None
    return [list(found) for found in groups.values()]


def budget(spec: AttackSpec) -> tuple[str, float | None]:
    """The norm and the bound on the perturbation that ``spec`` promises; None is no promise.

    The bound is in pixel units of images in [0, 1].
    """
    norm = str(spec.params.get("norm", attack_type(spec.name).norm)).lower()
    eps = spec.params.get("eps", spec.params.get("max_epsilon"))
    return norm, None if norm == "none" or eps is None else float(eps)


def climbed(specs: Iterable[AttackSpec]) -> tuple[str, ...]:
    """The losses whose gradient at the attacked model's input ``specs`` follow, each once.

    DLR needs the gradient of logits, as the margin does, and counts as ``margin``.
    """
    found = []
    for spec in specs:
        if spec.name == "clean":
            continue
        kind = attack_type(spec.name)
        loss = str(spec.params.get("loss", kind.loss)) if kind.loss else ""
        found.append("margin" if loss.startswith("dlr") else loss)
    return tuple(dict.fromkeys(filter(None, found)))
