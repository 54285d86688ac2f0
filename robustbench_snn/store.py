"""Results on disk: one parquet file per row, written whole or not at all.

``OUT/MODEL/DATASET/ATTACK/START-STOP-KEY.parquet`` holds one row. No file is ever changed in
place and no file belongs to two rows, so that any number of processes may write to one folder.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from robustbench_snn.errors import UsageError
from robustbench_snn.row_files import read_table, replace_file, sealed
from robustbench_snn.schema import COLUMNS, OPTIONAL, SAMPLES, SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

# ``older``: a whole row, but of another version of the source than the one asked for.
State = Literal["ok", "failed", "missing", "unreadable", "older"]

_KEY_DIGITS = 20
# Flags of rows whose numbers depend on the batch size.
COUPLED = {"official-ssa", "batch-dependent"}


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
    parts = [folder_name(str(row[key])) for key in layout.folders]
    name = f"{row['start']:07d}-{row['stop']:07d}-{row['key'][:_KEY_DIGITS]}.parquet"
    return Path(root, *parts, name)


def folder_name(text: str) -> str:
    """``text`` as the name of one folder: never hidden, and never the folder above."""
    return re.sub(r"^\.+", lambda dots: "-" * len(dots[0]), re.sub(r"[^\w.+-]+", "-", text))


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
        StorageError: the file cannot be written.
    """
    import pyarrow as pa

    unknown = set(row) - set(layout.columns)
    if unknown:
        raise KeyError(f"columns not in the schema: {sorted(unknown)}")
    full = {name: row.get(name) for name in layout.columns} | {
        "key": key,
        "schema_version": SCHEMA_VERSION,
    }
    table = pa.Table.from_pylist([full], schema=_arrow_schema(layout.columns))
    path = shard_path(root, full, layout)
    # Of one row, all that would be the larger part of the file.
    lean = {"use_dictionary": False, "write_statistics": False, "store_schema": False}
    replace_file(path, sealed(table, **lean))
    return path


def _read(path: Path, columns: list[str] | None = None, many: bool = False) -> Any:
    """The arrow table in ``path``, or None if it is no whole results file of ours.

    Files have one row, and only collections of them (``many``) more.
    """
    table = read_table(path, columns)
    known = table is not None and {"key", "schema_version", "status"} <= set(table.column_names)
    return table if known and (table.num_rows == 1 or (many and table.num_rows)) else None


def read_light(path: Path, layout: Layout = RUNS) -> dict[str, Any] | None:
    """The row in ``path`` without its per-sample lists; None if missing or unreadable.

    Columns that an older file lacks are None.
    """
    if not path.exists():
        return None
    wanted = [name for name in layout.columns if name not in layout.samples]
    table = _read(path, wanted)
    return None if table is None else dict.fromkeys(wanted) | table.to_pylist()[0]


def read_row(path: Path) -> dict[str, Any] | None:
    """The whole row in ``path``, of any layout; None if missing or unreadable."""
    table = _read(path) if path.exists() else None
    return None if table is None else dict(table.to_pylist()[0])


def look(
    path: Path, key: str, layout: Layout = RUNS, code: str | None = None
) -> tuple[State, dict[str, Any] | None]:
    """Whether the row ``key`` is on disk at ``path``, and the row without per-sample lists.

    Args:
        path, key: where it is looked for, and its content key.
        layout: what kind of row it must be.
        code: sha256 of the source it must come from; None takes any.

    Returns:
        (``ok``, or why it must be computed; the row if it is whole and of this key).
    """
    if not (path.exists() or path.is_symlink()):
        return "missing", None
    table = _read(path)
    if table is None or not set(layout.columns) - set(table.column_names) <= OPTIONAL:
        return "unreadable", None
    types = _arrow_schema(layout.columns)
    if any(
        table.schema.field(name).type != types.field(name).type
        for name in layout.columns
        if name in table.column_names
    ):
        return "unreadable", None
    lists = [name for name in table.column_names if name in layout.samples]
    row = dict.fromkeys(layout.columns) | table.drop_columns(lists).to_pylist()[0]
    row = {name: value for name, value in row.items() if name not in layout.samples}
    if row["key"] != key or row["schema_version"] != SCHEMA_VERSION:
        return "unreadable", None
    if row["status"] != "ok":
        return "failed", row
    return ("ok" if code in (None, row["code_sha256"]) else "older"), row


def shard_state(path: Path, key: str, layout: Layout = RUNS, code: str | None = None) -> State:
    """Whether the row ``key`` is on disk at ``path``: ``ok``, or why it must be computed."""
    return look(path, key, layout, code)[0]


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


def say(text: str) -> None:
    """A note on standard error."""
    print(f"note: {text}", file=sys.stderr, flush=True)


# Facts that make two rows answers to different questions, beside the attack and the samples.
IDENTIFYING = (
    *("model", "model_config", "model_source_sha256", "weights_sha256", "dataset"),
    *("dataset_revision", "split", "surrogate", "ssa_proj_lif", "time_steps", "seed", "device"),
)


class Results:
    """Rows read back from a results folder.

    Attributes:
        notes: one sentence for every file that was skipped, and one if rows have failed.
    """

    def __init__(self, table: Any, notes: list[str]) -> None:
        self._table = table
        self.notes = notes

    @classmethod
    def load(
        cls,
        root: str | Path,
        keys: Collection[str] | None = None,
        layout: Layout = RUNS,
        tell: Callable[[str], None] = say,
    ) -> Results:
        """Read every row under ``root``, or those of ``keys``.

        Broken files are noted and skipped, rows of other layouts are passed over; columns of
        newer releases are kept.

        Args:
            root: results folder.
            keys: content keys; None for all.
            layout: what kind of rows.
            tell: is given each note.

        Raises:
            UsageError: there is no such folder, or a row has a newer schema version.
        """
        return cls.load_all(root, (layout,), keys, tell)[0]

    @classmethod
    def load_all(
        cls,
        root: str | Path,
        layouts: Collection[Layout],
        keys: Collection[str] | None = None,
        tell: Callable[[str], None] = say,
        columns: Collection[str] | None = None,
    ) -> list[Results]:
        """Rows of several layouts from one pass over the files; see ``load``.

        With ``columns`` these alone are read, beside those that name a row; others are missing.
        """
        import pyarrow as pa

        if not Path(root).is_dir():
            raise UsageError(f"results folder '{root}' does not exist: run an evaluation first.")
        wanted = None if keys is None else {key[:_KEY_DIGITS] for key in keys}
        tables: dict[tuple[str, ...], dict[Any, list[Any]]] = {
            layout.folders: {} for layout in layouts
        }
        read = None
        if columns is not None:
            names = {name for layout in layouts for name in layout.folders}
            read = sorted({*columns, *names, "key", "schema_version", "status"})
        notes, failed = [], 0
        for path in _files(root):
            if wanted is not None and path.stem.rpartition("-")[2] not in wanted:
                continue
            table = _read(path, read, many=True)
            if table is None:
                notes.append(f"skipped '{path}': not a whole results file.")
                continue
            places = [folders for folders in tables if set(folders) <= set(table.column_names)]
            if not places:
                continue  # a row of another layout
            _check_version(path, table.column("schema_version")[0].as_py())
            failed += sum(status != "ok" for status in table.column("status").to_pylist())
            for folders in places:
                tables[folders].setdefault(table.schema, []).append(table)
        if failed:
            notes.append(f"{failed} results in '{root}' are recorded as failed and left out.")
        for note in notes:
            tell(note)
        found = []
        for layout in layouts:
            same = [pa.concat_tables(parts) for parts in tables[layout.folders].values()]
            empty = _arrow_schema(layout.columns).empty_table()
            found.append(cls(pa.concat_tables([empty, *same], promote_options="permissive"), notes))
        return found

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

        chosen = self._table.filter(pc.is_in(self._table["key"], pa.array(sorted(keys))))
        at = chosen.column_names.index("command")
        nothing = pa.nulls(len(chosen), chosen.schema.field(at).type)
        chosen = chosen.set_column(at, chosen.schema.field(at), nothing)
        replace_file(path, sealed(chosen, compression="zstd"))
        return path

    def failed(self) -> pd.DataFrame:
        """One row per failed shard, with its ``error``."""
        frame = self._table.to_pandas(use_threads=False)
        return frame[frame["status"] != "ok"].reset_index(drop=True)

    def samples(self) -> pd.DataFrame:
        """One row per sample of every finished shard.

        Scalar columns are repeated; ``correct_clean`` and ``correct_adv`` become booleans of the
        sample. Where shards overlap, each sample is kept once. Rows of a faster path are left
        out where the same attack was run exactly, on however few samples.
        """
        import numpy as np

        frame = self.frame().drop(columns=["n", "correct_clean", "correct_adv"])
        coupled = frame["flags"].map(is_coupled)
        question = frame[[*IDENTIFYING, "attack", "attack_params"]].copy()
        question["batch_size"] = frame["batch_size"].where(coupled)
        groups = question.groupby(list(question), dropna=False, sort=False).ngroup()
        # One accuracy is never of both: a faster path counts where the exact one was not run.
        exact = frame["precision"].fillna("float32") == "float32"
        kept = exact | ~exact.groupby(groups).transform("any")
        frame, groups = frame[kept], groups[kept]
        counts = frame["sample_ids"].map(len).to_numpy(dtype=np.int64)
        rows = np.repeat(np.arange(len(frame)), counts)
        wide = frame.drop(columns=list(SAMPLES)).iloc[rows].reset_index(drop=True)
        for name in SAMPLES:
            lists = zip(frame[name], counts, strict=True)
            parts = [np.full(n, np.nan) if one is None else np.asarray(one) for one, n in lists]
            wide[name] = np.concatenate(parts) if parts else np.zeros(0)
        wide["correct_clean"] = wide["pred_clean"] == wide["labels"]
        wide["correct_adv"] = wide["pred_adv"] == wide["labels"]
        place = wide[["sample_ids"]].assign(group=groups.to_numpy()[rows])
        wide = wide[~place.duplicated()]
        return wide[[name for name in self._table.column_names if name in wide]].reset_index(
            drop=True
        )


def is_coupled(flags: Any) -> bool:
    """Whether the flags of a row say that its numbers depend on the batch size."""
    return flags is not None and bool(COUPLED & set(flags))


def _files(root: str | Path) -> Iterator[Path]:
    return (path for path in sorted(Path(root).rglob("*.parquet")) if path.name[0] != ".")


def _check_version(path: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"'{path}' has results schema {version}, but this release reads up to "
            f"{SCHEMA_VERSION}: upgrade robustbench_snn to read it."
        )
