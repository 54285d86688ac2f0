"""Download one published archive: resumable, and never trusted before size and checksum agree."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustbench_snn.corruptions.archives import HOST, Archive
from robustbench_snn.corruptions.npy_files import looks_like_html
from robustbench_snn.errors import UsageError

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60

Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    return None


def _by_hand(archive: Archive, to: Path) -> str:
    return f"or put {archive.file} of Zenodo record {archive.record} into '{to}' yourself"


def _open(archive: Archive, host: str, to: Path, start: int) -> Any:
    """The response for the bytes from ``start`` on; UsageError when the host cannot give them."""
    if not host.startswith(("https://", "http://")):
        raise UsageError(f"'{host}' is not the start of a web address: give https://...")
    request = urllib.request.Request(archive.url(host))
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            raise UsageError(
                f"{host} answered {error.code} for {archive.file} of record {archive.record}: "
                f"try again later, {_by_hand(archive, to)}."
            ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(
            f"cannot reach {host} ({reason}): go online and run the same command again, "
            f"{_by_hand(archive, to)}."
        ) from error


def _starts_at(response: Any, start: int) -> int:
    """Where the response's bytes belong: ``start``, or 0 when the host sends the whole file."""
    if response.status != 206:
        return 0
    said = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if said is None or int(said[1]) != start:
        raise UsageError(
            "the host answered with another part of the file than was asked for: delete the "
            "'.part' file and run the same command again."
        )
    return start


def _store(response: Any, part: Path, start: int, archive: Archive, progress: Progress) -> None:
    """Append the response to ``part`` from ``start``; a web page is refused before it is saved."""
    first = response.read(CHUNK)
    kind = response.headers.get_content_type()
    if kind == "text/html" or (start == 0 and looks_like_html(first[:64])):
        raise UsageError(
            f"the host sent a web page instead of {archive.file}: nothing was saved; try again "
            "later."
        )
    done = start
    with part.open("r+b" if start else "wb") as stored:
        stored.seek(start)
        chunk = first
        while chunk and done <= archive.size:
            stored.write(chunk)
            done += len(chunk)
            progress(done, archive.size)
            chunk = response.read(CHUNK)
        stored.truncate()


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
    if size < archive.size:
        raise UsageError(
            f"the download of {archive.file} stopped at {size} of {archive.size} bytes: run the "
            "same command again to go on from there."
        )
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
    start = part.stat().st_size if part.is_file() else 0
    if start < archive.size:
        with _open(archive, host, to, start) as response:
            try:
                _store(response, part, _starts_at(response, start), archive, progress)
            except (http.client.HTTPException, TimeoutError, ConnectionError):
                # What arrived is kept; the size check below says how to go on.
                pass
            except OSError as error:
                raise UsageError(
                    f"cannot write '{part}' ({error.strerror}): free space or give another folder."
                ) from error
    _check(part, archive)
    part.replace(target)
    return target
