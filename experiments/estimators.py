"""One attack through every way to differentiate spikes: which one fools most samples?

python experiments/estimators.py [--n N]                    evaluate, then write the table
python experiments/estimators.py --render results           write the table, without torch
"""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation import PRESETS, command, tables_beside

from robustbench_snn.report.estimators import load, report, write

PRESET = PRESETS / "estimators_small.toml"
COMMAND = "python experiments/estimators.py"


def render(results: Path, dataset: str, folder: Path) -> list[Path]:
    """Print the table and write it as Markdown and CSV."""
    tables = load(results, PRESET, dataset)
    print(report(tables, PRESET, COMMAND))
    return write(tables, PRESET, tables_beside(folder), f"estimators-{dataset}", COMMAND)


if __name__ == "__main__":
    sys.exit(command("Accuracy under one attack, by estimator.", PRESET, render))
