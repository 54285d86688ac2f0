"""Rows of parquet files, read group by group where they lie (columns as on the Hub)."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.data.content import check_unchanged, content_sha256, stamp
from robustbench_snn.data.stored_images import UNDECODABLE, corrupt_image
from robustbench_snn.errors import UsageError

IMAGE_COLUMNS = ("img", "image")
# Row groups held decoded; consecutive batches come from one or two.
_GROUPS_HELD = 2


class ParquetRows:
    """Images of one or more parquet files, in file order then row order; see ``Rows``."""

    def __init__(self, files: Sequence[Path], source: str, label_columns: Sequence[str]) -> None:
        """Open files with columns ``img`` or ``image`` and one of ``label_columns``.

        Raises:
            UsageError: a file is no parquet file or lacks the columns.
        """
        self.source = source
        self._files = list(files)
        self._stamps = [stamp(path) for path in files]
        opened = [_opened(path) for path in files]
        columns = opened[0].schema_arrow.names
        self._image = _pick(columns, IMAGE_COLUMNS, files[0])
        label = _pick(columns, label_columns, files[0])
        for path, file in zip(files, opened, strict=True):
            _check_columns(file.schema_arrow, opened[0].schema_arrow, self._image, label, path)
        self.class_names = _class_names(opened[0].schema_arrow, label)
        self.labels = np.concatenate(
            [_labels(file, label, path) for path, file in zip(files, opened, strict=True)]
        )
        # (file, row group) in order, and the row each begins with.
        self._groups = [
            (i, group) for i, file in enumerate(opened) for group in range(file.num_row_groups)
        ]
        sizes = [opened[i].metadata.row_group(group).num_rows for i, group in self._groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._cells = lru_cache(maxsize=_GROUPS_HELD)(self._read_group)

    def fingerprint(self) -> str:
        """Short sha256 over all bytes of every file, in order."""
        return content_sha256(self._files)[:12]

    def name(self, index: int) -> str:
        """Files and row, for messages."""
        more = f" and {len(self._files) - 1} more" if len(self._files) > 1 else ""
        return f"row {index} of {self._files[0]}{more}"

    def identity(self, index: int) -> None:
        """Rows are named by their position."""

    def pictures(self, indices: Sequence[int]) -> list[Image.Image]:
        """The pictures at ``indices``; raises UsageError for one that is no image."""
        found = []
        for index in map(int, indices):
            place = int(np.searchsorted(self._starts, index, side="right")) - 1
            cell = self._cells(place)[index - int(self._starts[place])].as_py()
            found.append(self._picture(cell, index))
        return found

    def _read_group(self, place: int) -> Any:
        """The image column of one row group, still encoded.

        Raises:
            UsageError: its file changed since it was opened, or is damaged.
        """
        from pyarrow import ArrowException

        number, group = self._groups[place]
        path = self._files[number]
        try:
            check_unchanged(path, self._stamps[number])
            file = _opened(path)
            column = file.read_row_group(group, [self._image], use_threads=False).column(0)
        except (ArrowException, OSError) as error:
            raise UsageError(f"{path} cannot be read ({error}): fetch it again.") from error
        return column

    def _picture(self, cell: dict[str, Any] | bytes | None, index: int) -> Image.Image:
        encoded = cell.get("bytes") if isinstance(cell, dict) else cell
        if encoded is None:
            raise UsageError(
                f"{self.name(index)} has no image bytes in column '{self._image}': give parquet "
                "files that contain the encoded images."
            )
        try:
            return Image.open(io.BytesIO(encoded))
        except UNDECODABLE as error:
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


def _opened(path: Path) -> Any:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        return pq.ParquetFile(path, memory_map=True)
    except (ArrowException, OSError) as error:
        raise UsageError(
            f"{path} is not a readable parquet file ({error}): fetch it again."
        ) from error


def _check_columns(schema: Any, first: Any, image: str, label: str, path: Path) -> None:
    """Raise UsageError unless a file has the columns of the first, and its images are encoded."""
    import pyarrow as pa

    for column in (image, label):
        if column not in schema.names or schema.field(column).type != first.field(column).type:
            raise UsageError(
                f"{path} and the files beside it cannot be read as one table (column '{column}' "
                "differs): give files that share one set of columns."
            )
    kind = schema.field(image).type
    struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not (struct or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise UsageError(
            f"column '{image}' of {path} holds no encoded images ({kind}): it must be a struct "
            "with the field bytes."
        )


def _class_names(schema: Any, column: str) -> list[str] | None:
    """What the file calls the classes of a label column, in order; None where it does not."""
    from datasets import ClassLabel, Features

    try:
        feature = Features.from_arrow_schema(schema)[column]
    except (ValueError, KeyError, TypeError):
        return None  # what is said of other columns may be of a newer kind
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def _pick(columns: Sequence[str], wanted: Sequence[str], path: Path) -> str:
    for column in wanted:
        if column in columns:
            return column
    raise UsageError(
        f"{path} has the columns {', '.join(columns)}, but none called "
        f"{' or '.join(wanted)}: give the files of this data set, or rename the column."
    )


def _labels(file: Any, column: str, path: Path) -> NDArray[np.int64]:
    from pyarrow import ArrowException

    try:
        values = np.asarray(file.read([column], use_threads=False).column(0).to_numpy())
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path} cannot be read ({error}): fetch it again.") from error
    if values.dtype.kind not in "iu":
        raise UsageError(
            f"column '{column}' of {path} holds {values.dtype} values: labels must be whole "
            "numbers without gaps."
        )
    return values.astype(np.int64)
