"""Table 3 of the SpiLiFormer paper: its ablations, clean and under PGD-10, with QKFormer.

python experiments/table3.py --data-dir DIR [--n N]                   evaluate, then write the table
python experiments/table3.py --render results                         write the table, without torch
"""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation import PRESETS, command, keep_rows, tables_beside

from robustbench_snn.report.table3 import Table3

PRESET = PRESETS / "table3.toml"
REPORTED = PRESETS / "table3_reported.toml"


def render(results: Path, dataset: str, folder: Path) -> list[Path]:
    """Print the table and write it as Markdown, LaTeX and CSV."""
    table = Table3.load(results, PRESET, REPORTED, dataset)
    print(table.markdown())
    stem = f"table3-{dataset}"
    return table.write(tables_beside(folder), stem) + keep_rows(results, table, folder, stem)


if __name__ == "__main__":
    about = "Table 3: SpiLiFormer without parts of its lateral inhibition."
    sys.exit(command(about, PRESET, render, dataset="cifar10"))
