"""The main command in a process of its own, to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = Path(__file__).parent / "tiny_models.py"


def start(words: Sequence[object], delay: float) -> subprocess.Popen[str]:
    """``run`` on the tiny models, each forward pass ``delay`` seconds longer."""
    return subprocess.Popen(
        [sys.executable, "-m", "robustbench_snn.run", "--plugin", PLUGIN, *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"TINY_DELAY": str(delay), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,
    )


def _hear_interrupts() -> None:
    # A shell without job control starts background commands, and so all their children, with
    # SIGINT ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
