"""Checks on the folder a user names with ``--data-dir``."""

from __future__ import annotations

from pathlib import Path

from robustbench_snn.errors import UsageError


def require_folder(name: str, folder: Path, layout: str) -> None:
    """Raises UsageError unless ``folder`` is a folder that can be listed and holds something.

    Args:
        name: the data set, for the message.
        folder: what the user gave.
        layout: what the folder must hold, for the message.
    """
    if not folder.is_dir():
        seen = "is a file" if folder.exists() else "does not exist"
        raise UsageError(
            f"the {name} folder {folder} {seen}: --data-dir takes a folder that holds {layout}."
        )
    try:
        empty = next(folder.iterdir(), None) is None
    except OSError as error:
        raise UsageError(
            f"the {name} folder {folder} cannot be listed ({error.strerror}): change its "
            "permissions or name another one with --data-dir."
        ) from error
    if empty:
        raise UsageError(f"the {name} folder {folder} is empty: it must hold {layout}.")
