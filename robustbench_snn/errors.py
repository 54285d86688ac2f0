"""The mistakes a command reports in one sentence instead of a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class UsageError(Exception):
    """What was asked cannot be done as asked; the message says what was seen and what to do.

    Commands print it to standard error and exit with code 2.
    """


class PreflightRefused(Exception):  # noqa: N818 - a refusal, not an error
    """A model failed a check that must hold before any attack runs; commands exit with code 4."""


class StorageError(OSError):
    """A result could not be written: the disk is full, read-only, or something is in the way.

    What was stored before is kept; commands exit with code 3, and the same command goes on.
    """


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FOLDERS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Within, a full disk or a folder that cannot be written is a StorageError; others pass."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError) or error.errno not in _FULL | _FOLDERS:
            raise
        where = f"'{error.filename}'" if error.filename else "a file"
        remedy = "make room" if error.errno in _FULL else "name another place"
        raise StorageError(
            f"{where} could not be written ({error.strerror}): {remedy} and run the same command "
            "again; finished results are kept."
        ) from error
