"""How every command ends: a polite kill like Ctrl-C, a full disk in one sentence."""

from __future__ import annotations

import errno
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from robustbench_snn.errors import StorageError

INTERRUPTED, NOT_STORED = 130, 3

Main = Callable[..., int]

# A disk that takes no more, or something in the way of a file.
_STORAGE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}
# What torch and safetensors say instead of raising OSError.
_TEXTS = ("PytorchStreamWriter failed", "unexpected pos", "No space left on device")


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Within it SIGTERM raises KeyboardInterrupt, as Ctrl-C does; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def storage_sentence(error: BaseException) -> str | None:
    """One sentence for an error that says that something could not be written; None for others."""
    if isinstance(error, StorageError):
        return str(error)
    full = isinstance(error, OSError) and error.errno in _STORAGE
    if not full and not any(text in str(error) for text in _TEXTS):
        return None
    reason = str(error).splitlines()[0].rstrip(".")
    return (
        f"a file cannot be written ({reason}); what is finished is kept: make room, or mend the "
        "folder, and the same command goes on."
    )


def ended_politely(main: Main) -> Main:
    """A command's ``main`` that ends with a code whatever ends it: 130 interrupted, 3 disk full."""

    @functools.wraps(main)
    def ended(*given: Any, **named: Any) -> int:
        with sigterm_interrupts():
            try:
                return main(*given, **named)
            except KeyboardInterrupt:
                print("\ninterrupted; what is finished is kept.", file=sys.stderr)
                return INTERRUPTED
            except Exception as error:
                sentence = storage_sentence(error)
                if sentence is None:
                    raise
                print(f"error: {sentence}", file=sys.stderr)
                return NOT_STORED

    return ended
