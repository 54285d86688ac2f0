"""What a run will cost, from one batch of each model and the number of gradients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_snn.attacks.base import cross_entropy_gradient
from robustbench_snn.config import RunConfig
from robustbench_snn.memory import bytes_used, held_bytes
from robustbench_snn.plan import Task, forwards, work
from robustbench_snn.provenance import new_run_id
from robustbench_snn.report.tables import to_markdown
from robustbench_snn.runner import survey
from robustbench_snn.worker import Worker

_SAMPLES, _WARM = 16, 2
COLUMNS = ("model", "shards", "to do", "gradient calls", "gradients", "forwards", "time", "MiB")


@dataclass(frozen=True)
class Each:
    """Seconds of one sample: a forward pass, a gradient (0 when none is needed)."""

    forward: float
    gradient: float


def first_batch(worker: Worker, task: Task, count: int) -> tuple[Tensor, Tensor]:
    """Images and labels of the first ``count`` samples of ``task``, or all if fewer."""
    shard, card = task.shard, worker.model(task.model.name).card
    places = range(shard.start, min(shard.start + count, shard.stop))
    batch = worker.images(card, task.data).batch(places)
    return worker.tensors(batch.x, batch.y)


def seconds_per_forward(worker: Worker, task: Task) -> float:
    """Seconds of one forward pass per sample, measured on the first samples of ``task``."""
    model = worker.model(task.model.name)
    x, _ = first_batch(worker, task, min(_SAMPLES, worker.config.batch_size))

    def forward(count: int) -> Tensor:
        with torch.no_grad():
            return model(x[:count])

    return _seconds(forward, len(x)) / len(x)


def seconds_each(worker: Worker, task: Task) -> Each:
    """Seconds per sample, measured on a few samples: a whole batch would cost like a small run."""
    if not any(work(cells)[0] for cells in task.groups):
        return Each(seconds_per_forward(worker, task), 0.0)
    attacked = worker.attacked(task.model.name)
    x, y = first_batch(worker, task, min(_SAMPLES, worker.config.batch_size))
    gradient = _seconds(lambda n: cross_entropy_gradient(attacked, x[:n], y[:n]), len(x)) / len(x)
    return Each(seconds_per_forward(worker, task), gradient)


def _seconds(compute: Callable[[int], Tensor], count: int) -> float:
    """Time of ``compute`` on ``count`` samples, after one warm-up on fewer."""
    compute(min(_WARM, count))
    begun = time.perf_counter()
    # Reading a value waits for the device.
    compute(count).sum().item()
    return time.perf_counter() - begun


def whole_batch(worker: Worker, task: Task, each: Each) -> int | None:
    """Bytes at the peak of a worker's whole batch, from what a few samples take; None if unknown.

    Args:
        worker, task: what runs.
        each: as measured, which says whether there are gradients.
    """
    attacked = worker.attacked(task.model.name)
    x, y = first_batch(worker, task, _WARM)

    def few() -> None:
        if each.gradient:
            cross_entropy_gradient(attacked, x, y)
        else:
            with torch.no_grad():
                attacked(x)

    held = held_bytes(worker.device)
    used = bytes_used(few, worker.device)
    size = min(worker.batch_size(task.model.name), len(task.shard))
    return None if used is None or held is None else held + used * size // len(x)


def seconds_left(tasks: Sequence[Task], worker: Worker) -> float:
    """Rough time that ``tasks`` take one after another in this process."""
    each = {task.model.name: seconds_per_forward(worker, task) for task in _first(tasks)}
    return sum(
        len(task.shard) * forwards(cells) * each[task.model.name]
        for task in tasks
        for cells in task.groups
    )


def _first(tasks: Iterable[Task]) -> list[Task]:
    first: dict[str, Task] = {}
    for task in tasks:
        first.setdefault(task.model.name, task)
    return list(first.values())


def estimate(config: RunConfig) -> str:
    """What running ``config`` takes: a table, and what it was worked out from.

    Raises:
        UsageError: the configuration cannot be run as asked.
    """
    worker = Worker(config, new_run_id())
    session = survey(config, worker, worker.run_id)
    records, seconds = [], 0.0
    for first in _first(session.tasks):
        name = first.model.name
        todo = [task for task in session.todo if task.model.name == name]
        record, spent = _record(worker, first, todo)
        record |= {"shards": str(sum(task.model.name == name for task in session.tasks))}
        records.append({key: record[key] for key in COLUMNS})
        seconds += spent
    threads = torch.get_num_threads()
    return (
        f"{to_markdown(records, COLUMNS)}\n"
        f"{duration(seconds)} in one process ({session.device}, {threads} threads), from a few "
        f"samples of each model measured just now; divide by the number of workers. MiB: peak of a "
        f"worker with batches of {config.batch_size}, or as many as fit."
    )


def duration(seconds: float) -> str:
    """A time in the unit that suits it: ``25 s``, ``4.1 min``, ``3.2 hours``."""
    units = (("hours", 3600), ("min", 60))
    unit, size = next((pair for pair in units if seconds >= 2 * pair[1]), ("s", 1))
    value = seconds / size
    return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"


def _record(worker: Worker, first: Task, todo: Sequence[Task]) -> tuple[dict[str, str], float]:
    size = worker.config.batch_size
    calls = gradients = passes = 0
    for task in todo:
        passes += len(task.shard)
        for cells in task.groups:
            per_sample, alone = work(cells)
            calls += per_sample * -(-len(task.shard) // size)
            gradients += per_sample * len(task.shard)
            passes += alone * len(task.shard)
    each = seconds_each(worker, todo[0]) if todo else Each(0.0, 0.0)
    seconds = gradients * each.gradient + passes * each.forward
    peak = whole_batch(worker, todo[0], each) if todo else None
    return {
        "model": first.model.name,
        "to do": str(len(todo)),
        "gradient calls": f"{calls:,}",
        "gradients": f"{gradients:,}",
        "forwards": f"{passes:,}",
        "time": duration(seconds),
        "MiB": "" if peak is None else f"{peak / 2**20:,.0f}",
    }, seconds
