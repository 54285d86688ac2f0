"""Figures of suites: accuracy against eps with bands, plain and worst case; no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustbench_snn.data.catalogue import repeated
from robustbench_snn.report.tables import to_csv, to_json
from robustbench_snn.suites.curves import eps50, resolved_from
from robustbench_snn.suites.tables import WORST, provenance

CSV_COLUMNS = ("model", "curve", "eps", "accuracy", "low", "high", "correct", "n", "eps50")


def points(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every marker of the figure: fractions in [0, 1], distances in pixel units.

    ``eps50`` is None where half of clean accuracy is reached beyond the last eps, or below the
    first, which ``below`` then names.

    Args:
        rows: summary rows of one suite on one data set.
    """
    found = []
    for row in rows:
        curve_points = json.loads(row["curves"])
        names = dict.fromkeys(point["curve"] for point in curve_points)
        for name in names:
            mine = sorted(
                (point for point in curve_points if point["curve"] == name), key=lambda p: p["eps"]
            )
            half, least = eps50(mine), resolved_from(mine)
            for point in mine:
                found.append(
                    {
                        "model": row["model"],
                        **point,
                        "accuracy": point["correct"] / point["n"],
                        "eps50": None if math.isinf(half) or half < least else half,
                        "below": least if half < least else None,
                    }
                )
    return found


def write(rows: Sequence[Mapping[str, Any]], folder: Path, name: str) -> list[Path]:
    """Write pdf, png, the plotted csv and the json naming the results; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    markers = points(rows)
    (folder / f"{name}.csv").write_text(to_csv(markers, CSV_COLUMNS), encoding="utf-8")
    (folder / f"{name}.json").write_text(to_json(provenance(rows)), encoding="utf-8")
    draw(markers, title(rows), folder / name)
    return [folder / (name + suffix) for suffix in (".pdf", ".png", ".csv", ".json")]


def title(rows: Sequence[Mapping[str, Any]]) -> str:
    """Two lines above the panels."""
    n = sorted({int(row["n_curve"]) for row in rows})
    count = str(n[0]) if len(n) == 1 else f"{n[0]} to {n[-1]}"
    told = repeated(rows[0]["dataset"], rows[0]["sample_ids"][: n[-1]])
    return (
        f"{rows[0]['dataset']}, n = {count}, bands: 95 % Wilson intervals{told}, black: ε50\n"
        f"worst case: suite {rows[0]['suite']}, per sample over estimators and attacks"
    )


def draw(markers: Sequence[Mapping[str, Any]], text: str, stem: Path) -> None:
    """One panel for each model: its plain curves dashed, its worst case solid.

    Equal markers give equal files: no dates are written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn

    models = list(dict.fromkeys(marker["model"] for marker in markers))
    colours = seaborn.color_palette("colorblind", len(models))
    with seaborn.axes_style("whitegrid"), matplotlib.rc_context({"pdf.fonttype": 42}):
        figure, axes = plt.subplots(
            1, len(models), figsize=(3.4 * len(models), 3.6), sharey=True, layout="constrained"
        )
        for axis, model, colour in zip(
            axes if len(models) > 1 else [axes], models, colours, strict=True
        ):
            mine = [marker for marker in markers if marker["model"] == model]
            for name in dict.fromkeys(marker["curve"] for marker in mine):
                _curve(axis, [m for m in mine if m["curve"] == name], name, colour)
            axis.set_title(model.rpartition(".")[0] or model, fontsize=9)
            axis.set_xlabel("ε, levels of 255")
            axis.set_ylim(-2, 102)
            axis.legend(frameon=True, fontsize=8)
        first = axes[0] if len(models) > 1 else axes
        first.set_ylabel("accuracy, %")
        figure.suptitle(text, fontsize=9)
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(stem.with_suffix(".png"), dpi=200, metadata={"Software": None})
        plt.close(figure)


def _curve(axis: Any, markers: Sequence[Mapping[str, Any]], name: str, colour: Any) -> None:
    worst = name == WORST
    label = name if worst else f"{name.upper()}, training surrogate"
    if markers[0]["below"] is not None:
        label += f", ε50 < {255 * markers[0]['below']:g}"
    x = [255 * marker["eps"] for marker in markers]
    y = [100 * marker["accuracy"] for marker in markers]
    low, high = ([100 * marker[end] for marker in markers] for end in ("low", "high"))
    axis.fill_between(x, low, high, color=colour, alpha=0.25 if worst else 0.12, linewidth=0)
    axis.plot(
        x,
        y,
        color=colour,
        linestyle="-" if worst else "--",
        marker="o" if worst else "s",
        markersize=4,
        label=label,
    )
    half = markers[0]["eps50"]
    if half is not None:
        x50, y50 = 255 * half, 50 * markers[0]["accuracy"]
        axis.plot([x50], [y50], marker="o", color="black", markersize=4, zorder=3)
        # Worst case lies below plain: labels on either side never meet.
        offset, side = ((-4, -3), "right") if worst else ((5, 3), "left")
        axis.annotate(
            f"{x50:.1f}", (x50, y50), offset, textcoords="offset points", ha=side, fontsize=8
        )
