"""Figure 1(a) of the SpiLiFormer paper: last-block heatmaps with label and predictions.

The paper shows images where the baselines fail and SpiLiFormer succeeds. Here they are drawn from
all four outcomes of the first and the last model, so that failures of either are seen.

python experiments/figure1a.py [--dataset D] [--n N]    compute maps, then draw
python experiments/figure1a.py --render explanations    draw what is stored, without torch
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
    """Two images from each outcome, each map on its own scale, in the paper's colours."""
    maps = maps_of(found, "rate")
    look = Look("rate", scale="per_map", style="paper", outline=False, first="original")
    return stored_sheet(maps, choose(maps, 8, "outcomes"), look, data_dir)


if __name__ == "__main__":
    sys.exit(command("Figure 1(a): heatmaps with predictions.", "figure1a", [], draw))
