"""Where a result came from: code version, library versions, machine, and what was typed."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


def utc_now() -> str:
    """The present moment in UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_run_id() -> str:
    """A name for one run: the UTC time and a random tail, ``20250131T115959-1a2b3c``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"


def version_of(distribution: str) -> str:
    """The installed version, or ``unknown``."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def provenance() -> dict[str, Any]:
    """The provenance columns of a results row; commit and dirty flag only from a checkout."""
    checkout = (_ROOT / ".git").exists()
    status = _git("status", "--porcelain", "--untracked-files=no") if checkout else None
    return {
        "package_version": version_of("robustbench-snn"),
        "git_commit": _git("rev-parse", "HEAD") if checkout else None,
        "git_dirty": None if status is None else bool(status),
        "torch_version": version_of("torch"),
        "spikingjelly_version": version_of("spikingjelly"),
        "python_version": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
