"""Neuron layers of ``lif.cpp``: compiled once per machine, same bits as the eager ones.

Where they cannot be had (no C++ compiler, another processor, a result that differs in a single bit
from the eager layers'), the eager ones are used, and one line says why.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ctypes import c_float, c_int, c_int64, c_void_p
from pathlib import Path

import torch

SOURCE = Path(__file__).parent / "lif.cpp"
OFF = "ROBUSTBENCH_SNN_NATIVE"  # set to 0 to keep to the eager layers
COMPILER_LIMIT = 120.0  # seconds
_FLAGS = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
    "AVX2": ("-mavx2", "-mfma"),
}
_RANGE = (c_int64, c_int64)
_SIGNATURES = {
    "lif_forward": (
        *(c_void_p, c_int64, c_void_p, c_int64, c_int64, c_float, c_int),
        *(c_void_p, c_void_p, c_int64, c_int64, *_RANGE),
    ),
    "lif_backward": (
        *(c_void_p, c_int64, c_void_p, c_void_p, c_int64, c_int64, c_float, c_float, c_int),
        *(c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_int64, *_RANGE),
    ),
    "pool_forward": (
        *(c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int),
        *(c_void_p, c_void_p, c_int64, *_RANGE),
    ),
    "pool_backward": (
        *(c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int),
        *(c_void_p, c_void_p, c_int64, *_RANGE),
    ),
}


class LibraryError(Exception):
    """Why the compiled layers cannot be used here, in a few words."""


def compiler() -> str | None:
    """The C++ compiler: ``$CXX``, ``c++`` or ``g++``."""
    names = (os.environ.get("CXX", ""), "c++", "g++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def cache_folder() -> Path:
    """Where compiled layers are kept: under ``$XDG_CACHE_HOME`` or ``~/.cache``.

    A relative ``$XDG_CACHE_HOME`` is passed over, as the XDG base directory specification wants.

    Raises:
        LibraryError: there is no home folder.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not root.is_absolute():
        try:
            root = Path.home() / ".cache"
        except RuntimeError:
            raise LibraryError("there is no home folder; set XDG_CACHE_HOME") from None
    if not root.is_absolute():
        raise LibraryError(f"the home folder '{root.parent}' is not an absolute path")
    return root / "robustbench_snn"


def build(folder: Path) -> Path | None:
    """The compiled library in ``folder``, made if it is not there whole.

    Its SHA-256 stands beside it. ``folder`` and library must be the user's own and writable by
    nobody else, since whoever writes there decides what is run.

    Returns:
        The library; None on processors it is not written for.

    Raises:
        LibraryError: no compiler, one that fails or takes over ``COMPILER_LIMIT``, or a folder or
            library that others may change.
        OSError: ``folder`` cannot be read or written.
    """
    flags = _FLAGS.get(torch.backends.cpu.get_cpu_capability())
    if flags is None or os.name != "posix":
        return None
    cxx = compiler()
    if cxx is None:
        raise LibraryError("there is no C++ compiler ($CXX, c++ or g++)")
    command = [cxx, "-O3", *flags, "-ffp-contract=off", "-std=c++17", "-shared", "-fPIC"]
    command += [str(SOURCE)]
    content = SOURCE.read_bytes() + repr(command).encode()
    target = folder / f"lif-{hashlib.sha256(content).hexdigest()[:16]}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_foreign(folder, folder.stat())
    if os.path.lexists(target):
        _refuse_foreign(target, target.lstat())
        if _digest(target) == _noted_digest(target):
            return target
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / target.name
        _compile([*command, "-o", str(made)], Path(scratch) / "messages")
        made.chmod(0o700)
        noted = _beside(made)
        noted.write_text(f"{_digest(made)}  {target.name}\n")
        # Each atomic, so that processes that start together cannot read half a file.
        os.replace(made, target)
        os.replace(noted, _beside(target))
    return target


def _refuse_foreign(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise LibraryError(f"'{path}' belongs to another user; remove it or set XDG_CACHE_HOME")
    if stat.S_ISLNK(found.st_mode):
        raise LibraryError(f"'{path}' is a link; remove it")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LibraryError(f"'{path}' is writable by others; run: chmod go-w '{path}'")


def _beside(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


def _noted_digest(library: Path) -> str:
    try:
        return _beside(library).read_text().partition(" ")[0]
    except (OSError, UnicodeDecodeError):
        return ""


def _compile(command: Sequence[str], messages: Path) -> None:
    with messages.open("wb") as log:
        # A group of its own, so that what the compiler has started ends with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = process.wait(COMPILER_LIMIT)
        except subprocess.TimeoutExpired:
            raise LibraryError(f"{command[0]} did not end in {COMPILER_LIMIT:g} seconds") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        said = messages.read_text(errors="replace").splitlines()
        why = next((line for line in said if "error" in line), "it says nothing")
        raise LibraryError(f"{command[0]} failed with exit code {code} ({why[:200]})")


def _checked() -> ctypes.CDLL | None:
    path = build(cache_folder())
    if path is None:
        return None
    try:
        found = ctypes.CDLL(str(path))
        for name, arguments in _SIGNATURES.items():
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, None
    except (OSError, AttributeError) as error:
        # A mended compiler gets another chance at the next start.
        _beside(path).unlink(missing_ok=True)
        raise LibraryError(f"the compiler made a library that does not load ({error})") from None
    from robustbench_snn.models.native_layers import agrees

    if not agrees(found):
        raise LibraryError("they differ from the eager layers on this machine")
    return found


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled layers, checked against the eager ones; None where they must not be used.

    Where that is for a fault of the machine, standard error gets one line, and ``OFF`` is set, so
    that worker processes neither try nor say it again.
    """
    if os.environ.get(OFF) == "0":
        return None
    try:
        return _checked()
    except (LibraryError, OSError) as error:
        os.environ[OFF] = "0"
        why = " ".join(str(error).split())
        print(
            f"note: eager neuron layers are used, slower and with the same results: {why}.",
            file=sys.stderr,
        )
        return None
