"""What every figure of maps does before it draws: compute maps, or read what was computed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from evaluation import add_places, place_of

from robustbench_snn.errors import UsageError
from robustbench_snn.explain.options import DEFAULT_RESULTS
from robustbench_snn.explain.sheets import paper_order
from robustbench_snn.explain.stored import Measured, load, select


class Drawable(Protocol):
    """What can be written to files of one name: a sheet of maps, or curves."""

    def write(self, stem: Path) -> list[Path]:
        """Write ``stem``.png, .pdf, .csv and .json; returns the paths."""


Draw = Callable[[list[Measured], Path | None], Drawable]


def maps_of(found: Sequence[Measured], kind: str, measure: str = "maps") -> list[Measured]:
    """One kind of map of every model (and change), in the paper's order of models.

    Raises:
        UsageError: there is none, or several versions of one.
    """
    fitting = [one for one in found if (one.kind, one.measure) == (kind, measure)]
    if not fitting:
        raise UsageError(f"the results hold no map '{kind}' ({measure}): compute it first.")
    named = dict.fromkeys((one.model, one.change) for one in fitting)
    return paper_order([select(fitting, model, kind, measure, change) for model, change in named])


def command(
    description: str, name: str, words: Sequence[str], draw: Draw, dataset: str = "digit-scenes"
) -> int:
    """Compute maps with ``words`` for ``robustbench_snn.explain`` and draw, or only draw.

    Args:
        description: of the script, for its help.
        name: of the files written.
        words: options of the computation; the command line's own come on top.
        draw: (what is stored, data folder) to what is drawn.
        dataset: explained unless another is named.

    Returns:
        Exit code: that of the computation, 2 for a usage error.
    """
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        epilog="All other options (--model, --n, …) go to `python -m robustbench_snn.explain`.",
    )
    parser.add_argument("--dataset", default=dataset, help="data set to explain")
    parser.add_argument("--data-dir", help="folder with the data set's files")
    parser.add_argument("--results", default=DEFAULT_RESULTS, help="folder of stored maps")
    parser.add_argument("--render", metavar="RESULTS", help="only draw what this folder holds")
    add_places(parser)
    options, rest = parser.parse_known_args()
    try:
        folder, code = place_of(options, options.results), 0
        if options.render is None:
            from robustbench_snn.explain.command import main as explain

            given = ["--dataset", options.dataset, "--results", options.results, "--metrics"]
            given += ["--data-dir", options.data_dir] if options.data_dir else []
            code = explain([*given, *words, *rest])
            if code not in (0, 3):
                return code
        found = [one for one in load(options.render or options.results)
                 if one.facts["dataset"] == options.dataset]  # fmt: skip
        drawn = draw(found, Path(options.data_dir) if options.data_dir else None)
        for path in drawn.write(folder / name):
            print(f"wrote {path}")
        return code
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
