"""Training curves from the logs and cards beside the shipped weights; no torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_snn.errors import UsageError
from robustbench_snn.report.tables import to_csv

COLUMNS = ["model", "epoch", "time_steps", "side", "train_accuracy", "monitor_accuracy"]
_MARKERS = "osD^vP"


@dataclass(frozen=True)
class TrainingCurves:
    """What the trainings of one data set's models wrote.

    Attributes:
        dataset: of the models.
        cards: model name to its training card.
        logs: model name to one record an epoch; accuracies are fractions.
    """

    dataset: str
    cards: Mapping[str, Mapping[str, Any]]
    logs: Mapping[str, Sequence[Mapping[str, str]]]

    @classmethod
    def load(cls, folder: Path, dataset: str) -> TrainingCurves:
        """Read all cards and logs of ``dataset`` in ``folder``.

        Raises:
            UsageError: there are none.
        """
        names = sorted(path.stem for path in folder.glob(f"*.{dataset}.csv"))
        if not names:
            raise UsageError(f"no training log of a model for '{dataset}' is in '{folder}'.")
        cards = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
        logs = {}
        for name in names:
            with (folder / f"{name}.csv").open(newline="") as file:
                logs[name] = list(csv.DictReader(file))
        return cls(dataset, cards, logs)

    def points(self) -> list[dict[str, Any]]:
        """One record per model and epoch."""
        return [
            {"model": name} | {column: row.get(column, "") for column in COLUMNS[1:]}
            for name, log in self.logs.items()
            for row in log
        ]

    def write(self, folder: Path) -> list[Path]:
        """Write ``training-DATASET`` as pdf, png, csv and json (the cards); returns the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"training-{self.dataset}"
        paths = [Path(f"{stem}{suffix}") for suffix in (".pdf", ".png", ".csv", ".json")]
        paths[2].write_text(to_csv(self.points(), COLUMNS), encoding="utf-8")
        paths[3].write_text(json.dumps(dict(self.cards), indent=1) + "\n", encoding="utf-8")
        self._draw(paths[:2])
        return paths

    def _draw(self, paths: Sequence[Path]) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
        import seaborn

        palette = seaborn.color_palette("colorblind", len(self.logs))
        with seaborn.axes_style("whitegrid"), matplotlib.rc_context({"pdf.fonttype": 42}):
            figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True, layout="constrained")
            for i, (name, log) in enumerate(self.logs.items()):
                epochs = [int(row["epoch"]) for row in log]
                style = {"color": palette[i], "marker": _MARKERS[i % len(_MARKERS)]}
                for axis, column in zip(axes, COLUMNS[-2:], strict=True):
                    share = [100 * float(row[column]) for row in log]
                    axis.plot(epochs, share, markersize=4, label=self._label(name), **style)
            axes[0].set(xlabel="epoch", ylabel="accuracy, %", title="augmented training images")
            axes[1].set(xlabel="epoch", title="images watched each epoch, clean")
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7)
            recipes = [card["recipe"] for card in self.cards.values()]
            figure.suptitle(f"{self.dataset}: {_stages(recipes)}", fontsize=9)
            figure.savefig(paths[0], metadata={"CreationDate": None})
            figure.savefig(paths[1], dpi=200, metadata={"Software": None})
            plt.close(figure)

    def _label(self, name: str) -> str:
        clean = self.cards[name]["clean"]
        low, high = (100 * bound for bound in clean["interval_95"])
        return f"{name}: {100 * clean['accuracy']:.1f} [{low:.1f}, {high:.1f}], n={clean['n']}"


def _stages(recipes: Sequence[Mapping[str, Any]]) -> str:
    facts = {
        f"{recipe['epochs']} epochs, T = 1 for the first {recipe['one_step']:.0%}"
        + "".join(f", {side} px for {share:.0%}" for side, share in recipe.get("sides", ()))
        for recipe in recipes
    }
    return "; ".join(sorted(facts))
