"""The mistakes a command reports in one sentence instead of a traceback."""

from __future__ import annotations


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
