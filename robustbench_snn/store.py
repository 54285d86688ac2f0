"""Results on disk: one parquet file per row, written whole or not at all.

``OUT/MODEL/DATASET/ATTACK/START-STOP-KEY.parquet`` holds one row. No file is ever changed in
place and no file belongs to two rows, so that any number of processes may write to one folder.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from robustbench_snn.errors import UsageError, disk_errors
from robustbench_snn.schema import COLUMNS, SAMPLES, SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

State = Literal["ok", "failed", "missing", "unreadable"]

_KEY_DIGITS = 20


@dataclass(frozen=True)
class Layout:
    """One kind of rows.

    Attributes:
        columns: column name to type; ``key``, ``schema_version``, ``status``, ``start`` and
            ``stop`` are among them.
        folders: the columns whose values name the folders above a file.
        samples: the columns that hold something of every sample.
    """

    columns: Mapping[str, str]
    folders: tuple[str, ...]
    samples: Collection[str]


RUNS = Layout(COLUMNS, ("model", "dataset", "attack"), SAMPLES)


def shard_path(root: str | Path, row: Mapping[str, Any], layout: Layout = RUNS) -> Path:
    """Where ``row`` lives under ``root``; needs its identity columns only."""
    parts = [re.sub(r"[^\w.+-]+", "-", str(row[key])) for key in layout.folders]
    name = f"{row['start']:07d}-{row['stop']:07d}-{row['key'][:_KEY_DIGITS]}.parquet"
    return Path(root, *parts, name)


def _arrow_schema(columns: Mapping[str, str] = COLUMNS) -> Any:
    import pyarrow as pa

    types: dict[str, Any] = {
        "string": pa.string(),
        "int64": pa.int64(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
    }
    lists = {f"list<{name}>": pa.list_(kind) for name, kind in types.items()}
    return pa.schema([(name, (types | lists)[kind]) for name, kind in columns.items()])


def write_shard(root: str | Path, key: str, row: Mapping[str, Any], layout: Layout = RUNS) -> Path:
    """Write one row so that a reader sees all of it or none of it, even after a power cut.

    Args:
        root: results folder, made if missing.
        key: content key of the row (64 hex digits).
        row: the columns of ``layout``; those left out are stored as missing.
        layout: what kind of row it is.

    Returns:
        The file written; an older file of the same key is replaced.

    Raises:
        KeyError: a column that is not in the schema, or no identity.
        UsageError: the disk is full, or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    unknown = set(row) - set(layout.columns)
    if unknown:
        raise KeyError(f"columns not in the schema: {sorted(unknown)}")
    full = {name: row.get(name) for name in layout.columns} | {
        "key": key,
        "schema_version": SCHEMA_VERSION,
    }
    path = shard_path(root, full, layout)
    table = pa.Table.from_pylist([full], schema=_arrow_schema(layout.columns))
    with disk_errors(), whole_file(path) as file:
        # Of one row, all that would be the larger part of the file.
        pq.write_table(
            table, file, use_dictionary=False, write_statistics=False, store_schema=False
        )
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the name ``path`` once it is written whole and safe on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself may be lost in a power cut; not every system can do it.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _read(path: Path, columns: list[str] | None = None, many: bool = False) -> Any:
    """The arrow table in ``path``, or None if it is no whole parquet file of ours.

    Files have one row, and only collections of them (``many``) more.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One row needs no thread pool, whose threads may outlive the interpreter and abort it.
        with pq.ParquetFile(path) as file:
            table = file.read(columns, use_threads=False)
    except (pa.ArrowException, OSError):
        return None
    known = {"key", "schema_version", "status"} <= set(table.column_names)
    return table if known and (table.num_rows == 1 or (many and table.num_rows)) else None


def read_light(path: Path, layout: Layout = RUNS) -> dict[str, Any] | None:
    """The row in ``path`` without its per-sample lists; None if missing or unreadable."""
    if not path.exists():
        return None
    table = _read(path, [name for name in layout.columns if name not in layout.samples])
    return None if table is None else dict(table.to_pylist()[0])


def read_row(path: Path) -> dict[str, Any] | None:
    """The whole row in ``path``, of any layout; None if missing or unreadable."""
    table = _read(path) if path.exists() else None
    return None if table is None else dict(table.to_pylist()[0])


def shard_state(path: Path, key: str) -> State:
    """Whether the row ``key`` is on disk at ``path``: ``ok``, or why it must be computed."""
    row = read_light(path)
    if row is None:
        return "unreadable" if path.exists() else "missing"
    if row["key"] != key:
        return "unreadable"
    return "ok" if row["status"] == "ok" else "failed"


def check_writable(root: str | Path) -> None:
    """Make the results folder and try it, before anything is computed.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    probe = Path(root, f".probe-{socket.gethostname()}-{os.getpid()}")
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"--out '{root}' cannot be written to ({error.strerror}), so no result could be "
            "kept: name another folder with --out."
        ) from None


class Results:
    """Rows read back from a results folder.

    Attributes:
        notes: one sentence for every file that was skipped.
    """

    def __init__(self, table: Any, notes: list[str]) -> None:
        self._table = table
        self.notes = notes

    @classmethod
    def load(
        cls, root: str | Path, keys: Collection[str] | None = None, layout: Layout = RUNS
    ) -> Results:
        """Read every row under ``root``, or those of ``keys``.

        Broken files are noted and skipped, rows of other layouts are passed over; columns of
        newer releases are kept.

        Raises:
            UsageError: there is no such folder, or a row has a newer schema version.
        """
        import pyarrow as pa

        if not Path(root).is_dir():
            raise UsageError(f"results folder '{root}' does not exist: run an evaluation first.")
        wanted = None if keys is None else {key[:_KEY_DIGITS] for key in keys}
        tables, notes = [_arrow_schema(layout.columns).empty_table()], []
        for path in sorted(Path(root).rglob("*.parquet")):
            if path.name.startswith("."):
                continue
            if wanted is not None and path.stem.rpartition("-")[2] not in wanted:
                continue
            table = _read(path, many=True)
            if table is None:
                notes.append(f"skipped '{path}': not a whole results file.")
                continue
            if not set(layout.folders) <= set(table.column_names):
                continue  # a row of another layout
            _check_version(path, table.column("schema_version")[0].as_py())
            tables.append(table)
        return cls(pa.concat_tables(tables, promote_options="permissive"), notes)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def frame(self) -> pd.DataFrame:
        """One row per finished shard; list columns hold NumPy arrays."""
        frame = self._table.to_pandas(use_threads=False)
        return frame[frame["status"] == "ok"].reset_index(drop=True)

    def write(self, path: Path, keys: Collection[str]) -> Path:
        """The rows of ``keys`` in one file, which ``load`` reads from its folder again.

        Commands are left out: they name folders of the machine they were typed on.
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        chosen = self._table.filter(pc.is_in(self._table["key"], pa.array(sorted(keys))))
        at = chosen.column_names.index("command")
        nothing = pa.nulls(len(chosen), chosen.schema.field(at).type)
        chosen = chosen.set_column(at, chosen.schema.field(at), nothing)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        pq.write_table(chosen, temporary, compression="zstd")
        os.replace(temporary, path)
        return path

    def failed(self) -> pd.DataFrame:
        """One row per failed shard, with its ``error``."""
        frame = self._table.to_pandas(use_threads=False)
        return frame[frame["status"] != "ok"].reset_index(drop=True)

    def samples(self) -> pd.DataFrame:
        """One row per sample of every finished shard.

        Scalar columns are repeated; ``correct_clean`` and ``correct_adv`` become booleans of the
        sample. Where shards overlap, each sample is kept once, the exact one rather than one of a
        faster path.
        """
        frame = self.frame().drop(columns=["n", "correct_clean", "correct_adv"])
        frame = frame.explode(list(SAMPLES), ignore_index=True)
        frame = frame.astype({"labels": "int64", "pred_clean": "int64", "pred_adv": "int64"})
        frame["correct_clean"] = frame["pred_clean"] == frame["labels"]
        frame["correct_adv"] = frame["pred_adv"] == frame["labels"]
        exact = frame["precision"].fillna("float32") == "float32"
        # Stable, so that of the same samples those of the exact path are kept.
        frame = frame.loc[exact.sort_values(ascending=False, kind="stable").index]
        same = ["model", "model_config", "weights_sha256", "dataset", "dataset_revision", "split"]
        same += ["attack", "attack_params", "surrogate", "seed", "device", "sample_ids"]
        return frame.drop_duplicates(same).reset_index(drop=True)


def _check_version(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"'{path}' has results schema {version}, but this release reads up to "
            f"{SCHEMA_VERSION}: upgrade robustbench_snn to read it."
        )
