"""Common corruptions: error of every model on 19 corruptions, and accuracy against severity.

python experiments/corruptions.py [--dataset D] [--n N]     evaluate, then write table and figure
python experiments/corruptions.py --render results          write them, without torch
"""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation import PRESETS, command, tables_beside

from robustbench_snn.report.corruption_table import CorruptionTable
from robustbench_snn.report.severity_curves import write_curves


def render(results: Path, dataset: str, folder: Path) -> list[Path]:
    """Write the severity curves into ``folder`` and the tables beside them."""
    table = CorruptionTable.load(results, dataset)
    return [
        *table.write(tables_beside(folder), f"corruptions-{dataset}"),
        *write_curves(table, folder, f"severity-{dataset}"),
    ]


if __name__ == "__main__":
    presets = [PRESETS / "clean.toml", PRESETS / "corruptions.toml"]
    sys.exit(command("Common corruptions: tables and severity curves.", presets, render))
