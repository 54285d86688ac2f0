"""Progress of an evaluation of maps: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

_LINES = 5


class Bar:
    """Shows on standard error how many results of a model are done.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._title = ""
        self._total = self._done = self._printed = 0
        self._begun = 0.0

    def say(self, text: str) -> None:
        """One line, unless quiet."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def begin(self, title: str, total: int, kept: int) -> None:
        """Start on ``total`` results, ``kept`` others being on disk already."""
        self._title, self._total, self._done, self._printed = title, total, 0, 0
        self._begun = time.monotonic()
        if kept:
            self.say(f"{title}: {kept} of {kept + total} results are on disk already")
        if self._quiet or not total or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total)
        self._bar.start()

    def advance(self, text: str) -> None:
        """One more result is stored; ``text`` says which."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, description=f"{self._title} {text}")
        elif _LINES * self._done // self._total > self._printed:
            self._printed = _LINES * self._done // self._total
            left = (time.monotonic() - self._begun) * (self._total - self._done) / self._done
            self.say(f"{self._title}  {self._done}/{self._total}  {text}  {left:.0f} s left")

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
