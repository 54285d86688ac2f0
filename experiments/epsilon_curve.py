"""Accuracy against ε: plain PGD and the per-sample worst case, with bands and ε50.

python experiments/epsilon_curve.py [--model M] [--n N]      run a suite, then draw
python experiments/epsilon_curve.py --render results         draw, without torch
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evaluation import FIGURES, PRESETS

from robustbench_snn.errors import UsageError
from robustbench_snn.suites.figure import write
from robustbench_snn.suites.stored import suite_rows


def main(argv: list[str] | None = None) -> int:
    """Run the suite unless told to render only; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    preset = str(PRESETS / "reliable_small.toml")
    parser.add_argument("--suite", default=preset, help="suite to run and draw")
    parser.add_argument("--dataset", default="digit-scenes", help="data set to evaluate on")
    parser.add_argument("--out", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--render", type=Path, metavar="RESULTS", help="only draw this folder")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="where the files go")
    options, rest = parser.parse_known_args(argv)
    try:
        if options.render is None:
            from robustbench_snn.run import main as run

            words = ["--suite", options.suite, "--dataset", options.dataset]
            code = run([*words, "--out", str(options.out), *rest])
            if code not in (0, 3):
                return code
        name = "reliable" if options.suite == preset else Path(options.suite).stem
        rows = [
            row
            for row in suite_rows(options.render or options.out, name)
            if row["dataset"] == options.dataset and row["n_curve"]
        ]
        if not rows:
            raise UsageError(f"no finished suite '{name}' on '{options.dataset}' has a curve.")
        for path in write(rows, options.figures, f"epsilon_curve_{options.dataset}"):
            print(f"wrote {path}")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
