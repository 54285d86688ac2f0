"""Table 4 of the SpiLiFormer paper: clean accuracy, FGSM at four eps, PGD at four step counts.

python experiments/table4.py [--dataset D] [--n N]      evaluate, then write the table
python experiments/table4.py --render results           write the table, without torch
"""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation import PRESETS, command, keep_rows, tables_beside

from robustbench_snn.report.table4 import Table4

PRESET = PRESETS / "table4.toml"
REPORTED = PRESETS / "table4_reported.toml"


def render(results: Path, dataset: str, folder: Path) -> list[Path]:
    """Print the table and write it as Markdown, LaTeX and CSV."""
    table = Table4.load(results, PRESET, REPORTED, dataset)
    print(table.markdown())
    stem = f"table4-{dataset}"
    return table.write(tables_beside(folder), stem) + keep_rows(results, table, folder, stem)


if __name__ == "__main__":
    sys.exit(command("Table 4: clean, FGSM and PGD accuracy.", PRESET, render))
