"""Figures a paper prints, kept apart from everything measured here."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reported:
    """Figures printed by a paper.

    Attributes:
        source: which paper and table.
        missing: why some figures are not given.
        rows: records with ``dataset``, ``family``, ``model``, ``T`` and column headings; figures
            are texts in percent, with the digits as printed.
    """

    source: str
    missing: str
    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Reported:
        """The figures in a TOML file with ``source``, ``missing`` and ``[[row]]`` tables."""
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(content["source"], content["missing"], content["row"])

    def covers(self, dataset: str) -> bool:
        """Whether the paper has figures on ``dataset``."""
        return any(row["dataset"] == dataset for row in self.rows)

    def of(self, dataset: str) -> list[Mapping[str, Any]]:
        """The rows on ``dataset``; all rows when the paper has none on it."""
        return [row for row in self.rows if row["dataset"] == dataset or not self.covers(dataset)]

    def caption(self, dataset: str) -> str:
        """Whose figures these are, and what they may not be used for."""
        text = f"Reported, not measured here: {self.source}."
        if self.rows and not self.covers(dataset):
            text += f" None of them is on {dataset}, so they are no yardstick for it."
        return f"{text} {self.missing}"
