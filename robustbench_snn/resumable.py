"""A download over HTTP that goes on where an earlier one stopped."""

from __future__ import annotations

import http.client
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustbench_snn.errors import UsageError

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A file somewhere on the web.

    Attributes:
        url: its address.
        host: the start of the address, for messages.
        file: its name.
        what: the file and where it belongs, for messages.
        size: bytes.
        otherwise: how to do without the download, as the end of a sentence.
        headers: sent to the host itself, but not to where it redirects.
    """

    url: str
    host: str
    file: str
    what: str
    size: int
    otherwise: str
    headers: Mapping[str, str] = field(default_factory=dict)


def looks_like_html(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a web page."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype", b"<html", b"<?xml"))


class Line:
    """One line that says how far a download is, rewritten on a terminal only."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = -1

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // total
        step = percent if sys.stderr.isatty() else percent - percent % 10
        if step != self._shown:
            self._shown = step
            end = "\r" if sys.stderr.isatty() and done < total else "\n"
            print(f"{self._name}: {step} % of {total / 1e9:.2f} GB", end=end, file=sys.stderr)


def complete(source: Source, part: Path, progress: Progress) -> None:
    """Append to ``part`` what it still lacks of ``source``; its content is not checked here.

    Args:
        source: what to fetch.
        part: the unfinished file, kept whatever happens.
        progress: called with (bytes so far, bytes in all).

    Raises:
        UsageError: offline, refused, interrupted, a web page, or no room to write.
    """
    start = part.stat().st_size if part.is_file() else 0
    if start < source.size:
        with _open(source, start) as response:
            try:
                _store(response, part, _starts_at(response, start), source, progress)
            except (http.client.HTTPException, TimeoutError, ConnectionError):
                # What arrived is kept; the size check below says how to go on.
                pass
            except OSError as error:
                raise UsageError(
                    f"cannot write '{part}' ({error.strerror}): free space or give another folder."
                ) from error
    size = part.stat().st_size
    if size < source.size:
        raise UsageError(
            f"the download of {source.file} stopped at {size} of {source.size} bytes: run the "
            "same command again to go on from there."
        )


def _open(source: Source, start: int) -> Any:
    """The response for the bytes from ``start`` on; UsageError when the host cannot give them."""
    if not source.host.startswith(("https://", "http://")):
        raise UsageError(f"'{source.host}' is not the start of a web address: give https://...")
    request = urllib.request.Request(source.url)
    for name, value in source.headers.items():
        request.add_unredirected_header(name, value)
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            raise UsageError(
                f"{source.host} answered {error.code} for {source.what}: try again later, "
                f"{source.otherwise}."
            ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(
            f"cannot reach {source.host} ({reason}): go online and run the same command again, "
            f"{source.otherwise}."
        ) from error


def _starts_at(response: Any, start: int) -> int:
    """Where the response's bytes belong: ``start``, or 0 when the host sends the whole file."""
    if response.status != 206:
        return 0
    said = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if said is None or int(said[1]) != start:
        raise UsageError(
            "the host answered with another part of the file than was asked for: delete the "
            "unfinished file and run the same command again."
        )
    return start


def _store(response: Any, part: Path, start: int, source: Source, progress: Progress) -> None:
    """Append the response to ``part`` from ``start``; a web page is refused before it is saved."""
    first = response.read(CHUNK)
    kind = response.headers.get_content_type()
    if kind == "text/html" or (start == 0 and looks_like_html(first[:64])):
        raise UsageError(
            f"the host sent a web page instead of {source.file}: nothing was saved; try again "
            "later."
        )
    done = start
    with part.open("r+b" if start else "wb") as stored:
        stored.seek(start)
        chunk = first
        while chunk and done <= source.size:
            stored.write(chunk)
            done += len(chunk)
            progress(done, source.size)
            chunk = response.read(CHUNK)
        stored.truncate()
