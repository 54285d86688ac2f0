"""Attacks: named, parameterised, and served in groups that share one computation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_snn.attacks.specs import (
    ATTACKS,
    AttackType,
    Option,
    attack_type,
    budget,
    group,
    make_spec,
)
from robustbench_snn.attacks.strong_specs import parse_choice as _registers  # noqa: F401
from robustbench_snn.attacks.values import parse_eps
from robustbench_snn.registry import import_target

if TYPE_CHECKING:
    from robustbench_snn.attacks.base import Attack

__all__ = [
    "ATTACKS",
    "AttackType",
    "Option",
    "attack_type",
    "budget",
    "build",
    "group",
    "make_spec",
    "parse_eps",
]


def build(name: str, seed: int = 0) -> Attack:
    """The attack called ``name``, ready to run; imports torch.

    Args:
        name: registered name or ``torchattacks:CLASS``.
        seed: seed of all random choices the attack makes.

    Raises:
        UsageError: no such attack.
    """
    impl = attack_type(name).impl
    made: Attack = (import_target(impl) if isinstance(impl, str) else impl)(seed)
    return made
