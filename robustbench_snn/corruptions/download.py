"""Download one published archive: resumable, and never trusted before size and checksum agree."""

from __future__ import annotations

import hashlib
from pathlib import Path

from robustbench_snn.corruptions.archives import HOST, Archive
from robustbench_snn.errors import UsageError
from robustbench_snn.resumable import Progress, Source, complete


def _silent(done: int, total: int) -> None:
    return None


def _source(archive: Archive, host: str, to: Path) -> Source:
    return Source(
        url=archive.url(host),
        host=host,
        file=archive.file,
        what=f"{archive.file} of record {archive.record}",
        size=archive.size,
        otherwise=f"or put {archive.file} of Zenodo record {archive.record} into '{to}' yourself",
    )


def _md5(path: Path) -> str:
    with path.open("rb") as stored:
        return hashlib.file_digest(stored, "md5").hexdigest()


def _is_complete(target: Path, archive: Archive) -> bool:
    """Whether the whole archive is there already; UsageError when something else has its name."""
    if not target.is_file():
        return False
    if target.stat().st_size == archive.size and _md5(target) == archive.md5:
        return True
    raise UsageError(
        f"'{target}' is not the published {archive.file} (other size or md5): move it away and run "
        "the same command again."
    )


def _check(part: Path, archive: Archive) -> None:
    size = part.stat().st_size
    digest = _md5(part) if size == archive.size else ""
    if digest != archive.md5:
        part.unlink()
        seen = f"md5 {digest}" if digest else f"{size} bytes"
        wanted = f"md5 {archive.md5}" if digest else f"{archive.size} bytes"
        raise UsageError(
            f"{archive.file} arrived with {seen} instead of {wanted} and was deleted: run the "
            "same command again."
        )


def download(archive: Archive, to: Path, host: str = HOST, progress: Progress = _silent) -> Path:
    """Fetch ``archive`` into the folder ``to`` and check it; an existing good file is kept.

    Args:
        archive: what to fetch.
        to: folder, created when missing; an unfinished download lies there as ``<file>.part``.
        host: start of the address, for a mirror.
        progress: called with (bytes so far, bytes in all).

    Returns:
        Path of the complete file.

    Raises:
        UsageError: offline, refused, interrupted, a web page, or wrong size or checksum.
    """
    target = to / archive.file
    if _is_complete(target, archive):
        return target
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write to '{to}' ({error.strerror}): give another folder."
        ) from error
    part = to / f"{archive.file}.part"
    complete(_source(archive, host, to), part, progress)
    _check(part, archive)
    part.replace(target)
    return target
