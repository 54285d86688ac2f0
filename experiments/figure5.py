"""Figure 5 of the SpiLiFormer paper: originals and heatmaps of all models, without annotation.

Cells are drawn as computed, without interpolation; the images are a seeded random draw.

python experiments/figure5.py [--dataset D] [--n N]    compute maps, then draw
python experiments/figure5.py --render explanations    draw what is stored, without torch
"""

from __future__ import annotations

import sys
from pathlib import Path

from explanation import command, maps_of

from robustbench_snn.explain.choose import choose
from robustbench_snn.explain.sheet import Look, Sheet
from robustbench_snn.explain.sheets import stored_sheet
from robustbench_snn.explain.stored import Measured


def draw(found: list[Measured], data_dir: Path | None) -> Sheet:
    """Eight random images, each map on its own scale."""
    maps = maps_of(found, "rate")
    look = Look("rate", upsampling="nearest", outline=False, numbers=False)
    return stored_sheet(maps, choose(maps, 8, "random"), look, data_dir)


if __name__ == "__main__":
    sys.exit(command("Figure 5: heatmaps of all models.", "figure5", [], draw))
