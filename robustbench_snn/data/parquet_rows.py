"""Rows of parquet files, memory-mapped through ``datasets`` (columns as on the Hub)."""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.data.stored_images import corrupt_image
from robustbench_snn.errors import UsageError

IMAGE_COLUMNS = ("img", "image")
_MEGABYTE = 1 << 20
_QUIET_BELOW = 200 * _MEGABYTE


class ParquetRows:
    """Images of one or more parquet files, in file order then row order; see ``Rows``."""

    def __init__(self, files: Sequence[Path], source: str, label_columns: Sequence[str]) -> None:
        """Open files with columns ``img`` or ``image`` and one of ``label_columns``.

        Raises:
            UsageError: a file is no parquet file or lacks the columns.
        """
        self.source = source
        self._files = list(files)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        table = self._open()
        self._image = _pick(table.column_names, IMAGE_COLUMNS, files[0])
        label = _pick(table.column_names, label_columns, files[0])
        self._table = _without_decoding(table, self._image, files[0])
        self.labels = _labels(self._table, label, files[0])
        self.class_names = getattr(table.features[label], "names", None)

    def fingerprint(self) -> str:
        """Short sha256 over size, first and last megabyte of every file in order."""
        return file_fingerprint(self._files)

    def name(self, index: int) -> str:
        """Files and row, for messages."""
        more = f" and {len(self._files) - 1} more" if len(self._files) > 1 else ""
        return f"row {index} of {self._files[0]}{more}"

    def identity(self, index: int) -> None:
        """Rows are named by their position."""

    def pictures(self, indices: Sequence[int]) -> list[Image.Image]:
        """The pictures at ``indices``; raises UsageError for one that is no image."""
        cells = self._table[[int(i) for i in indices]][self._image]
        return [self._picture(cell, i) for i, cell in zip(indices, cells, strict=True)]

    def _open(self) -> Any:
        """The files as one memory-mapped ``datasets.Dataset``."""
        import datasets

        for path in self._files:
            _require_parquet(path)
        names = [str(path.resolve()) for path in self._files]
        quiet = sum(path.stat().st_size for path in self._files) < _QUIET_BELOW
        with _progress_bars(datasets, quiet):
            try:
                return _load(datasets, names, None)
            except OSError:
                # The cache folder cannot be written; this one lives as long as these rows.
                self._scratch = tempfile.TemporaryDirectory(prefix="robustbench_snn_")
                return _load(datasets, names, self._scratch.name)

    def _picture(self, cell: dict[str, Any] | None, index: int) -> Image.Image:
        encoded = cell.get("bytes") if cell else None
        if encoded is None:
            raise UsageError(
                f"{self.name(index)} has no image bytes in column '{self._image}': give parquet "
                "files that contain the encoded images."
            )
        try:
            return Image.open(io.BytesIO(encoded))
        except (OSError, ValueError, SyntaxError) as error:
            raise corrupt_image(self.name(index), error) from error


def local_parquet(folder: Path, prefixes: Sequence[str]) -> list[Path]:
    """Parquet files of one split in ``folder`` or, if it has none, one level below it.

    Args:
        folder: where to look.
        prefixes: how the file names of the split begin.

    Returns:
        sorted paths; empty when the folder holds no parquet file at all.

    Raises:
        UsageError: there are parquet files, but none of this split, or shards are missing.
    """
    found = sorted(folder.glob("*.parquet"))
    if not found:
        nested = (p for p in folder.glob("*/*.parquet") if not p.parent.name.startswith("."))
        found = sorted(nested)
    chosen = [path for path in found if path.name.startswith(tuple(prefixes))]
    if found and not chosen:
        names = ", ".join(path.name for path in found[:4])
        wanted = " or ".join(f"{prefix}*.parquet" for prefix in prefixes)
        raise UsageError(
            f"no {wanted} in {folder} (parquet files seen: {names}): name the "
            "folder that holds it, or rename the file."
        )
    require_all_shards(chosen)
    return chosen


def require_all_shards(files: Sequence[Path]) -> None:
    """Raises UsageError when names like ``test-00000-of-00003.parquet`` show a gap."""
    totals = {int(m[1]) for f in files if (m := re.search(r"-of-(\d+)\.parquet$", f.name))}
    if totals and totals != {len(files)}:
        raise UsageError(
            f"{files[0].parent} holds {len(files)} parquet files of this split, but their names "
            f"say there are {max(totals)}: add the missing ones."
        )


def file_fingerprint(files: Sequence[Path]) -> str:
    """Short sha256 over size, first and last megabyte of every file, in order."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as stream:
            digest.update(stream.read(_MEGABYTE))
            if size > _MEGABYTE:
                stream.seek(max(_MEGABYTE, size - _MEGABYTE))
                digest.update(stream.read(_MEGABYTE))
    return digest.hexdigest()[:12]


def _require_parquet(path: Path) -> None:
    import pyarrow.parquet as pq
    from pyarrow import ArrowInvalid

    try:
        pq.read_metadata(path)
    except (ArrowInvalid, OSError) as error:
        raise UsageError(
            f"{path} is not a readable parquet file ({error}): fetch it again."
        ) from error


def _load(datasets: Any, names: list[str], cache_dir: str | None) -> Any:
    try:
        return datasets.load_dataset(
            "parquet", data_files={"rows": names}, split="rows", cache_dir=cache_dir
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise UsageError(
            f"{names[0]} and its shards cannot be read as one table ({error.__cause__ or error}): "
            "give files that share one set of columns."
        ) from error


@contextmanager
def _progress_bars(datasets: Any, quiet: bool) -> Iterator[None]:
    """Silence the conversion's progress bar for small files."""
    change = quiet and datasets.are_progress_bars_disabled() is False
    if change:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if change:
            datasets.enable_progress_bars()


def _pick(columns: Sequence[str], wanted: Sequence[str], path: Path) -> str:
    for column in wanted:
        if column in columns:
            return column
    raise UsageError(
        f"{path} has the columns {', '.join(columns)}, but none called "
        f"{' or '.join(wanted)}: give the files of this data set, or rename the column."
    )


def _without_decoding(table: Any, column: str, path: Path) -> Any:
    """The table with encoded images (struct of bytes and path) in ``column``."""
    import datasets
    from pyarrow import ArrowInvalid

    try:
        return table.cast_column(column, datasets.Image(decode=False))
    except (ArrowInvalid, TypeError, ValueError) as error:
        raise UsageError(
            f"column '{column}' of {path} holds no encoded images ({error}): it must be a struct "
            "with the field bytes."
        ) from error


def _labels(table: Any, column: str, path: Path) -> NDArray[np.int64]:
    values = np.asarray(table.data.column(column).to_numpy())
    if values.dtype.kind not in "iu":
        raise UsageError(
            f"column '{column}' of {path} holds {values.dtype} values: labels must be whole "
            "numbers without gaps."
        )
    return values.astype(np.int64)
