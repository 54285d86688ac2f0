"""From the attacks of a preset to the columns and the caption of a table; no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from robustbench_snn.attack_spec import AttackSpec, format_distance
from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.config import CLEAN
from robustbench_snn.presets import read_preset


def preset_columns(preset: Path) -> dict[str, AttackSpec]:
    """Heading to attack in the order of the preset file, clean accuracy first.

    Raises:
        UsageError: the preset cannot be read, or an attack in it is not as it should be.
    """
    named = [(name, options) for name, options in read_preset(preset).get("attack", [])]
    specs = [make_spec(name, options) for name, options in named if name != CLEAN.name]
    short = Counter(heading(spec) for spec in specs)
    return {"clean": CLEAN} | {
        heading(spec) if short[heading(spec)] == 1 else spec.label(): spec for spec in specs
    }


def heading(spec: AttackSpec) -> str:
    """A short column heading: ``FGSM 0.05``, ``PGD-10``, or the attack's label."""
    if spec.name == "fgsm":
        return f"FGSM {format_distance(float(spec.params['eps']))}"
    if spec.name == "pgd":
        return f"PGD-{spec.params['steps']}"
    return spec.label()


def attack_sentences(specs: Collection[AttackSpec]) -> str:
    """What the columns ran, in sentences for a caption."""
    fgsm = [spec for spec in specs if spec.name == "fgsm"]
    pgd = {
        f"PGD: ε {format_distance(float(spec.params['eps']))}, step "
        f"{format_distance(float(spec.params['step_size']))}, random start "
        f"{'on' if spec.params['random_start'] else 'off'}, the number being its steps."
        for spec in specs
        if spec.name == "pgd"
    }
    return " ".join((["FGSM: the number is ε."] if fgsm else []) + sorted(pgd))
