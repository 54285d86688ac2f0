"""Keep the C library from handing large blocks back to the system after every layer."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_large_blocks() -> bool:
    """Reuse freed memory instead of unmapping it; True where the C library allows it.

    A spiking network frees and asks for the same megabytes at every layer, and fresh pages cost
    more than the arithmetic. Results stay bit for bit the same. Does nothing off glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
