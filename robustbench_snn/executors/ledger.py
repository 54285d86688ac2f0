"""Which tasks wait, which are out with a worker, and what becomes of those a dead worker held."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustbench_snn.plan import Cell, Task
from robustbench_snn.rows import Row
from robustbench_snn.worker import Worker

MOST_TRIES = 3


@dataclass
class _Errand:
    task: Task
    lost: int = 0


class Ledger:
    """Hands tasks out in order and takes rows in; a lost task is handed out again.

    Args:
        tasks: what there is to do.
        worker: words the failed rows of tasks that are given up.
    """

    def __init__(self, tasks: Sequence[Task], worker: Worker) -> None:
        self._waiting = deque(_Errand(task) for task in tasks)
        self._out: dict[int, _Errand] = {}
        self._worker = worker

    @property
    def open(self) -> bool:
        """Whether anything is left to do or still out."""
        return bool(self._waiting or self._out)

    def take(self, slot: int) -> Task | None:
        """The next task, now out with worker number ``slot``; None when none waits."""
        if not self._waiting:
            return None
        self._out[slot] = self._waiting.popleft()
        return self._out[slot].task

    def busy(self, slot: int) -> bool:
        """Whether worker number ``slot`` holds a task."""
        return slot in self._out

    def cells(self, slot: int, key: str) -> Sequence[Cell]:
        """The computation of the slot's task that holds the cell ``key``."""
        groups = self._out[slot].task.groups
        return next(cells for cells in groups if any(cell.key == key for cell in cells))

    def row(self, slot: int, row: Row) -> Row:
        """Note a row of the slot's task, and write into it how often its task was lost."""
        errand = self._out[slot]
        kept = (
            tuple(cell for cell in cells if cell.key != row["key"]) for cells in errand.task.groups
        )
        errand.task = replace(errand.task, groups=tuple(cells for cells in kept if cells))
        return row | {"worker_retries": errand.lost}

    def done(self, slot: int) -> None:
        """The slot's task is finished."""
        del self._out[slot]

    def lost(self, slot: int, reason: str) -> list[Row]:
        """The slot's worker died: what it had not delivered waits again, first in line.

        Returns:
            Failed rows once a task has cost several workers, which says that it is to blame.
        """
        errand = self._out.pop(slot)
        errand.lost += 1
        if not errand.task.groups:
            return []
        if errand.lost < MOST_TRIES:
            self._waiting.appendleft(errand)
            return []
        error = RuntimeError(f"{errand.lost} workers died at it, the last one: {reason}")
        rows = self._worker.failed(errand.task, errand.task.cells, error)
        return [row | {"worker_retries": errand.lost - 1} for row in rows]
