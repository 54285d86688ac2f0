"""From the name of an executor to the executor, and the choice where none is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from robustbench_snn.config import RunConfig
from robustbench_snn.cost import seconds_left
from robustbench_snn.executors.cluster import on_ray
from robustbench_snn.executors.processes import cores, processes
from robustbench_snn.plan import Task
from robustbench_snn.rows import Row
from robustbench_snn.runner import Executor, inline
from robustbench_snn.worker import Tick, Worker

# Starting processes costs each of them the import of torch.
_WORTH_PROCESSES = 20.0


def executor_of(config: RunConfig) -> Executor:
    """The executor that ``config`` names."""
    if config.executor == "inline":
        return inline
    if config.executor == "processes":
        return partial(processes, workers=config.workers)
    if config.executor == "ray":
        return partial(on_ray, workers=config.workers, address=config.ray_address)
    return automatic


def automatic(tasks: Sequence[Task], worker: Worker, tick: Tick) -> Iterator[Row]:
    """The executor that takes processes where they pay: several shards of long work on a CPU."""
    wanted = worker.config.workers
    alone = worker.device.type != "cpu" or len(tasks) < 2 or cores() < 2
    if wanted is None and (alone or seconds_left(tasks, worker) < _WORTH_PROCESSES):
        return inline(tasks, worker, tick)
    return processes(tasks, worker, tick, wanted)
