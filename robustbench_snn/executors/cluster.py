"""One Ray actor per core or GPU, on this machine or on all machines of a cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from robustbench_snn.config import RunConfig
from robustbench_snn.errors import PreflightRefused, UsageError
from robustbench_snn.executors.ledger import Ledger
from robustbench_snn.executors.processes import cores
from robustbench_snn.plan import Cell, Task
from robustbench_snn.rows import Row
from robustbench_snn.worker import Tick, Worker


class RayWorker:
    """What an actor holds: one worker, its model loaded once.

    Args:
        config: the run's configuration.
        run_id: name of the run.
        command: what was typed, for the rows.
    """

    def __init__(self, config: RunConfig, run_id: str, command: str) -> None:
        if config.device == "cpu":
            import torch

            torch.set_num_threads(1)
        self._worker = Worker(config, run_id)
        self._command = command

    def run(self, task: Task) -> list[Row] | Exception:
        """The rows of ``task``, or the mistake that no repetition would cure."""
        try:
            rows = list(self._worker.run(task, _no_tick))
        except (UsageError, PreflightRefused) as error:
            return error
        return [row | {"command": self._command} for row in rows]


def _no_tick(cells: Sequence[Cell], done: int) -> None:
    """Rows alone tell the driver how far the actors are."""


def on_ray(
    tasks: Sequence[Task],
    worker: Worker,
    tick: Tick,
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[Row]:
    """The executor that spreads tasks over Ray actors; the driver stores what they find.

    Every machine of a cluster needs this package, and data, weights and plugins under the same
    paths. An actor has one core, or one GPU where the run is on GPUs. One that dies is replaced
    and its task done again; ``worker_retries`` of the rows says how often.

    Args:
        tasks, worker, tick: as every executor takes them; progress moves with each row.
        workers: how many actors; None takes one per core or GPU of the cluster.
        address: of a running cluster, ``auto`` to find it; None starts one on this machine.

    Raises:
        UsageError: no cluster at ``address``, or it lacks GPUs; or as raised by a worker.
    """
    if not tasks:
        return
    import ray
    from ray.exceptions import RayActorError

    _connect(ray, worker, workers, address)
    try:
        gpu = worker.device.type == "cuda"
        workers = min(workers or _places(ray, gpu), len(tasks))
        # A lent GPU is the only one an actor sees, and no other actor shares its memory.
        device, sharing = ("cuda", 1) if gpu else ("cpu", workers)
        config = replace(worker.config, device=device, workers=sharing)
        kind = ray.remote(RayWorker).options(num_cpus=1, num_gpus=int(gpu))
        settings = (config, worker.run_id, worker.constant["command"])
        crew: dict[int, Any] = {slot: kind.remote(*settings) for slot in range(workers)}
        ledger, answers = Ledger(tasks, worker), {}
        while ledger.open:
            for slot, actor in crew.items():
                if not ledger.busy(slot) and (task := ledger.take(slot)):
                    answers[actor.run.remote(task)] = slot
            ready, _ = ray.wait(list(answers), num_returns=1)
            slot = answers.pop(ready[0])
            try:
                found = ray.get(ready[0])
            except RayActorError as error:
                yield from ledger.lost(slot, str(error).splitlines()[0])
                crew[slot] = kind.remote(*settings)
                continue
            if isinstance(found, Exception):
                raise found
            for row in found:
                yield ledger.row(slot, row)
            ledger.done(slot)
    finally:
        ray.shutdown()


def _connect(ray: Any, worker: Worker, workers: int | None, address: str | None) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # "local" so that a cluster which happens to run here is not taken by surprise.
        ray.init(address="local", num_cpus=workers or cores(), include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"no Ray cluster answers at '{address}' ({reason}): start one with `ray start --head`, "
            "or leave --ray-address out for one on this machine."
        ) from None


def _places(ray: Any, gpu: bool) -> int:
    found = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0))
    if not found:
        raise UsageError(
            f"the Ray cluster has no {'GPU' if gpu else 'CPU'}, so no worker could ever start: "
            "choose another --device or cluster."
        )
    return found
