"""Figure 4 of the SpiLiFormer paper: heatmaps with the true label and each prediction.

The images are the best, median and worst by mean lift where objects are known (exact masks or
boxes), else drawn at random; lift, confidence and raw range stand below each tile.

python experiments/figure4.py [--dataset D] [--n N]    compute maps, then draw
python experiments/figure4.py --render explanations    draw what is stored, without torch
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
    """Nine images; each map on its own scale, perceptual colours, objects outlined."""
    maps = maps_of(found, "rate")
    rule = "lift" if all("lift" in one.metrics for one in maps) else "random"
    return stored_sheet(maps, choose(maps, 9, rule), Look("rate"), data_dir)


if __name__ == "__main__":
    sys.exit(command("Figure 4: heatmaps, labels, predictions.", "figure4", [], draw))
