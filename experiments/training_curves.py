"""Training curves of the shipped models: accuracy after each epoch, from the logs beside the cards.

python experiments/training_curves.py [--dataset D] [--render FOLDER] [--figures DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import robustbench_snn
from robustbench_snn.errors import UsageError
from robustbench_snn.report.training_curves import TrainingCurves

CHECKPOINTS = Path(robustbench_snn.__file__).parent / "checkpoints"
FIGURES = Path(__file__).parent.parent / "figures"


def main(argv: list[str] | None = None) -> int:
    """Draw; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="digit-scenes", help="data set of the models")
    parser.add_argument(
        "--render",
        type=Path,
        metavar="FOLDER",
        default=CHECKPOINTS,
        help="cards and logs of trainings (those of the shipped models)",
    )
    parser.add_argument("--figures", type=Path, default=FIGURES, help="where the files go")
    options = parser.parse_args(argv)
    try:
        curves = TrainingCurves.load(options.render, options.dataset)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in curves.write(options.figures):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
