"""One attack with all its numbers: what a results row says was run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Scalar = float | int | bool | str

_PIXEL_PARAMS = frozenset({"eps", "step_size", "alpha"})


@dataclass(frozen=True)
class AttackSpec:
    """A resolved attack: every parameter present, defaults filled in.

    Attributes:
        name: registered name (``pgd``) or ``torchattacks:CLASS``.
        params: parameter name to value; distances in pixel units, images being in [0, 1].
    """

    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.json())

    def json(self) -> str:
        """Canonical JSON of name and parameters (sorted keys, no spaces): equal specs, equal text.

        Raises:
            ValueError: a parameter is NaN or infinite, which JSON cannot hold.
        """
        content = {"name": self.name, "params": dict(self.params)}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def label(self) -> str:
        """One line for a person, for example ``pgd eps=8/255 step_size=2/255 steps=10``."""
        parts = [f"{key}={format_param(key, value)}" for key, value in self.params.items()]
        return " ".join([self.name, *parts])


def format_param(key: str, value: Scalar) -> str:
    """``value`` as a person writes it: pixel distances as k/255 when they are whole levels."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if key in _PIXEL_PARAMS and isinstance(value, float):
        return format_distance(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_distance(value: float) -> str:
    """A distance in pixel units as ``k/255`` if that is exact, else as a short decimal."""
    levels = round(value * 255)
    if 0 < levels < 255 and value == levels / 255 and f"{value:g}" != repr(value):
        return f"{levels}/255"
    return f"{value:g}"
