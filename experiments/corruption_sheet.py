"""What Figures 6 and 7 share: one image under all 19 corruptions, one row each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from explanation import maps_of

from robustbench_snn.corruptions import CORRUPTIONS
from robustbench_snn.explain.choose import choose
from robustbench_snn.explain.sheet import Look, Sheet
from robustbench_snn.explain.sheets import changed_sheet
from robustbench_snn.explain.stored import Measured

SEVERITY = 3
CHANGES = [f"{name}:{SEVERITY}" for name in CORRUPTIONS]
DEMONSTRATION = "Layout demonstration, not a result: no weights were trained for these models."


def words(n: int) -> list[str]:
    """Options of the computation on the first ``n`` images."""
    under = [word for change in CHANGES for word in ("--under", change)]
    return ["--map", "rate", "--metrics", "stability", "--n", str(n), *under]


def draw(found: list[Measured], data_dir: Path | None) -> Sheet:
    """One random image, the corrupted image first, then the map of every model."""
    maps = maps_of(found, "rate", "stability")
    groups = [[one for one in maps if one.change == change] for change in CHANGES]
    groups = [group for group in groups if group]
    look = Look("rate", scale="per_map", first="corrupted image")
    sheet = changed_sheet(groups, choose(groups[0], 1, "random"), look, data_dir)
    about = f"{sheet.caption} Severity {SEVERITY} of every corruption."
    if any("untrained" in one.flags for one in maps):
        about = f"{DEMONSTRATION} {about}"
    return replace(sheet, caption=about)
