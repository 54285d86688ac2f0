"""Run a configuration: plan, drop what is on disk, evaluate the rest, store each row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.card import ModelCard
from robustbench_snn.catalogue import own_line
from robustbench_snn.config import CLEAN, Corruption, RunConfig
from robustbench_snn.conformance import preflight
from robustbench_snn.errors import PreflightRefused, UsageError
from robustbench_snn.loading import identify
from robustbench_snn.memory import with_backoff
from robustbench_snn.plan import (
    Cell,
    DataIdentity,
    ModelIdentity,
    Task,
    missing,
    part,
    plan,
    sample_count,
)
from robustbench_snn.provenance import new_run_id
from robustbench_snn.registry import origin
from robustbench_snn.report.summary import sibling_command
from robustbench_snn.rows import Row, light
from robustbench_snn.store import check_writable, read_light, write_shard
from robustbench_snn.worker import Tick, Worker

# Evaluates tasks in any order and wherever it likes; gives each row as soon as it is there.
Executor = Callable[[Sequence[Task], Worker, Tick], Iterator[Row]]

_PREFLIGHT_SAMPLES = 128
_LEAST_EOT = 10


@dataclass(frozen=True)
class Session:
    """What a run turned out to be, once models and data were opened.

    Attributes:
        config: as given.
        run_id: name of the run.
        device: ``cpu``, or the name of the GPU.
        models, data: identities, in the order of ``config.models``; data in all its versions.
        n: samples evaluated on each model.
        tasks: all tasks of the run.
        todo: those not on disk yet.
        notes: one sentence on everything found broken on disk or doubtful about a model.
    """

    config: RunConfig
    run_id: str
    device: str
    models: tuple[ModelIdentity, ...]
    data: tuple[tuple[DataIdentity, ...], ...]
    n: tuple[int, ...]
    tasks: tuple[Task, ...]
    todo: tuple[Task, ...]
    notes: tuple[str, ...]


class Progress(Protocol):
    """What wants to know how a run is going."""

    def start(self, session: Session) -> None:
        """Called once, before the first task."""

    def tick(self, cells: Sequence[Cell], done: int) -> None:
        """``done`` samples of the computation behind ``cells`` are finished."""

    def row(self, row: Row) -> None:
        """A result, without per-sample lists: on disk already, or new and just stored."""

    def stop(self) -> None:
        """Called once at the end, however it comes."""


class Silent:
    """Progress that shows nothing."""

    def start(self, session: Session) -> None:
        """Nothing."""

    def tick(self, cells: Sequence[Cell], done: int) -> None:
        """Nothing."""

    def row(self, row: Row) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


def inline(tasks: Sequence[Task], worker: Worker, tick: Tick) -> Iterator[Row]:
    """The executor that does one task after another in this process."""
    for task in tasks:
        yield from worker.run(task, tick)


def run(
    config: RunConfig, progress: Progress | None = None, executor: Executor = inline
) -> list[Row]:
    """Evaluate ``config`` and store every result under ``config.out``.

    Results on disk under the same content key are not computed again; failed ones are.

    Args:
        config: what to run.
        progress: told what happens; None for silence.
        executor: where tasks are evaluated.

    Returns:
        One row per model, attack and shard in the order of the plan, without the per-sample
        lists (``store.Results`` reads those); ``status`` is ``ok`` or ``failed``.

    Raises:
        UsageError: the configuration cannot be run as asked.
        PreflightRefused: a model failed a check that must hold before any attack.
    """
    check_writable(config.out)
    shown = progress if progress is not None else Silent()
    run_id = new_run_id()
    worker = Worker(config, run_id)
    session = prepare(config, worker, run_id)
    todo = {cell.key for task in session.todo for cell in task.cells}
    rows: dict[str, Row] = {}
    shown.start(session)
    try:
        for cell in [cell for task in session.tasks for cell in task.cells]:
            if cell.key not in todo and (found := read_light(cell.path)):
                rows[cell.key] = found
                shown.row(found)
        new = executor(session.todo, worker, shown.tick)
        try:
            for row in new:
                write_shard(config.out, row["key"], row)
                rows[row["key"]] = light(row)
                shown.row(rows[row["key"]])
        finally:
            # Not left to the garbage collector: workers must not outlive an interrupt.
            if isinstance(new, Generator):
                new.close()
    finally:
        shown.stop()
    return [rows[cell.key] for task in session.tasks for cell in task.cells]


def prepare(config: RunConfig, worker: Worker, run_id: str) -> Session:
    """Open every model and its data, plan, and check what will be run.

    Raises:
        UsageError: a model or its data cannot be opened, or too many samples were asked for.
        PreflightRefused: with the reasons of every model that failed.
    """
    session = survey(config, worker, run_id)
    warnings = check_models(config, worker, session.todo)
    return replace(session, notes=(*session.notes, *(warnings or ())))


def survey(config: RunConfig, worker: Worker, run_id: str) -> Session:
    """Open every model and its data, and plan.

    Raises:
        UsageError: a model or its data cannot be opened, or too many samples were asked for.
    """
    models, data = [], {}
    for name in config.models:
        model = worker.model(name)
        models.append(identify(model))
        data[name] = tuple(
            data_identity(config, worker, model.card, version) for version in config.versions()
        )
    tasks = part(plan(config, models, data, worker.device.type), config.shard)
    todo, notes = missing(tasks)
    return Session(
        config=config,
        run_id=run_id,
        device=worker.device_name,
        models=tuple(models),
        data=tuple(data[name] for name in config.models),
        n=tuple(sample_count(config, data[name][0]) for name in config.models),
        tasks=tuple(tasks),
        todo=tuple(todo),
        notes=tuple(notes),
    )


def follows_single_gradients(spec: AttackSpec) -> bool:
    """Whether ``spec`` climbs the target's own gradients without averaging enough of them."""
    free = spec == CLEAN or {"queries", "draws", "source"} & set(spec.params)
    return not free and int(spec.params.get("eot", 1)) < _LEAST_EOT


def check_eot(name: str, config: RunConfig) -> None:
    """Make sure that attacks on a model with a random encoder average their gradients.

    Raises:
        UsageError: an attack does not.
    """
    for spec in config.attacks:
        if follows_single_gradients(spec):
            raise UsageError(
                f"model '{name}' encodes images at random, so one gradient of '{spec.name}' says "
                f"little and its robustness would be overstated: use an attack with --eot "
                f"{_LEAST_EOT} or more (apgd, sapgd, pgd-worst)."
            )


def data_identity(
    config: RunConfig, worker: Worker, card: ModelCard, version: Corruption | None
) -> DataIdentity:
    """What ``card``'s model will see of the data: the images, or one corrupted version.

    Raises:
        UsageError: it cannot be opened.
    """
    if version is None:
        images = worker.data(card)
        return DataIdentity(
            config.dataset, images.source, images.revision, config.split, len(images)
        )
    found = worker.corrupted(card, version)
    return DataIdentity(
        config.dataset,
        found.source,
        found.revision,
        config.split,
        len(found),
        version,
        found.corruption_source,
        found.settings,
    )


def check_models(config: RunConfig, worker: Worker, todo: Sequence[Task]) -> list[str]:
    """The fast conformance checks, on the first samples, of every model that has work to do.

    Returns:
        A sentence on everything doubtful about a model that may run all the same.

    Raises:
        PreflightRefused: with the reasons of every model that failed.
    """
    reasons, warnings = [], []
    first = {task.model.name: task.data for task in reversed(todo)}
    for name in reversed(first):
        model = worker.model(name)
        if model.stochastic:
            check_eot(name, config)
        data = first[name]
        # Clean images may not be there when official files of corrupted ones are.
        from_files = data.corruption_source == "official"
        opened = worker.images(model.card, data) if from_files else worker.data(model.card)
        n = min(_PREFLIGHT_SAMPLES, len(opened), config.n or _PREFLIGHT_SAMPLES)
        batch = opened.batch(range(n))
        x, y = worker.tensors(batch.x, batch.y)
        try:
            # Cards speak of clean images of this split.
            compare = config.split == "test" and not from_files
            most = min(n, 2 * worker.batch_size(name))
            warnings += with_backoff(partial(_preflight, model, x, y, compare), most)[0]
        except PreflightRefused as refused:
            reasons.append(str(refused))
        except UsageError:
            raise
        except Exception as error:
            reasons.append(
                f"model '{name}' cannot answer its first {n} samples "
                f"({own_line(error, origin(type(model)))}{type(error).__name__}: {error}), so "
                f"nothing can be measured: `{sibling_command('check', config, name)}` asks more."
            )
    if reasons:
        raise PreflightRefused("\n".join(reasons))
    return warnings


def _preflight(model: ModelAdapter, x: Tensor, y: Tensor, compare: bool, size: int) -> list[str]:
    return preflight(model, x[:size], y[:size], compare)
