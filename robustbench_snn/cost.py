"""What a run will cost, from one forward pass of each model and the number of gradients."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from robustbench_snn.plan import Task, forwards
from robustbench_snn.worker import Worker

_SAMPLES = 16


def seconds_per_forward(worker: Worker, task: Task) -> float:
    """Seconds of one forward pass per sample, measured on the first samples of ``task``."""
    model = worker.model(task.model.name)
    count = min(_SAMPLES, len(task.shard), worker.config.batch_size)
    start = task.shard.start
    batch = worker.images(model.card, task.data).batch(range(start, start + count))
    x, _ = worker.tensors(batch.x, batch.y)
    with torch.no_grad():
        model(x)
        begun = time.perf_counter()
        model(x).sum().item()
    return (time.perf_counter() - begun) / count


def samples_in_forwards(task: Task) -> int:
    """Cost of ``task`` as a number of forward passes of single samples."""
    return len(task.shard) * sum(forwards(cells) for cells in task.groups)


def seconds_left(tasks: Sequence[Task], worker: Worker) -> float:
    """Rough time that ``tasks`` take one after another in this process."""
    first: dict[str, Task] = {}
    for task in tasks:
        first.setdefault(task.model.name, task)
    each = {name: seconds_per_forward(worker, task) for name, task in first.items()}
    return sum(samples_in_forwards(task) * each[task.model.name] for task in tasks)
