"""Figure 2 of the SpiLiFormer paper: corrupted images, predictions with confidence, heatmaps.

python experiments/figure2.py [--dataset D] [--n N]    compute maps, then draw
python experiments/figure2.py --render explanations    draw what is stored, without torch
"""

from __future__ import annotations

import sys
from pathlib import Path

from explanation import command, maps_of

from robustbench_snn.explain.choose import choose
from robustbench_snn.explain.sheet import Look, Sheet
from robustbench_snn.explain.sheets import changed_sheet
from robustbench_snn.explain.stored import Measured

CORRUPTIONS = ("gaussian_noise:3", "defocus_blur:3", "fog:3", "jpeg_compression:3")
WORDS = ["--metrics", "stability", *[w for name in CORRUPTIONS for w in ("--under", name)]]


def draw(found: list[Measured], data_dir: Path | None) -> Sheet:
    """Two random images, each under every corruption (one of each group), one row each."""
    maps = maps_of(found, "rate", "stability")
    groups = [[one for one in maps if one.change == name] for name in CORRUPTIONS]
    groups = [group for group in groups if group]
    look = Look("rate", scale="per_map", first="corrupted image")
    return changed_sheet(groups, choose(groups[0], 2, "random"), look, data_dir)


if __name__ == "__main__":
    sys.exit(command("Figure 2: corrupted images and predictions.", "figure2", WORDS, draw))
