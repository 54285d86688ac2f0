"""Does attention stay on the object? Background mass and stability of maps against severity.

python experiments/attention_severity.py --n N --costly-n N       compute maps, then draw
python experiments/attention_severity.py --render explanations    draw what is stored
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from explanation import command, maps_of

from robustbench_snn.explain.severity import MapCurves
from robustbench_snn.explain.stored import Measured

# One corruption of each group, none of which moves the object.
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")
CHANGES = [f"{name}:{severity}" for name in CORRUPTIONS for severity in range(1, 6)]
WORDS = ["--map", "rate", "--metrics", "location,stability"]
WORDS += [word for change in CHANGES for word in ("--under", change)]


def draw(found: Sequence[Measured], data_dir: Path | None) -> MapCurves:
    """The curves of all models; the images themselves are not needed."""
    clean, changed = maps_of(found, "rate"), maps_of(found, "rate", "stability")
    shown = sorted((one for one in changed if one.change in CHANGES), key=order)
    return MapCurves("rate", clean, shown)


def order(one: Measured) -> int:
    """Place of a changed map among ``CHANGES``."""
    return CHANGES.index(one.change)


if __name__ == "__main__":
    about = "Background mass and stability of attention maps against severity."
    sys.exit(command(about, "attention-severity", WORDS, draw))
