"""Neuron layers of ``lif.cpp``: compiled once per machine, same bits as the eager ones.

Where there is no C++ compiler, another processor, or a result that differs in a single bit from
the eager layers', those are used.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from ctypes import c_float, c_int, c_int64, c_void_p
from pathlib import Path

import torch

SOURCE = Path(__file__).parent / "lif.cpp"
OFF = "ROBUSTBENCH_SNN_NATIVE"  # set to 0 to keep to the eager layers
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


def compiler() -> str | None:
    """The C++ compiler: ``$CXX``, ``c++`` or ``g++``."""
    names = (os.environ.get("CXX", ""), "c++", "g++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def cache_folder() -> Path:
    """Where compiled layers are kept: under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "robustbench_snn"


def build(folder: Path) -> Path | None:
    """The compiled library in ``folder``, made if it is not there; None where it cannot be."""
    flags = _FLAGS.get(torch.backends.cpu.get_cpu_capability())
    cxx = compiler()
    if flags is None or cxx is None:
        return None
    command = [cxx, "-O3", *flags, "-ffp-contract=off", "-std=c++17", "-shared", "-fPIC"]
    command += [str(SOURCE)]
    content = SOURCE.read_bytes() + repr(command).encode()
    target = folder / f"lif-{hashlib.sha256(content).hexdigest()[:16]}.so"
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / target.name
            subprocess.run([*command, "-o", str(made)], check=True, capture_output=True)
            # Atomic, so that processes that start together cannot read half a file.
            os.replace(made, target)
    except (OSError, subprocess.CalledProcessError):
        return None
    return target


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled layers, checked against the eager ones; None where they must not be used."""
    if os.environ.get(OFF) == "0":
        return None
    try:
        path = build(cache_folder())
        found = ctypes.CDLL(str(path)) if path else None
    except OSError:
        return None
    if found is None:
        return None
    for name, arguments in _SIGNATURES.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    from robustbench_snn.models.native_layers import agrees

    return found if agrees(found) else None
