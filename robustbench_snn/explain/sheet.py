"""A sheet of tiles: one row for each image, the image first, then one map for each column."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.explain.kinds import map_kind
from robustbench_snn.explain.rendering import (
    Scaled,
    check_names,
    colour_map,
    limits,
    overlay,
    scaled,
    upsample,
)
from robustbench_snn.report.tables import to_csv

RIGHT, WRONG, NEUTRAL = "#1a7f37", "#c1121f", "#333333"
CSV_COLUMNS = (
    "sample",
    "label",
    "column",
    "map",
    "predicted",
    "confidence",
    "correct",
    "raw_min",
    "raw_max",
    "flag",
    "lift",
)


@dataclass(frozen=True)
class Tile:
    """One map of one image.

    Attributes:
        column: heading, usually the model.
        values: raw map [h, w]; None where it is not defined.
        predicted: name of the predicted class.
        confidence: its softmax probability.
        correct: None when the true class is unknown.
        lift: relevance mass over the mask's area; NaN or None when there is no mask.
        note: text of a tile without a map, or an addition below one with it.
    """

    column: str
    values: NDArray[Any] | None
    predicted: str = ""
    confidence: float = 0.0
    correct: bool | None = None
    lift: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One image and its tiles.

    Attributes:
        sample: name of the image.
        image: [3, H, W] in [0, 1], as the models saw it.
        label: name of the true class; empty when unknown.
        tiles: one for each column, the same columns in every row.
        mask: object mask [H, W] to outline, or None.
        note: what sets the image apart, below its label.
    """

    sample: str
    image: NDArray[Any]
    label: str
    tiles: Sequence[Tile]
    mask: NDArray[np.bool_] | None = None
    note: str = ""


@dataclass(frozen=True)
class Look:
    """How a sheet is drawn.

    Attributes:
        kind: the map drawn.
        scale, style, upsampling: see ``rendering``.
        outline: whether masks are outlined.
        numbers: whether label, prediction, range and lift stand below the tiles.
        first: heading of the image column.
    """

    kind: str = "rate"
    scale: str = "per_map"
    style: str = "perceptual"
    upsampling: str = "bilinear"
    outline: bool = True
    numbers: bool = True
    first: str = "image"

    def check(self) -> None:
        """Raise UsageError on a scale, style or upsampling that is unknown or does not fit."""
        limits([], self.scale, self.kind)
        check_names(self.style, self.upsampling)


@dataclass(frozen=True)
class Sheet:
    """What is drawn and where it came from.

    Attributes:
        rows: images, top to bottom.
        look: how.
        caption: definition, blocks, selection rule and everything a reader must know.
        provenance: written to the json file as it is.
    """

    rows: Sequence[Row]
    look: Look = Look()
    caption: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def records(self) -> list[dict[str, Any]]:
        """One record for each tile, as drawn."""
        return [
            _record(row, tile, shown, self.look.kind)
            for row in self.rows
            for tile, shown in zip(row.tiles, self._shown(row), strict=True)
        ]

    def _shown(self, row: Row) -> list[Scaled | None]:
        maps = [t.values for r in self.rows for t in r.tiles if t.values is not None]
        ends = limits(maps, self.look.scale, self.look.kind)
        return [
            None if t.values is None else scaled(t.values, self.look.scale, self.look.kind, ends)
            for t in row.tiles
        ]

    def write(self, stem: Path) -> list[Path]:
        """Write ``stem``.png, .pdf, .csv (the tiles) and .json (their origin); returns the paths.

        Raises:
            UsageError: an unknown scale, style or upsampling.
        """
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure = self.draw()
        figure.savefig(stem.with_suffix(".png"), dpi=100, metadata={"Software": None})
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
        stem.with_suffix(".csv").write_text(to_csv(self.records(), CSV_COLUMNS), encoding="utf-8")
        origin = {**self.provenance, "look": asdict(self.look), "caption": self.caption}
        text = json.dumps(origin, indent=2, ensure_ascii=False)
        stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        return [stem.with_suffix(suffix) for suffix in (".png", ".pdf", ".csv", ".json")]

    def draw(self) -> Any:
        """The matplotlib figure; draws on no screen."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        columns, count = 1 + len(self.rows[0].tiles), len(self.rows)
        caption = textwrap.fill(self.caption, 40 * columns + 10)
        below = 0.17 * (caption.count("\n") + 2)
        height = count * (2.25 if self.look.numbers else 1.95) + 0.3
        figure = Figure(figsize=(2.0 * columns + 0.9, height + below))
        FigureCanvasAgg(figure)
        grid = figure.subplots(
            count,
            columns,
            squeeze=False,
            gridspec_kw={
                "left": 0.01,
                "right": 1 - 0.9 / figure.get_figwidth(),
                "top": 1 - 0.3 / (height + below),
                "bottom": (below + 0.35 * self.look.numbers) / (height + below),
                "hspace": 0.24 if self.look.numbers else 0.05,
                "wspace": 0.05,
            },
        )
        for axes, row in zip(grid, self.rows, strict=True):
            self._draw_row(axes, row)
        for axis, text in zip(
            grid[0], [self.look.first, *(t.column for t in self.rows[0].tiles)], strict=True
        ):
            axis.set_title(text, fontsize=8)
        self._colour_bar(figure)
        figure.text(0.01, 0.06 / (height + below), caption, fontsize=6.5, va="bottom")
        return figure

    def _draw_row(self, axes: Sequence[Any], row: Row) -> None:
        picture = np.asarray(row.image).transpose(1, 2, 0)
        for axis in axes:
            axis.set_axis_off()
        axes[0].imshow(picture, interpolation="nearest")
        if self.look.numbers:
            name = f"label: {row.label}" if row.label else row.sample
            _below(axes[0], [name, row.note], NEUTRAL)
        for axis, tile, shown in zip(axes[1:], row.tiles, self._shown(row), strict=True):
            look = self.look
            if shown is None:
                axis.imshow(np.ones_like(picture))
                axis.text(0.5, 0.5, textwrap.fill(tile.note or "not defined", 18), fontsize=7,
                          ha="center", va="center", transform=axis.transAxes)  # fmt: skip
                continue
            # Drawn larger than the pixels, or a small image would show their edges only.
            big = _enlarged(row.image)
            axis.imshow(overlay(big, shown, look.kind, look.style, look.upsampling))
            if row.mask is not None and look.outline:
                _outline(axis, row.mask, big.shape[1:])
            if look.numbers:
                _below(axis, _lines(tile, shown), _colour(tile))

    def _colour_bar(self, figure: Any) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        maps = [t.values for r in self.rows for t in r.tiles if t.values is not None]
        ends = limits(maps, self.look.scale, self.look.kind)
        low, high = ends or (0.0, 1.0)
        colours = colour_map(self.look.kind, self.look.style)
        width = figure.get_figwidth()
        axis = figure.add_axes((1 - 0.8 / width, 0.35, 0.12 / width, 0.4))
        bar = figure.colorbar(ScalarMappable(Normalize(low, high), colours), cax=axis)
        bar.ax.tick_params(labelsize=6)
        if ends is None and map_kind(self.look.kind).signed:
            bar.set_ticks([0, 0.5, 1], labels=["−max\n|tile|", "0", "+max\n|tile|"])
        elif ends is None:
            bar.set_ticks([0, 1], labels=["tile's\nmin", "tile's\nmax"])


def _enlarged(image: NDArray[Any]) -> NDArray[np.float64]:
    factor = max(1, 224 // image.shape[-1])
    planes = [
        upsample(plane, image.shape[1] * factor, image.shape[2] * factor, "nearest")
        for plane in np.asarray(image, dtype=np.float64)
    ]
    return np.stack(planes)


def _outline(axis: Any, mask: NDArray[np.bool_], size: Sequence[int]) -> None:
    if mask.any():
        big = upsample(mask.astype(np.float64), size[0], size[1], "nearest")
        axis.contour(big, levels=[0.5], colors="white", linewidths=0.7)


def _colour(tile: Tile) -> str:
    return NEUTRAL if tile.correct is None else RIGHT if tile.correct else WRONG


def _lines(tile: Tile, shown: Scaled) -> list[str]:
    mark = "" if tile.correct is None else " \N{CHECK MARK}" if tile.correct else " \N{BALLOT X}"
    assert tile.values is not None
    ends = f"raw {tile.values.min():.3g} to {tile.values.max():.3g}"
    known = tile.lift is not None and not np.isnan(tile.lift)
    extra = [f"lift {tile.lift:.2f}"] if known else []
    extra += [part for part in (shown.flag, tile.note) if part]
    first = f"pred: {tile.predicted} ({tile.confidence:.2f}){mark}"
    return [first, " · ".join([ends, *extra])]


def _below(axis: Any, lines: Sequence[str], colour: str) -> None:
    for i, line in enumerate(lines):
        axis.text(0.5, -0.03 - 0.09 * i, line, fontsize=7 if i == 0 else 6, va="top", ha="center",
                  color=colour if i == 0 else NEUTRAL, transform=axis.transAxes)  # fmt: skip


def _record(row: Row, tile: Tile, shown: Scaled | None, kind: str) -> dict[str, Any]:
    drawn = tile.values is not None
    return {
        "sample": row.sample,
        "label": row.label,
        "column": tile.column,
        "map": kind,
        "predicted": tile.predicted,
        "confidence": round(tile.confidence, 6),
        "correct": tile.correct,
        "raw_min": float(tile.values.min()) if tile.values is not None else None,
        "raw_max": float(tile.values.max()) if tile.values is not None else None,
        "flag": shown.flag if drawn and shown is not None else "not defined",
        "lift": tile.lift,
    }
