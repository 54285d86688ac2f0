"""What an evaluation of maps is: its configuration and the groups of metrics; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.config import RunConfig
from robustbench_snn.corruptions.names import CORRUPTIONS, check_cell
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

MAPS = "maps"
# Metric group to the measurement that yields it.
GROUPS: dict[str, str] = {
    "location": MAPS,
    "concentration": MAPS,
    "faithfulness": "faithfulness",
    "fidelity": "fidelity",
    "randomisation": "randomisation",
    "grid_pointing": "grid_pointing",
    "stability": "stability",
}
CHEAP = ("location", "concentration")
# Corruptions that move the object: a map that follows it changes for a good reason.
GEOMETRIC = ("elastic_transform", "zoom_blur")
DEFAULT_UNDER = ("gaussian_noise:3", "pgd")


@dataclass(frozen=True)
class Change:
    """What is done to images for stability: a corruption or an attack.

    Attributes:
        text: as the user named it, with defaults filled in; stored with the result.
        corruption, severity: the corruption, if it is one.
        attack: the attack, if it is one.
    """

    text: str
    corruption: str = ""
    severity: int = 0
    attack: AttackSpec | None = None

    @property
    def geometric(self) -> bool:
        """Whether the object itself moves."""
        return self.corruption in GEOMETRIC


@dataclass(frozen=True)
class ExplainConfig:
    """One evaluation of maps, every setting resolved.

    Attributes:
        run: models, data, device, seed and results folder, as in an evaluation of attacks.
        maps: kinds of maps.
        groups: groups of metrics, keys of ``GROUPS``.
        block, number: attention module and pass (``units.choose_block``).
        target: class that class-specific maps explain: the predicted one or the label.
        layer: module whose output Grad-CAM weighs; empty for the attention module.
        under: changes for stability.
        costly_n: samples of the groups that run the model again and again, from the start.
        steps: points of insertion and deletion curves.
        boxes: folder of CLS-LOC annotations; None for data sets with masks of their own.
    """

    run: RunConfig
    maps: tuple[str, ...] = ("rate",)
    groups: tuple[str, ...] = CHEAP
    block: str = "last"
    number: int | None = None
    target: Literal["predicted", "label"] = "predicted"
    layer: str = ""
    under: tuple[Change, ...] = field(default_factory=tuple)
    costly_n: int = 100
    steps: int = 16
    boxes: str | None = None


def parse_groups(text: str) -> tuple[str, ...]:
    """Groups of metrics from a list with commas; ``all`` stands for every group.

    Raises:
        UsageError: an unknown group.
    """
    names: list[str] = []
    for word in filter(None, (part.strip().replace("-", "_") for part in text.split(","))):
        if word != "all" and word not in GROUPS:
            raise UsageError(f"unknown metric group '{word}': {did_you_mean(word, list(GROUPS))}")
        names += list(GROUPS) if word == "all" else [word]
    return tuple(dict.fromkeys(names)) or CHEAP


def parse_change(text: str) -> Change:
    """A corruption ``NAME:SEVERITY`` or an attack ``NAME`` or ``NAME:KEY=VALUE,...``.

    Raises:
        UsageError: neither, or options it does not take.
    """
    name, _, rest = text.strip().partition(":")
    if name in CORRUPTIONS:
        if not rest.isdigit():
            raise UsageError(f"--under '{text}' lacks a severity: write {name}:3, for example.")
        check_cell(name, int(rest), "cifar")
        return Change(f"{name}:{int(rest)}", name, int(rest))
    pairs = [part.partition("=") for part in rest.split(",") if part]
    try:
        spec = make_spec(name, {key.strip(): value.strip() for key, _, value in pairs})
    except UsageError as error:
        if name in str(error) and "unknown" not in str(error):
            raise
        raise UsageError(f"--under '{text}' is no corruption (NAME:SEVERITY) and {error}") from None
    return Change(spec.label(), attack=spec)
