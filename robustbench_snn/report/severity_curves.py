"""Accuracy against severity: one panel for the 15 corruptions, one for each group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustbench_snn.report.corruption_table import PANELS, CorruptionTable
from robustbench_snn.report.tables import to_csv

COLUMNS = ["panel", "model", "severity", "n", "accuracy", "low", "high"]
_MARKERS = "osD^vP"


def points(table: CorruptionTable) -> list[dict[str, Any]]:
    """One record per marker, fractions; severity 0 is the clean images."""
    found = []
    for panel, names in PANELS.items():
        for model in table.models:
            for severity in (0, *table.severities()):
                share = model.share(names, severity)
                if share is not None:
                    values = (share.n, share.value, *share.interval)
                    place = (panel, model.cells.model, severity)
                    found.append(dict(zip(COLUMNS, (*place, *values), strict=True)))
    return found


def write_curves(table: CorruptionTable, folder: Path, name: str) -> list[Path]:
    """Write pdf, png, the plotted csv and the json naming the results; returns the paths.

    Equal results give equal files: no dates are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = points(table)
    (folder / f"{name}.csv").write_text(to_csv(shown, COLUMNS), encoding="utf-8")
    (folder / f"{name}.json").write_text(table.provenance(), encoding="utf-8")
    _draw(shown, _title(table), folder / name)
    return [folder / (name + suffix) for suffix in (".pdf", ".png", ".csv", ".json")]


def _title(table: CorruptionTable) -> str:
    counts = sorted({n for model in table.models for n in model.cells.n.values()})
    sources = sorted({s for model in table.models for s in model.cells.source.values()})
    return (
        f"{table.dataset}, corrupted images {' and '.join(sources)}, n = "
        f"{' or '.join(map(str, counts))}; bands: 95 % Wilson intervals that count every image once"
    )


def _draw(shown: list[dict[str, Any]], title: str, stem: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn

    models = list(dict.fromkeys(point["model"] for point in shown))
    palette = dict(zip(models, seaborn.color_palette("colorblind", len(models)), strict=True))
    with seaborn.axes_style("whitegrid"), matplotlib.rc_context({"pdf.fonttype": 42}):
        size = {"figsize": (10, 5.6), "sharex": True, "sharey": True, "layout": "constrained"}
        figure, axes = plt.subplots(2, 3, **size)
        for axis, panel in zip(axes.flat, PANELS, strict=True):
            for i, model in enumerate(models):
                mine = [p for p in shown if (p["panel"], p["model"]) == (panel, model)]
                x = [p["severity"] for p in mine]
                low, high, y = ([100 * p[k] for p in mine] for k in ("low", "high", "accuracy"))
                axis.fill_between(x, low, high, color=palette[model], alpha=0.2, linewidth=0)
                marker = _MARKERS[i % len(_MARKERS)]
                axis.plot(x, y, color=palette[model], marker=marker, markersize=4, label=model)
            axis.set_title(panel, fontsize=9)
        for axis in axes[-1]:
            axis.set_xlabel("severity (0 = clean)")
        for axis in axes[:, 0]:
            axis.set_ylabel("accuracy, %")
        axes[0, 0].set_ylim(-2, 102)
        axes[0, 0].legend(frameon=True, fontsize=7)
        figure.suptitle(title, fontsize=9)
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(stem.with_suffix(".png"), dpi=200, metadata={"Software": None})
        plt.close(figure)
