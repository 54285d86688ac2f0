"""Who is still standing: per-sample state of one model while a suite goes on; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.attack_spec import AttackSpec


@dataclass(frozen=True)
class ImageFile:
    """One stored file of adversarial images and the budget they were made in."""

    path: str
    sha256: str
    norm: str
    eps: float


class Standing:
    """The n samples of one model.

    A sample fooled at some eps counts as fooled at every larger one: its image lies in that ball
    too.

    Args:
        ids: n sample ids.
        labels: int64 [n].
        clean: bool [n], right without any attack.

    Attributes:
        broken_eps: float64 [n], smallest eps at which the sample was fooled; 0 where it was wrong
            to begin with, infinite where nothing fooled it.
        winner: what fooled it first in the order of the suite; empty where nothing did.
        files: for each sample the file of that image, or None where no image was kept.
    """

    def __init__(
        self, ids: Sequence[str], labels: NDArray[np.int64], clean: NDArray[np.bool_]
    ) -> None:
        self.ids, self.labels, self.clean = list(ids), labels, clean
        self.broken_eps = np.where(clean, np.inf, 0.0)
        self.winner = [""] * len(self.ids)
        self.files: list[ImageFile | None] = [None] * len(self.ids)
        self._row = {name: row for row, name in enumerate(self.ids)}

    def rows(self, names: Sequence[str]) -> list[int]:
        """Rows of the samples called ``names``."""
        return [self._row[name] for name in names]

    def survivors(self, eps: float, rows: Sequence[int]) -> list[int]:
        """Those among ``rows`` that nothing has fooled within ``eps``."""
        return [row for row in rows if self.broken_eps[row] > eps]

    def take(self, spec: AttackSpec, row: dict[str, Any]) -> int:
        """Take in a step's row; returns how many samples it fooled."""
        eps = float(spec.params["eps"])
        names = [
            name
            for name, predicted, label in zip(
                row["sample_ids"], row["pred_adv"], row["labels"], strict=True
            )
            if predicted != label
        ]
        file = ImageFile(row["images"], row["images_sha256"], row["norm"], eps)
        for at in self.rows(names):
            self.broken_eps[at] = min(eps, self.broken_eps[at])
            if self.files[at] is None:
                self.winner[at], self.files[at] = short_label(spec), file
        return len(names)

    def forget(self, rows: Sequence[int]) -> None:
        """Make room for better images of the samples at ``rows`` than those made at larger eps."""
        for at in rows:
            self.winner[at], self.files[at] = "", None

    def lose(self, label: str, eps: float, rows: Sequence[int] | NDArray[np.int64]) -> None:
        """Count the samples at ``rows`` as fooled by ``label`` at ``eps``; no image is kept."""
        for at in rows:
            if self.broken_eps[at] > eps:
                self.broken_eps[at] = eps
                self.winner[at] = self.winner[at] or label

    def robust(self, eps: float) -> NDArray[np.bool_]:
        """Samples right under everything tried within ``eps``, bool [n]."""
        return self.broken_eps > eps


def short_label(spec: AttackSpec) -> str:
    """What a winner is called: attack, loss, estimator or source: ``apgd ce atan:alpha=4``."""
    params = spec.params
    parts = [spec.name, str(params.get("loss", ""))]
    parts.append(str(params.get("estimator", "")) if "source" not in params else "")
    parts.append("from " + str(params["source"]).partition("@")[0] if "source" in params else "")
    starts = int(params.get("restarts", 1))
    parts.append(f"from {starts} starts" if starts > 1 else "")
    return " ".join(part for part in parts if part)
