"""Memory: how large a batch it holds, halving one that it does not, keeping what was given back."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")

# Numbers of mallopt(3); newer versions of glibc take the larger threshold, older ones the smaller.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE_BLOCKS = (1 << 30, 1 << 25)


def keep_large_blocks() -> bool:
    """Tell glibc to keep freed blocks for the next forward pass; changes no number.

    Otherwise every large tensor is mapped, zeroed page by page and unmapped again, which costs
    as much as the arithmetic. The process holds on to its peak memory in exchange.

    Returns:
        Whether the C library took the advice.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mapped = any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGE_BLOCKS)
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1)) and mapped


def _give_back() -> None:
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _status(key: str) -> int | None:
    """A size of this process in bytes, as the kernel states it; None where it does not."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = next((line for line in lines if line.startswith(key)), None)
    return None if found is None else int(found.split()[1]) * 1024


def process_now() -> int | None:
    """Resident size of this process, bytes; None if nothing tells."""
    return _status("VmRSS:")


def process_peak() -> int:
    """Largest resident size of this process so far, bytes."""
    # getrusage would count what the parent held when it started this process.
    if (peak := _status("VmHWM:")) is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held_bytes(device: torch.device) -> int | None:
    """Bytes in use now: on the GPU, or of the process; None if nothing tells."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else process_now()


def bytes_used(compute: Callable[[], object], device: torch.device) -> int | None:
    """What ``compute`` needed at its peak beyond what was held before; None if nothing tells."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        compute()
        return torch.cuda.max_memory_allocated(device) - held
    _give_back()
    try:
        # Resets the peak to what is resident now (proc(5)).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    held = process_peak()
    compute()
    return process_peak() - held


def bytes_free(device: torch.device) -> int | None:
    """Memory still to be had on ``device``, within the limits of its control groups; or None."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("MemAvailable:")), None)
    machine = int(found.split()[1]) * 1024 if found else None
    known = [free for free in (machine, group_free()) if free is not None]
    return min(known, default=None)


# Of a control group (cgroups(7)): folder below the mount, limit, usage, and what of the usage the
# kernel gives back by itself, in versions 2 and 1.
_GROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def group_free(
    listing: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes left to this process by the control groups it is in; None where none sets a limit.

    Args:
        listing: which groups the process is in.
        mount: where groups are mounted.
    """
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        for name in set(controllers.split(",")) & set(_GROUPS):
            folder, limit, usage, reclaimable = _GROUPS[name]
            top = mount / folder
            here = top / place.lstrip("/")
            # Inside a container the path may be that of the host, of which only the top is seen.
            chain = [here, *here.parents] if here.is_dir() else [top]
            for group in chain[: chain.index(top) + 1]:
                left.append(_left(group, limit, usage, reclaimable))
    return min((value for value in left if value is not None), default=None)


def _left(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    try:
        most = int((group / limit).read_text(encoding="ascii"))
        used = int((group / usage).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # Not there, or "max".
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        used -= next(int(n) for name, n in map(str.split, lines) if name == reclaimable)
    except (OSError, ValueError, StopIteration):
        pass
    return max(0, most - max(0, used))


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a GPU or in the process."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def with_backoff(
    compute: Callable[[int], T], batch_size: int, fixed: bool = False
) -> tuple[T, int, int]:
    """``compute(batch_size)``, with half the batch each time memory runs out.

    Args:
        compute: starts over on every call.
        batch_size: first try.
        fixed: whether another batch size would change the numbers, so that it is not tried.

    Returns:
        (result, batch size that fitted, number of tries that did not).

    Raises:
        MemoryError: one sample at a time does not fit, or the batch is fixed and does not.
    """
    retries = 0
    while True:
        try:
            return compute(batch_size), batch_size, retries
        except Exception as error:
            if not out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if fixed:
            raise MemoryError(
                f"a batch of {batch_size} does not fit in memory, and a smaller one would change "
                f"this result: choose a smaller --batch-size ({reason})"
            )
        if batch_size == 1:
            raise MemoryError(f"a single sample does not fit in memory ({reason})")
        # Outside the handler, so that the traceback no longer holds the tensors.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        batch_size, retries = batch_size // 2, retries + 1
