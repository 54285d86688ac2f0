"""Plain PGD against the per-sample worst case: the table of a suite and accuracy over ε.

python experiments/epsilon_curve.py [--model M] [--n N]      run a suite, then write all
python experiments/epsilon_curve.py --render results         write all, without torch

``--suite experiments/presets/reliable_small.toml`` takes a third of the time. A suite without a
curve gives the tables alone.

With ``--publish`` tables go to experiments/results, and the suite's rows with every sample's
outcome beside them, as a results folder that this script and ``robustbench_snn.compare`` read.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import add_places, place_of, tables_beside

from robustbench_snn.compare import Side, outcomes, table
from robustbench_snn.errors import UsageError
from robustbench_snn.store import shard_path, write_shard
from robustbench_snn.suites import figure, tables
from robustbench_snn.suites.layouts import SUITES
from robustbench_snn.suites.spec import read_suite
from robustbench_snn.suites.stored import suite_rows


def keep_rows(rows: Sequence[Mapping[str, Any]], results: Path, folder: Path) -> Path:
    """Copy the stored rows, and nothing else, to the results folder ``folder``.

    Without the folders of this machine that their settings and command name.
    """
    import pyarrow.parquet as pq

    stored = [pq.read_table(shard_path(results, row, SUITES)).to_pylist()[0] for row in rows]
    for old in folder.rglob("*.parquet"):
        old.unlink()
    for row in stored:
        write_shard(folder, row["key"], without_places(row), SUITES)
    return folder


def without_places(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without the results and data folders in its ``settings`` and ``command``."""
    lines = [
        line
        for line in row["settings"].splitlines(keepends=True)
        if not line.startswith(("out = ", "data_dir = "))
    ]
    command = re.sub(r"(--(?:out|data-dir)[ =])\S+", r"\1DIR", row["command"] or "")
    return {**row, "settings": "".join(lines), "command": command}


def write_pairs(folder: Path, dataset: str, path: Path) -> Path:
    """Paired tests between the models of the results folder ``folder``, as Markdown."""
    found = outcomes(folder, dataset)
    sides = [Side(name, right, dataset=dataset) for name, right in found.items()]
    tables = [table(a, b) for a, b in itertools.combinations(sides, 2)]
    path.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    return path


def main(argv: list[str] | None = None) -> int:
    """Run the suite unless told to render only; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--suite", default="reliable", help="suite to run and draw (reliable)")
    parser.add_argument("--dataset", default="digit-scenes", help="data set to evaluate on")
    parser.add_argument("--out", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--render", type=Path, metavar="RESULTS", help="only draw this folder")
    add_places(parser)
    options, rest = parser.parse_known_args(argv)
    try:
        place, code = place_of(options, options.out), 0
        if options.render is None:
            from robustbench_snn.run import main as run

            words = ["--suite", options.suite, "--dataset", options.dataset]
            code = run([*words, "--out", str(options.out), *rest])
            if code not in (0, 3):
                return code
        elif rest:
            parser.error(f"--render evaluates nothing, so it takes no {rest[0]}")
        name, results = read_suite(options.suite).name, options.render or options.out
        rows = [row for row in suite_rows(results, name) if row["dataset"] == options.dataset]
        drawn = [row for row in rows if row["n_curve"]]
        if not rows:
            raise UsageError(f"'{results}' holds no suite '{name}' on '{options.dataset}'.")
        folder, stem = tables_beside(place), f"{name}-{options.dataset}"
        made_by = f"python experiments/epsilon_curve.py --suite {options.suite}"
        written = tables.write(rows, folder, stem, made_by)
        # A results folder must not hold a row twice.
        inside = folder.resolve() == Path(results).resolve()
        kept = results if inside else keep_rows(rows, results, folder / stem)
        written += [] if inside else [kept]
        if len(rows) > 1:
            written += [write_pairs(kept, options.dataset, folder / f"{stem}_paired.md")]
        if drawn:
            written += figure.write(drawn, place, f"epsilon_curve_{options.dataset}")
        for path in written:
            print(f"wrote {path}")
        return code
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
