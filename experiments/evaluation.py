"""What every experiment script does before it draws: evaluate, or read what was evaluated."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from robustbench_snn.errors import UsageError
from robustbench_snn.report.outcomes import keys_of
from robustbench_snn.report.table4 import Table4
from robustbench_snn.store import Results

PRESETS = Path(__file__).parent / "presets"
FIGURES = Path(__file__).parent.parent / "figures"
TABLES = Path(__file__).parent / "results"


def add_places(parser: argparse.ArgumentParser) -> None:
    """The options that say where files go."""
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="where files go (the results folder)"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="replace the project's own tables and figures (experiments/results, figures)",
    )


def place_of(options: argparse.Namespace, results: str | Path) -> Path:
    """Where files go: into ``results`` unless told otherwise; the project's own only if asked.

    Raises:
        UsageError: the project's own folders are named without ``--publish``, or with another.
    """
    if options.publish and options.figures:
        raise UsageError("--publish and --figures name two places: give one of them.")
    if options.publish:
        return FIGURES
    folder = Path(options.figures or results)
    if folder.resolve() in (FIGURES.resolve(), TABLES.resolve()):
        raise UsageError(f"'{folder}' holds the project's own files: --publish replaces them.")
    return folder


def tables_beside(folder: Path) -> Path:
    """Where tables go when figures go to ``folder``: in the project's own, experiments/results/."""
    return TABLES if folder == FIGURES else folder


def keep_rows(results: Path, table: Table4, folder: Path, stem: str) -> list[Path]:
    """The rows behind a table of the project's own, in one file of a results folder beside it."""
    if folder != FIGURES:
        return []
    stored = Results.load(results)
    keys = keys_of(stored, list(table.columns.values()), table.dataset)
    return [stored.write(TABLES / stem / "rows.parquet", keys)]


def command(
    description: str,
    presets: Path | Sequence[Path],
    render: Callable[[Path, str, Path], list[Path]],
    argv: list[str] | None = None,
    dataset: str = "digit-scenes",
) -> int:
    """Run ``presets`` through ``robustbench_snn.run`` and render, or with ``--render`` only render.

    Args:
        description: of the script, for its help.
        presets: one or several, run in turn; command-line options come on top.
        render: (results folder, data set, output folder) to the files written.
        argv: command line; None takes the process's own.
        dataset: the default of ``--dataset``.

    Returns:
        Exit code: that of the run, 2 for a usage error.
    """
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        epilog="All other options (--model, --n, --data-dir, --device, …) go to "
        "`python -m robustbench_snn.run`.",
    )
    parser.add_argument("--dataset", default=dataset, help="data set to evaluate on")
    parser.add_argument("--out", type=Path, default=Path("results"), help="results folder")
    parser.add_argument(
        "--render", type=Path, metavar="RESULTS", help="only draw what this results folder holds"
    )
    add_places(parser)
    options, rest = parser.parse_known_args(argv)
    try:
        folder, code = place_of(options, options.out), 0
        if options.render is None:
            from robustbench_snn.run import main as run

            for preset in [presets] if isinstance(presets, Path) else presets:
                given = ["--preset", str(preset), "--dataset", options.dataset]
                done = run([*given, "--out", str(options.out), *rest])
                if done not in (0, 3):
                    return done
                code = max(code, done)
        elif rest:
            parser.error(f"--render evaluates nothing, so it takes no {rest[0]}")
        results = options.render or options.out
        for path in render(results, options.dataset, folder):
            print(f"wrote {path}")
        return code
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
