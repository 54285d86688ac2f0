"""Results under common corruptions: cells, means and tables of each model; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustbench_snn.corruptions.metrics import mce, mean_over
from robustbench_snn.corruptions.names import COMMON, CORRUPTIONS, EXTRA, SEVERITIES, group_of
from robustbench_snn.metrics import wilson

DASH = "–"
MIXED = "mixed"
MEANS = {"mean of the 15": COMMON, "mean of the extra 4": EXTRA}

CellName = tuple[str, int]


@dataclass
class Cells:
    """Everything one model did under one attack, or none, on corrupted images.

    Attributes:
        model: its name in tables.
        attack: in words; empty without an attack.
        right: (corruption, severity) to the number of right answers.
        n: (corruption, severity) to the number of images.
        source: corruption to ``official``, ``generated`` or, when both were used, ``mixed``.
        failed: cells of which a part has no numbers; they enter no mean.
        flags: union of the flags of all rows.
        independent: how many of the images of a cell show something of their own; None for all.
    """

    model: str
    attack: str = ""
    right: dict[CellName, int] = field(default_factory=dict)
    n: dict[CellName, int] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    failed: set[CellName] = field(default_factory=set)
    flags: list[str] = field(default_factory=list)
    independent: int | None = None

    def add(self, row: Mapping[str, Any], right: str) -> None:
        """Take in a row; ``right`` names the column that counts right answers."""
        cell = (row["corruption"], int(row["severity"]))
        self.flags += [flag for flag in row["flags"] if flag not in self.flags]
        before = self.source.setdefault(cell[0], row["corruption_source"])
        if before != row["corruption_source"]:
            self.source[cell[0]] = MIXED
        if row["status"] != "ok":
            self.failed.add(cell)
            return
        self.right[cell] = self.right.get(cell, 0) + int(row[right])
        self.n[cell] = self.n.get(cell, 0) + int(row["n"])

    @property
    def names(self) -> list[str]:
        """The corruptions there are cells of, in the canonical order."""
        return [name for name in CORRUPTIONS if name in self.source]

    @property
    def severities(self) -> list[int]:
        """The severities there are cells of."""
        return sorted({severity for _, severity in {**self.n, **dict.fromkeys(self.failed, 0)}})

    def sources(self, names: Iterable[str]) -> str:
        """Where the images of ``names`` come from: empty for none, ``mixed`` for several."""
        found = {self.source[name] for name in names if name in self.source}
        return MIXED if len(found) > 1 else "".join(found)

    def accuracy(self, names: Sequence[str], severities: Sequence[int] = ()) -> Share | None:
        """Mean accuracy over ``names`` and ``severities`` (default: all that were evaluated).

        Returns:
            None unless every cell is whole, of the same number of images and of one source.
        """
        levels = severities or self.severities
        cells = [(name, level) for name in names for level in levels]
        whole = cells and all(cell in self.n and cell not in self.failed for cell in cells)
        if not whole or self.sources(names) == MIXED or len({self.n[cell] for cell in cells}) != 1:
            return None
        errors = {cell: 1 - self.right[cell] / self.n[cell] for cell in cells}
        return Share(1 - mean_over(errors, names), self.n[cells[0]], self.independent)

    def alexnet(self, dataset: str) -> float | None:
        """mCE in percent; None on other data sets than ImageNet or with cells missing."""
        if dataset != "imagenet" or self.accuracy(COMMON, SEVERITIES) is None:
            return None
        return mce({cell: 1 - self.right[cell] / self.n[cell] for cell in self.n}, dataset)


@dataclass(frozen=True)
class Share:
    """A mean accuracy over cells that show the same ``n`` images.

    Its interval counts every image once, as if all cells agreed on it: one image under several
    corruptions is not several independent ones; of ``n`` images that show fewer objects, every
    object once. It is therefore on the wide side.
    """

    value: float
    n: int
    independent: int | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson(round(self.value * self.n), self.n, worth=self.independent)

    def text(self, error: bool = False) -> str:
        """``84.2 [81.8, 86.3]`` in percent: the accuracy, or the error."""
        low, high = self.interval
        if error:
            return f"{100 * (1 - self.value):.1f} [{100 * (1 - high):.1f}, {100 * (1 - low):.1f}]"
        return f"{100 * self.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def columns(cells: Cells) -> list[str]:
    """Headings of ``records``."""
    levels = [f"s{level}" for level in cells.severities]
    return ["corruption", "group", "source", "n", "error % [95 % CI]", "accuracy %", *levels]


def records(cells: Cells) -> list[dict[str, str]]:
    """One record per corruption, then the mean of the 15 and that of the extra four.

    The columns s1 to s5 are errors in percent at one severity.
    """
    rows = [_record(cells, name, [name]) | {"group": group_of(name)} for name in cells.names]
    for title, names in MEANS.items():
        if set(names) & set(cells.names):
            rows.append(_record(cells, title, names))
    return rows


def _record(cells: Cells, title: str, names: Sequence[str]) -> dict[str, str]:
    mean = cells.accuracy(names)
    shown = {"corruption": title, "source": cells.sources(names)}
    shown["n"] = str(mean.n) if mean else DASH
    shown["error % [95 % CI]"] = mean.text(error=True) if mean else DASH
    shown["accuracy %"] = f"{100 * mean.value:.1f}" if mean else DASH
    for level in cells.severities:
        one = cells.accuracy(names, [level])
        shown[f"s{level}"] = f"{100 * (1 - one.value):.1f}" if one else DASH
    return shown


def missing_note(cells: Cells) -> str:
    """Why a mean is not given; empty when nothing is amiss."""
    notes = []
    if cells.failed:
        notes.append(f"{len(cells.failed)} cells have failed parts and enter no mean")
    absent = [name for name in COMMON if name not in cells.names]
    if absent and len(absent) < len(COMMON):
        notes.append(f"no mean of the 15: {len(absent)} of them were not evaluated")
    elif not absent and cells.sources(COMMON) == MIXED:
        notes.append("no mean of the 15: official and generated images are never averaged")
    return "; ".join(notes)
