"""Attention maps against the severity of corruptions: background mass and stability."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_snn.data import sample_groups
from robustbench_snn.explain.intervals import mean_interval
from robustbench_snn.explain.stored import Measured
from robustbench_snn.report.tables import to_csv

COLUMNS = ["corruption", "metric", "model", "severity", "n", "mean", "low", "high"]
# Panel title to the metric of clean maps, if it has one, and that of changed images' maps.
METRICS = {
    "background mass": ("background_mass", "changed:background_mass"),
    "rank correlation with the clean map": (None, "spearman"),
}
_MARKERS = "osD^vP"


@dataclass(frozen=True)
class MapCurves:
    """Curves of every model under every corruption there is.

    Attributes:
        kind: of the maps.
        clean: ``location`` measurements, for severity 0.
        changed: ``stability`` measurements, whose change names corruption and severity.
    """

    kind: str
    clean: Sequence[Measured]
    changed: Sequence[Measured]

    def points(self) -> list[dict[str, Any]]:
        """One record per marker; severity 0 is the clean images."""
        found = []
        for corruption in dict.fromkeys(one.change.partition(":")[0] for one in self.changed):
            for title, (before, after) in METRICS.items():
                for one in self.clean:
                    if before in one.metrics:
                        found.append(_point(corruption, title, one, 0, before))
                for one in self.changed:
                    name, _, severity = one.change.partition(":")
                    if name == corruption and after in one.metrics:
                        found.append(_point(corruption, title, one, int(severity), after))
        return found

    def write(self, stem: Path) -> list[Path]:
        """Write ``stem``.png, .pdf, .csv (the points) and .json (their origin); the paths."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        points = self.points()
        stem.with_suffix(".csv").write_text(to_csv(points, COLUMNS), encoding="utf-8")
        used = [*self.clean, *self.changed]
        origin = {"maps": [one.facts | {"result_keys": list(one.keys)} for one in used]}
        text = json.dumps(origin, indent=2, ensure_ascii=False)
        stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        _draw(points, self._title(), stem)
        return [stem.with_suffix(suffix) for suffix in (".png", ".pdf", ".csv", ".json")]

    def _title(self) -> str:
        facts = self.changed[0].facts
        counts = sorted({len(one.ids) for one in self.changed})
        return (
            f"map '{self.kind}', {facts['dataset']}, n = {' or '.join(map(str, counts))}, "
            "generated corruptions; bands: 95 % intervals over images"
        )


def _point(
    corruption: str, title: str, one: Measured, severity: int, metric: Any
) -> dict[str, Any]:
    groups = sample_groups(str(one.facts["dataset"]), one.ids)
    mean = mean_interval(one.metrics[metric], groups=groups)
    model = one.model + (" (untrained, no result)" if "untrained" in one.flags else "")
    values = (corruption, title, model, severity, mean.n, mean.value, mean.low, mean.high)
    return dict(zip(COLUMNS, values, strict=True))


def _draw(points: Sequence[dict[str, Any]], title: str, stem: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import seaborn

    models = list(dict.fromkeys(point["model"] for point in points))
    names = list(dict.fromkeys(point["corruption"] for point in points))
    palette = seaborn.color_palette("colorblind", len(models))
    with seaborn.axes_style("whitegrid"), matplotlib.rc_context({"pdf.fonttype": 42}):
        size = {"figsize": (2.6 * len(names) + 1, 5.2), "sharex": True, "sharey": "row"}
        figure, axes = plt.subplots(
            len(METRICS), len(names), squeeze=False, layout="constrained", **size
        )
        for row, metric in zip(axes, METRICS, strict=True):
            for axis, name in zip(row, names, strict=True):
                for i, model in enumerate(models):
                    place = (name, metric, model)
                    mine = [
                        p for p in points if (p["corruption"], p["metric"], p["model"]) == place
                    ]
                    mine.sort(key=lambda p: p["severity"])
                    x, y, low, high = (
                        [p[k] for p in mine] for k in ("severity", "mean", "low", "high")
                    )
                    axis.fill_between(x, low, high, color=palette[i], alpha=0.2, linewidth=0)
                    marker = _MARKERS[i % len(_MARKERS)]
                    axis.plot(x, y, color=palette[i], marker=marker, markersize=4, label=model)
            row[0].set_ylabel(metric, fontsize=8)
        for axis, name in zip(axes[0], names, strict=True):
            axis.set_title(name, fontsize=9)
        for axis in axes[-1]:
            axis.set_xlabel("severity (0 = clean)", fontsize=8)
        axes[0, 0].legend(fontsize=7)
        figure.suptitle(title, fontsize=9)
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        figure.savefig(stem.with_suffix(".png"), dpi=200, metadata={"Software": None})
        plt.close(figure)
