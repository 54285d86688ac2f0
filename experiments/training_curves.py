"""Training curves of the shipped models: accuracy after each epoch, from the logs beside the cards.

python experiments/training_curves.py [--dataset D] [--render FOLDER] [--figures DIR | --publish]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evaluation import add_places, place_of

import robustbench_snn
from robustbench_snn.errors import UsageError
from robustbench_snn.report.training_curves import TrainingCurves

CHECKPOINTS = Path(robustbench_snn.__file__).parent / "checkpoints"


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
    add_places(parser)
    options = parser.parse_args(argv)
    try:
        folder = place_of(options, "results")
        curves = TrainingCurves.load(options.render, options.dataset)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in curves.write(folder):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
