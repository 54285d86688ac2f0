"""Figure 3 of the SpiLiFormer paper: accuracy against eps (FGSM) and against steps (PGD).

python experiments/figure3.py [--dataset D] [--n N]     evaluate what Table 4 needs, then draw
python experiments/figure3.py --render results          draw, without torch
"""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation import PRESETS, command

from robustbench_snn.report.curves import Curves
from robustbench_snn.report.table4 import Table4

PRESET = PRESETS / "table4.toml"
REPORTED = PRESETS / "table4_reported.toml"


def render(results: Path, dataset: str, folder: Path) -> list[Path]:
    """Write the figure as pdf and png with its data (csv) and the results behind it (json)."""
    table = Table4.load(results, PRESET, REPORTED, dataset)
    return Curves(table).write(folder, f"figure3-{dataset}")


if __name__ == "__main__":
    sys.exit(command("Figure 3: accuracy under FGSM and PGD.", PRESET, render))
