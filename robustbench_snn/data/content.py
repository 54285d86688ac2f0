"""The identity of files: a hash over all their bytes, computed once while they stay as they are.

A file counts as unchanged while its path, size, inode, modification and change times and its first
and last bytes are the same. No ordinary program can set the change time (``ctime``), so that a
file replaced under its old modification time shows. Hashes of much data are also kept in the
user's cache folder, because reading a large set takes minutes.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from robustbench_snn.errors import StorageError, UsageError
from robustbench_snn.row_files import replace_file

_KEPT_FROM = 64 << 20
_END = 1 << 16
_SETTLED_NS = 2_000_000_000
_known: dict[str, str] = {}


def stamp(path: Path) -> tuple[int, ...]:
    """What changes with a file's content: device, inode, size, and times in nanoseconds."""
    status = path.stat()
    times = status.st_mtime_ns, status.st_ctime_ns
    return (status.st_dev, status.st_ino, status.st_size, *times)


def is_settled(about: tuple[int, ...]) -> bool:
    """Whether a file was left alone long enough for its times to tell a later change.

    Clocks of file systems tick only every few milliseconds.
    """
    return time.time_ns() - about[-1] > _SETTLED_NS


def check_unchanged(path: Path, about: tuple[int, ...]) -> None:
    """Make sure that a file is the one of which ``about`` is the ``stamp``.

    Raises:
        UsageError: it was replaced or written to meanwhile.
        OSError: it is gone.
    """
    if stamp(path) != about:
        raise UsageError(
            f"{path} changed since this run opened it, so its key no longer tells what is in it: "
            "run the same command again."
        )


def content_sha256(files: Sequence[Path]) -> str:
    """sha256 over the sizes and all bytes of ``files``, in order.

    Raises:
        OSError: a file cannot be read.
    """
    stamps = [stamp(path) for path in files]
    size = sum(found[2] for found in stamps)
    settled, kept = all(map(is_settled, stamps)), size >= _KEPT_FROM
    outline = _outline(files, stamps, kept) if settled else ""
    found = _known.get(outline) or (_remembered(outline) if settled and kept else None)
    if found is None:
        found = _read(files)
        if not settled or [stamp(path) for path in files] != stamps:
            return found
        if kept:
            _remember(outline, found)
    _known[outline] = found
    return found


def _read(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def _outline(files: Sequence[Path], stamps: Sequence[tuple[int, ...]], ends: bool) -> str:
    digest = hashlib.sha256()
    for path, about in zip(files, stamps, strict=True):
        digest.update(f"{path.resolve()} {about}\n".encode())
        # Some network disks invent the change time; the ends of a few files are quick to read.
        if ends and len(files) <= 64:
            with path.open("rb") as file:
                digest.update(file.read(_END))
                file.seek(max(0, about[2] - _END))
                digest.update(file.read(_END))
    return digest.hexdigest()


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home, "robustbench_snn", "contents")


def _remembered(outline: str) -> str | None:
    try:
        text = (_cache() / outline).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else None


def _remember(outline: str, found: str) -> None:
    try:
        replace_file(_cache() / outline, found.encode())
    except StorageError:
        pass  # The next process reads the files again.
