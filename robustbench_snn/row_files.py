"""Files that are written whole or not at all, and rows whose every byte is under a checksum.

A row file is an ordinary parquet file. Its footer holds the sha256 of the file itself, taken with
zeros in the place of the digits, so that a change of any bit shows.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from pathlib import Path, PurePosixPath
from typing import Any

from robustbench_snn.errors import StorageError

SEAL = b"robustbench_snn.sha256"
_BLANK = b"sha256:" + b"0" * 64
_DIGITS = re.compile(rb"sha256:([0-9a-f]{64})")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none of it, even after a power cut.

    A folder that stands in its place is moved aside, to the same name with ``.folder`` at its end.

    Raises:
        StorageError: the disk is full or read-only, or a file stands where a folder should.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if path.is_dir() and not path.is_symlink():
                os.rename(path, _free(path.with_name(f"{path.name}.folder")))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"'{path}' cannot be written ({error.strerror or error}); what is finished is kept: "
            "make room, or mend the folder, and the same command goes on."
        ) from error
    _sync_folder(path.parent)


def confined(root: str | Path, place: str) -> Path | None:
    """``place`` below ``root``; None where it is not below it, or a link leads there.

    Args:
        root: a folder; it may be a link itself.
        place: a relative path with slashes, as a row states it.
    """
    parts = PurePosixPath(place).parts
    if not parts or place.startswith("/") or "\\" in place or "\0" in place or ".." in parts:
        return None
    path = Path(root)
    for part in parts:
        path = path / part
        if path.is_symlink():
            return None
    return path


def _free(path: Path) -> Path:
    tries = [path, *(path.with_name(f"{path.name}{i}") for i in range(2, 1000))]
    return next(place for place in tries if not place.exists())


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


def sealed(table: Any, **settings: Any) -> bytes:
    """An arrow table as the bytes of a parquet file under its own checksum.

    Args:
        table: what to store.
        settings: of ``pyarrow.parquet.ParquetWriter``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = pa.BufferOutputStream()
    with pq.ParquetWriter(stream, table.schema, **settings) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({SEAL: _BLANK})
    content: bytes = stream.getvalue().to_pybytes()
    at = _seal_of(content)
    assert at is not None
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[: at + 7] + digest + content[at + len(_BLANK) :]


def _seal_of(content: bytes) -> int | None:
    """Where the checksum stands; None where there is none."""
    key = content.rfind(SEAL)
    found = _DIGITS.search(content, key) if key >= 0 else None
    return None if found is None else found.start()


def is_sealed(content: bytes) -> bool:
    """Whether a file states its own checksum; those of earlier releases do not."""
    return _seal_of(content) is not None


def is_intact(content: bytes) -> bool:
    """Whether a file states a checksum and it is the file's own."""
    at = _seal_of(content)
    if at is None:
        return False
    blank = content[:at] + _BLANK + content[at + len(_BLANK) :]
    return hashlib.sha256(blank).hexdigest().encode() == content[at + 7 : at + len(_BLANK)]


def read_table(path: Path, columns: list[str] | None = None) -> Any:
    """The arrow table in a row file, or None if it is missing, damaged or of another kind.

    A file without a checksum is taken as it is if it is of a release that wrote none: later ones
    have a column ``code_sha256``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
        whole = is_intact(content)
        if not whole and is_sealed(content):
            return None
        # One row needs no thread pool, whose threads may outlive the interpreter and abort it.
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            if not whole and "code_sha256" in file.schema_arrow.names:
                return None
            table = file.read(columns, use_threads=False)
        table.validate(full=True)
        return table.replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError):
        return None
