"""What a run will cost, from one batch of each model and the number of gradients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_snn.attacks.base import cross_entropy_gradient
from robustbench_snn.config import RunConfig
from robustbench_snn.plan import Task, forwards, work
from robustbench_snn.provenance import new_run_id
from robustbench_snn.report.tables import to_markdown
from robustbench_snn.runner import survey
from robustbench_snn.worker import Worker

_SAMPLES = 16
COLUMNS = ("model", "shards", "to do", "gradient calls", "gradients", "forwards", "hours", "MiB")


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

    def forward() -> Tensor:
        with torch.no_grad():
            return model(x)

    return _seconds(forward) / len(x)


def seconds_each(worker: Worker, task: Task) -> Each:
    """Seconds per sample, measured on a whole batch, so that memory reaches its peak."""
    if not any(work(cells)[0] for cells in task.groups):
        return Each(seconds_per_forward(worker, task), 0.0)
    attacked = worker.attacked(task.model.name)
    x, y = first_batch(worker, task, worker.batch_size(task.model.name))
    gradient = _seconds(lambda: cross_entropy_gradient(attacked, x, y)) / len(x)
    return Each(seconds_per_forward(worker, task), gradient)


def _seconds(compute: Callable[[], Tensor]) -> float:
    compute()
    begun = time.perf_counter()
    # Reading a value waits for the device.
    compute().sum().item()
    return time.perf_counter() - begun


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
    records, hours = [], 0.0
    for first in _first(session.tasks):
        name = first.model.name
        todo = [task for task in session.todo if task.model.name == name]
        record, spent = _record(worker, first, todo)
        record |= {"shards": str(sum(task.model.name == name for task in session.tasks))}
        records.append({key: record[key] for key in COLUMNS})
        hours += spent
    threads = torch.get_num_threads()
    return (
        f"{to_markdown(records, COLUMNS)}\n"
        f"{hours:.2g} hours in one process ({session.device}, {threads} threads), from one batch "
        f"of each model measured just now; divide by the number of workers. MiB: peak of a worker "
        f"with batches of {config.batch_size}, or as many as fit."
    )


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
    hours = (gradients * each.gradient + passes * each.forward) / 3600
    return {
        "model": first.model.name,
        "to do": str(len(todo)),
        "gradient calls": f"{calls:,}",
        "gradients": f"{gradients:,}",
        "forwards": f"{passes:,}",
        "hours": f"{hours:.2g}",
        "MiB": f"{worker.peak() / 2**20:,.0f}" if todo else "",
    }, hours
