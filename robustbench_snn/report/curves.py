"""Figure 3 of the SpiLiFormer paper: accuracy against ε of FGSM and against steps of PGD.

Needs the results store only, no torch; matplotlib and seaborn are imported when drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.config import CLEAN
from robustbench_snn.report.columns import attack_sentences
from robustbench_snn.report.outcomes import Outcomes
from robustbench_snn.report.table4 import Table4
from robustbench_snn.report.tables import to_csv, to_json

CSV_COLUMNS = ["panel", "kind", "family", "model", "x", "accuracy", "low", "high", "n"]
_AXES = {
    "fgsm": ("eps", "FGSM: ε, pixel units of images in [0, 1] (0 = clean)"),
    "pgd": ("steps", "PGD: steps (0 = clean)"),
}
_MARKERS = "osD^vP"


@dataclass(frozen=True)
class Curves:
    """The points of both panels, taken from the results behind Table 4."""

    table: Table4

    def points(self) -> list[dict[str, Any]]:
        """One record per marker, fractions in [0, 1]; kinds ``measured`` and ``reported``.

        Reported points are those the paper prints on the same data set.
        """
        found = []
        for panel in _AXES:
            specs = {
                head: spec
                for head, spec in self.table.columns.items()
                if spec == CLEAN or spec.name == panel
            }
            for outcome in self.table.outcomes:
                found += _measured(panel, self.table.label(outcome), outcome, specs)
            if self.table.reported.covers(self.table.dataset):
                for row in self.table.reported.of(self.table.dataset):
                    found += _printed(panel, row, specs)
        return found

    def provenance(self) -> dict[str, Any]:
        """Which results the figure shows: those of its table."""
        return self.table.provenance()

    def write(self, folder: Path, name: str = "figure3") -> list[Path]:
        """Write pdf, png, the plotted csv and the json naming the results; returns the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        points = self.points()
        (folder / f"{name}.csv").write_text(to_csv(points, CSV_COLUMNS), encoding="utf-8")
        sidecar = to_json(self.provenance())
        (folder / f"{name}.json").write_text(sidecar, encoding="utf-8")
        draw(points, self.title(), folder / name)
        return [folder / (name + suffix) for suffix in (".pdf", ".png", ".csv", ".json")]

    def title(self) -> str:
        """One line above the panels."""
        n = sorted({outcome.n for outcome in self.table.outcomes})
        count = str(n[0]) if len(n) == 1 else f"{n[0]} to {n[-1]}"
        settings = attack_sentences([s for s in self.table.columns.values() if s.name == "pgd"])
        bands = f"bands: 95 % Wilson intervals{self.table.allowance()}"
        return f"{self.table.dataset}, n = {count}, {bands}\n{settings}"


def _x(panel: str, spec: AttackSpec) -> float:
    return 0.0 if spec == CLEAN else float(spec.params[_AXES[panel][0]])


def _measured(
    panel: str, label: str, outcome: Outcomes, specs: Mapping[str, AttackSpec]
) -> list[dict[str, Any]]:
    records = []
    for spec in specs.values():
        accuracy = outcome.accuracy(spec)
        if accuracy is not None:
            low, high = accuracy.interval
            values = (outcome.family, label, _x(panel, spec), accuracy.value, low, high, accuracy.n)
            records.append(dict(zip(CSV_COLUMNS, (panel, "measured", *values), strict=True)))
    return records


def _printed(
    panel: str, row: Mapping[str, Any], specs: Mapping[str, AttackSpec]
) -> list[dict[str, Any]]:
    return [
        {
            "panel": panel,
            "kind": "reported",
            "family": row["family"],
            "model": row["model"],
            "x": _x(panel, spec),
            "accuracy": round(float(row[head]) / 100, 6),
        }
        for head, spec in specs.items()
        if head in row
    ]


def draw(points: Sequence[Mapping[str, Any]], title: str, stem: Path) -> None:
    """Draw the points of ``Curves.points`` to ``stem``.pdf and ``stem``.png.

    Equal points give equal files: no dates are written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn

    models = list(dict.fromkeys(point["model"] for point in points))
    palette = seaborn.color_palette("colorblind", len(models))
    colours = _with_family_colours(points, dict(zip(models, palette, strict=True)))
    with seaborn.axes_style("whitegrid"), matplotlib.rc_context({"pdf.fonttype": 42}):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
        for axis, panel in zip(axes, _AXES, strict=True):
            for i, model in enumerate(models):
                mine = [p for p in points if p["panel"] == panel and p["model"] == model]
                _draw_curve(axis, mine, colours[model], _MARKERS[i % len(_MARKERS)])
            axis.set_xticks(sorted({p["x"] for p in points if p["panel"] == panel}))
            axis.set_xlabel(_AXES[panel][1])
        axes[0].set_ylabel("accuracy, %")
        axes[0].set_ylim(-2, 102)
        axes[1].legend(frameon=True, fontsize=8)
        figure.suptitle(title, fontsize=9)
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(stem.with_suffix(".png"), dpi=200, metadata={"Software": None})
        plt.close(figure)


def _with_family_colours(
    points: Sequence[Mapping[str, Any]], colours: Mapping[str, Any]
) -> dict[str, Any]:
    """``colours``, but a reported model takes that of the first measured one of its family."""
    measured: dict[str, Any] = {}
    for point in points:
        if point["kind"] == "measured":
            measured.setdefault(point["family"], colours[point["model"]])
    reported = {p["model"]: p["family"] for p in points if p["kind"] == "reported"}
    taken = {model: measured[name] for model, name in reported.items() if name in measured}
    return {**colours, **taken}


def _draw_curve(axis: Any, points: Sequence[Mapping[str, Any]], colour: Any, marker: str) -> None:
    measured = sorted((p for p in points if p["kind"] == "measured"), key=lambda p: p["x"])
    printed = [p for p in points if p["kind"] == "reported"]
    if measured:
        x = [p["x"] for p in measured]
        low, high = ([100 * p[end] for p in measured] for end in ("low", "high"))
        axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        y = [100 * p["accuracy"] for p in measured]
        axis.plot(x, y, color=colour, marker=marker, markersize=5, label=measured[0]["model"])
    if printed:
        axis.plot(
            [p["x"] for p in printed],
            [100 * p["accuracy"] for p in printed],
            linestyle="none",
            marker="X",
            markersize=8,
            color=colour,
            markeredgecolor="black",
            label=f"{printed[0]['model']}, reported by the paper",
        )
