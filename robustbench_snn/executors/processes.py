"""One process per core of this machine, each with its own model and a single thread.

Several single-threaded processes do more than one process with several threads, because the
layers between two convolutions are too short to be worth splitting.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from robustbench_snn.config import RunConfig
from robustbench_snn.errors import PreflightRefused, UsageError
from robustbench_snn.executors.ledger import MOST_TRIES, Ledger
from robustbench_snn.plan import Cell, Task
from robustbench_snn.rows import Row
from robustbench_snn.worker import Tick, Worker

# An idle process ends by itself and cleans up; one that is interrupted is not waited for.
_GOODBYE, _LAST_MOMENT = 10.0, 0.2
# Seconds: a worker says that it lives every _BEAT; one that is silent for _SILENCE is replaced, one
# that has not yet spoken, because it is loading torch, for _FIRST.
_BEAT, _ROUND, _SILENCE, _FIRST = 5.0, 5.0, 60.0, 600.0


def cores() -> int:
    """CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def devices(config: RunConfig, worker: Worker, workers: int) -> list[str]:
    """The device of each of ``workers`` workers: GPUs in turn, unless one was named."""
    if worker.device.type == "cpu":
        return ["cpu"] * workers
    if config.device.startswith("cuda:"):
        return [config.device] * workers
    import torch

    return [f"cuda:{i % torch.cuda.device_count()}" for i in range(workers)]


def processes(
    tasks: Sequence[Task], worker: Worker, tick: Tick, workers: int | None = None
) -> Iterator[Row]:
    """The executor that spreads tasks over processes of this machine.

    A process that dies, or gives no sign of life for a minute because it is stopped, is replaced
    and its task done again; ``worker_retries`` of the rows says how often. Processes end with the
    parent, however that ends.

    Args:
        tasks, worker, tick: as every executor takes them.
        workers: how many; None takes one per core, or per GPU.

    Raises:
        UsageError, PreflightRefused: as raised by a worker.
        RuntimeError: processes die before they take a task.
    """
    if workers is None:
        import torch

        workers = cores() if worker.device.type == "cpu" else torch.cuda.device_count()
    workers = min(workers, len(tasks))
    if not workers:
        return
    config, places = worker.config, devices(worker.config, worker, workers)
    threads = max(1, cores() // workers)
    ledger = Ledger(tasks, worker)
    crew = {
        slot: _Member(replace(config, device=place, workers=workers), worker.run_id, threads)
        for slot, place in enumerate(places)
    }
    try:
        while ledger.open:
            for slot, member in crew.items():
                if not ledger.busy(slot) and (task := ledger.take(slot)):
                    member.give(task)
            slots = {member.pipe: slot for slot, member in crew.items()}
            begun = time.monotonic()
            ready = wait(list(slots), timeout=_ROUND)
            # No more than a round, so that a parent that was stopped itself blames nobody.
            passed = min(time.monotonic() - begun, _ROUND)
            silent = [slot for pipe, slot in slots.items() if pipe not in ready]
            yield from _replaced(crew, ledger, silent, passed)
            for slot in [slots[pipe] for pipe in ready]:  # type: ignore[index]
                yield from _answer(crew, ledger, slot, tick)
    finally:
        finished = not ledger.open
        if finished:
            for member in crew.values():
                member.pipe.close()
        for member in crew.values():
            member.end(_GOODBYE if finished else _LAST_MOMENT)


def _answer(crew: dict[int, _Member], ledger: Ledger, slot: int, tick: Tick) -> Iterator[Row]:
    """Take in what a process says; one that has died is replaced."""
    try:
        kind, value = crew[slot].pipe.recv()
    except (EOFError, OSError):
        if ledger.busy(slot):
            yield from ledger.lost(slot, crew[slot].end())
        if ledger.open:
            crew[slot] = crew[slot].successor()
        return
    crew[slot].silent, crew[slot].spoke = 0.0, True
    yield from _heard(ledger, slot, tick, kind, value)
    crew[slot].early_deaths = 0


def _replaced(
    crew: dict[int, _Member], ledger: Ledger, silent: Sequence[int], passed: float
) -> Iterator[Row]:
    """Put new processes in the place of those that were ``silent`` for too long."""
    for slot in silent:
        if not crew[slot].is_silent(passed):
            continue
        crew[slot].end()
        if ledger.busy(slot):
            yield from ledger.lost(slot, "stopped, or without a sign of life")
        if ledger.open:
            crew[slot] = crew[slot].successor()


def _heard(ledger: Ledger, slot: int, tick: Tick, kind: str, value: Any) -> Iterator[Row]:
    if kind == "error":
        raise value
    if kind == "tick":
        key, done = value
        tick(ledger.cells(slot, key), done)
    elif kind == "row":
        yield ledger.row(slot, value)
    elif kind == "done":
        ledger.done(slot)


class _Member:
    """One worker process and our end of the pipe to it."""

    def __init__(self, config: RunConfig, run_id: str, threads: int, early_deaths: int = 0) -> None:
        self._settings = (config, run_id, threads)
        self.early_deaths = early_deaths
        self.silent, self.spoke = 0.0, False
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, *self._settings, _BEAT),
            daemon=True,
            name="robustbench-worker",
        )
        self._process.start()
        # Once the process is dead, no open end of its side is left, and we read the end of file.
        theirs.close()

    def is_silent(self, passed: float) -> bool:
        """Whether nothing was heard for too long, after ``passed`` more seconds of waiting."""
        self.silent += passed
        return self.silent > (_SILENCE if self.spoke else _FIRST)

    def give(self, task: Task) -> None:
        """Send a task; that the process is dead shows when its answer is read."""
        try:
            self.pipe.send(task)
        except OSError:
            pass

    def end(self, patience: float = _LAST_MOMENT) -> str:
        """Make sure that the process is gone after ``patience`` seconds; says how it went."""
        self._process.join(timeout=patience if self._process.exitcode is None else 0)
        self._process.kill()
        self._process.join()
        self.pipe.close()
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def successor(self) -> _Member:
        """A new process in place of this dead one."""
        how = self.end() if not self.pipe.closed else "died"
        if self.early_deaths + 1 >= MOST_TRIES:
            raise RuntimeError(f"worker processes die before they answer ({how}).")
        return _Member(*self._settings, self.early_deaths + 1)


def serve(
    pipe: Connection, config: RunConfig, run_id: str, threads: int, beat: float = _BEAT
) -> None:
    """What a worker process does: answer one task after another until the pipe closes."""
    # Ctrl-C reaches the whole group; the parent decides what ends when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    turn = threading.Lock()

    def send(kind: str, value: Any = None) -> None:
        with turn:
            pipe.send((kind, value))

    threading.Thread(target=_beat, args=(send, beat), daemon=True).start()
    try:
        import torch

        torch.set_num_threads(threads)
        worker = Worker(config, run_id)
        send("ready")
        while True:
            task: Task = pipe.recv()

            def tick(cells: Sequence[Cell], done: int) -> None:
                send("tick", (cells[0].key, done))

            for row in worker.run(task, tick):
                send("row", row)
            send("done")
    except (EOFError, BrokenPipeError):
        return
    except (UsageError, PreflightRefused) as error:
        send("error", error)


def _beat(send: Callable[[str], None], seconds: float) -> None:
    while True:
        time.sleep(seconds)
        try:
            send("alive")
        except OSError:
            return


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
