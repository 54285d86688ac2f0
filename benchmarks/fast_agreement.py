"""How often a level of --fast changes an outcome of Table 4, on whole runs of the shipped models.

    python benchmarks/fast_agreement.py [--level early-stop] [--n 1000] [--out results/fast]

Runs Table 4's attacks exactly and at the level through `robustbench_snn.run`, into one folder, and
compares sample by sample: right or wrong under each attack. Results stored there already are used,
so the same command resumes. FGSM is left out at early-stop, which does not touch it.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import arguments
import pandas as pd

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.config import FAST
from robustbench_snn.metrics import wilson
from robustbench_snn.report.summary import describe
from robustbench_snn.report.tables import format_accuracy, to_markdown
from robustbench_snn.run import main as run
from robustbench_snn.store import SAMPLES, Results

PRESET = Path(__file__).parent.parent / "experiments" / "presets" / "table4.toml"
COLUMNS = ("model", "attack", "n", "exact %", "fast %", "same outcome % [95 % CI]", "gradients")


def outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per sample: model, attack, attack_params, sample_ids, right."""
    rows = frame.explode(list(SAMPLES), ignore_index=True)
    rows["right"] = rows["pred_adv"] == rows["labels"]
    return rows[["model", "attack", "attack_params", "sample_ids", "right"]]


def show(frame: pd.DataFrame, level: str) -> None:
    """Print one line per model and attack that the level may change, and the whole agreement."""
    fast = frame[frame["precision"] == FAST[level]]
    exact = frame[frame["precision"].fillna(FAST["none"]) == FAST["none"]]
    keys = ["model", "attack", "attack_params", "sample_ids"]
    pairs = outcomes(exact).merge(outcomes(fast), on=keys, suffixes=("_exact", "_fast"))
    lines, same, asked = [], 0, 0
    for (model, attack, params), found in pairs.groupby(keys[:3], sort=True):
        agree = int((found["right_exact"] == found["right_fast"]).sum())
        same, asked = same + agree, asked + len(found)
        mine = [
            side[(side["model"] == model) & (side["attack_params"] == params)]["gradients"].sum()
            for side in (exact, fast)
        ]
        values = (
            model,
            describe(AttackSpec(attack, json.loads(params))),
            str(len(found)),
            f"{100 * found['right_exact'].mean():.1f}",
            f"{100 * found['right_fast'].mean():.1f}",
            format_accuracy(agree, len(found)),
            f"{mine[0] / mine[1]:.1f} times fewer",
        )
        lines.append(dict(zip(COLUMNS, values, strict=True)))
    low, high = wilson(same, asked)
    print(to_markdown(lines, COLUMNS))
    print(f"\nagreement={same / asked:.4f} [{low:.4f}, {high:.4f}] of {asked} outcomes")


def main() -> int:
    """Run both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    levels = [name for name in FAST if name != "none"]
    parser.add_argument("--level", choices=levels, default="early-stop", help="(early-stop)")
    parser.add_argument(
        "--n", type=arguments.count, default=1000, help="images of each model (1000)"
    )
    parser.add_argument("--out", default="results/fast", help="results folder (results/fast)")
    given = parser.parse_args()
    for fast in ("none", given.level):
        words = ["--preset", str(PRESET), "--out", given.out, "--n", str(given.n), "--quiet"]
        with redirect_stdout(sys.stderr):
            code = run([*words, "--fast", fast])
        if code:
            return code
    show(Results.load(given.out).frame(), given.level)
    return 0


if __name__ == "__main__":
    sys.exit(main())
