"""One worker: clean pass, attacks and measurement of one task, as results rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks import build
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.batching import largest_batch
from robustbench_snn.card import ModelCard
from robustbench_snn.config import CLEAN, Corruption, RunConfig
from robustbench_snn.corruptions.dataset import CorruptedImages, open_corrupted
from robustbench_snn.data.base import ImageDataset
from robustbench_snn.errors import PreflightRefused, UsageError
from robustbench_snn.loading import (
    check_classes,
    device_name,
    identify,
    open_dataset,
    open_model,
    resolve_device,
)
from robustbench_snn.measure import (
    Agreement,
    Budget,
    Measured,
    Scores,
    joined,
    measure,
    score,
    unchanged,
)
from robustbench_snn.memory import keep_large_blocks, process_peak, with_backoff
from robustbench_snn.models import neuron
from robustbench_snn.models.fast import narrow
from robustbench_snn.plan import (
    Cell,
    DataIdentity,
    ModelIdentity,
    Task,
    batch_dependent,
    code_sha256,
    precision,
)
from robustbench_snn.provenance import provenance, utc_now
from robustbench_snn.rows import Row, as_lists, failed_row, flags, identity, norm_and_eps, outcome

Tick = Callable[[Sequence[Cell], int], None]

_REPEATED = 8
# Samples at the start of a split on which a faster path is compared with the exact one.
CHECKED = 1000


@dataclass(frozen=True)
class CleanPass:
    """A shard and the model's answer to it.

    Attributes:
        ids: n sample ids.
        x: float32 [n, *input_shape].
        y: int64 [n].
        scores: the answers.
        repeat_logit_diff: largest difference of the first few logits when asked again alone.
        forward_calls, seconds: what it cost.
        batch_size: the one that fitted, after ``oom_retries`` that did not.
    """

    ids: list[str]
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    scores: Scores
    repeat_logit_diff: float
    forward_calls: int
    seconds: float
    batch_size: int
    oom_retries: int


class Worker:
    """Evaluates tasks one after another, keeping the last model and data set open.

    Args:
        config: the run's configuration.
        run_id: name of the run, for the rows.
    """

    def __init__(self, config: RunConfig, run_id: str) -> None:
        self.config = config
        self.run_id = run_id
        self.device = resolve_device(config.device)
        self.device_name = device_name(self.device)
        if self.device.type == "cpu":
            keep_large_blocks()
            neuron.use("native")
        self._model: ModelAdapter | None = None
        self._verified: set[tuple[ModelIdentity, DataIdentity]] = set()
        self._faster: ModelAdapter | None = None
        self._fitting: dict[str, int] = {}
        self._data: tuple[object, ImageDataset] | None = None
        self._corrupted: tuple[object, CorruptedImages] | None = None
        self._constant: Row = provenance() | {
            "run_id": run_id,
            "device": self.device.type,
            "device_name": self.device_name,
            "dtype": "float32",
            "worker_retries": 0,
        }

    @property
    def constant(self) -> Row:
        """The columns that are the same in every row of this process."""
        return dict(self._constant)

    def model(self, name: str) -> ModelAdapter:
        """The model ``name``, loaded unless it was the last one asked for."""
        if self._model is None or self._model.card.name != name:
            self._model = self._faster = None
            self._model = open_model(self.config, name, self.device)
            self._verified.clear()
        return self._model

    def attacked(self, name: str) -> ModelAdapter:
        """What gradients are taken of: the model ``name``, or its copy of lower precision."""
        model = self.model(name)
        if self.config.fast != "bf16":
            return model
        if self._faster is None:
            self._faster = narrow(open_model(self.config, name, self.device))
        return self._faster

    def batch_size(self, name: str, fixed: bool = False) -> int:
        """The configured batch size, or less if a batch of the model ``name`` would not fit.

        Args:
            name: the model, which is tried out on two samples once.
            fixed: whether another size than the configured one would change numbers.
        """
        most = self.config.batch_size
        if fixed:
            return most
        if name not in self._fitting:
            attacks = self.config.attacks
            only_clean = bool(attacks) and all(spec == CLEAN for spec in attacks)
            self._fitting[name] = largest_batch(
                self.attacked(name), most, not only_clean, self.device, self.config.workers or 1
            )
        return self._fitting[name]

    def data(self, card: ModelCard) -> ImageDataset:
        """The run's data as ``card`` wants it preprocessed, opened unless it was the last."""
        if self._data is None or self._data[0] != card.preprocess:
            self._data = (card.preprocess, open_dataset(self.config, card))
        check_classes(card, self._data[1])
        return self._data[1]

    def corrupted(self, card: ModelCard, corruption: Corruption) -> CorruptedImages:
        """The run's data under ``corruption``, opened unless it was the last asked for."""
        wanted = (card.preprocess, card.input_shape, corruption)
        if self._corrupted is None or self._corrupted[0] != wanted:
            opened = open_corrupted(self.config, card, corruption, lambda: self.data(card))
            self._corrupted = (wanted, opened)
        check_classes(card, self._corrupted[1])
        return self._corrupted[1]

    def images(self, card: ModelCard, data: DataIdentity) -> ImageDataset:
        """The images that ``data`` identifies."""
        return self.corrupted(card, data.corruption) if data.corruption else self.data(card)

    def identity_of(self, card: ModelCard, version: Corruption | None) -> DataIdentity:
        """What ``card``'s model sees of the data: the images, or one corrupted version.

        Raises:
            UsageError: it cannot be opened.
        """
        name, split = self.config.dataset, self.config.split
        if version is None:
            images = self.data(card)
            return DataIdentity(name, images.source, images.revision, split, len(images))
        found = self.corrupted(card, version)
        about = (version, found.corruption_source, found.settings)
        return DataIdentity(name, found.source, found.revision, split, len(found), *about)

    def verify(self, task: Task) -> None:
        """Make sure that what this process opened is what the keys of ``task`` speak of.

        Raises:
            UsageError: weights, plug-in, data or this package changed since the run began.
        """
        for spec, code in {(cell.spec, cell.code) for cell in task.cells if cell.code}:
            if code_sha256(task.model, task.data, spec) != code:
                raise _changed("the source of this package")
        if (task.model, task.data) in self._verified:
            return
        model = self.model(task.model.name)
        found = replace(identify(model), batch_dependent=task.model.batch_dependent)
        for field in fields(ModelIdentity):
            if getattr(found, field.name) != getattr(task.model, field.name):
                raise _changed(f"model '{task.model.name}' ({field.name})")
        if self.identity_of(model.card, task.data.corruption) != task.data:
            raise _changed(f"data set '{task.data.name}'")
        self._verified.add((task.model, task.data))

    def tensors(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Images and labels on the worker's device."""
        return torch.from_numpy(x).to(self.device), torch.from_numpy(y).to(self.device)

    def run(self, task: Task, tick: Tick) -> Iterator[Row]:
        """One row per cell, group by group; what fails becomes a failed row.

        Args:
            task: what to do.
            tick: told the group and how many of its samples are done.

        Raises:
            UsageError, PreflightRefused: mistakes that no repetition would cure.
        """
        self.verify(task)
        try:
            model = self.model(task.model.name)
            clean = self._clean_pass(model, task)
        except (UsageError, PreflightRefused):
            raise
        except Exception as error:
            yield from self.failed(task, task.cells, error)
            return
        for cells in task.groups:
            try:
                rows = self._group(model, task, clean, cells, tick)
            except (UsageError, PreflightRefused):
                raise
            except Exception as error:
                rows = self.failed(task, cells, error)
            yield from rows

    def failed(self, task: Task, cells: Sequence[Cell], error: Exception) -> list[Row]:
        """Rows that say why ``cells`` have no numbers."""
        extra = {"started_at": utc_now(), "batch_size": self.config.batch_size}
        return [
            failed_row(task, cell, self.config.seed, error) | self._constant | extra
            for cell in cells
        ]

    def _clean_pass(self, model: ModelAdapter, task: Task) -> CleanPass:
        begun = time.perf_counter()
        shard = task.shard
        batch = self.images(model.card, task.data).batch(range(shard.start, shard.stop))

        def logits_of(start: int, stop: int) -> Tensor:
            x, _ = self.tensors(batch.x[start:stop], batch.y[start:stop])
            with torch.no_grad():
                return model(x).float().cpu()

        def logits_at(size: int) -> list[Tensor]:
            return [logits_of(at, at + size) for at in range(0, len(batch.x), size)]

        together = task.model.batch_dependent
        wanted = self.batch_size(task.model.name, together)
        parts, size, retries = with_backoff(logits_at, wanted, together)
        logits = torch.cat(parts)
        again = logits_of(0, size if together else _REPEATED)
        difference = (again - logits[: len(again)]).abs().max().item()
        return CleanPass(
            batch.ids,
            batch.x,
            batch.y,
            score(logits, torch.from_numpy(batch.y)),
            difference,
            len(parts),
            time.perf_counter() - begun,
            size,
            retries,
        )

    def _group(
        self, model: ModelAdapter, task: Task, clean: CleanPass, cells: Sequence[Cell], tick: Tick
    ) -> list[Row]:
        started, begun = utc_now(), time.perf_counter()
        self._reset_peak()
        if cells[0].spec == CLEAN:
            nothing = AttackHealth(forward_calls=clean.forward_calls)
            results = [(unchanged(clean.scores, len(clean.ids)), nothing, {"precision": "float32"})]
            size, retries, seconds = clean.batch_size, clean.oom_retries, clean.seconds
        else:
            fixed = batch_dependent(task.model, cells[0].spec)
            results, size, retries = with_backoff(
                lambda size: self._attack(model, clean, cells, size, tick, task.shard.start),
                self.batch_size(task.model.name, fixed),
                fixed,
            )
            seconds = time.perf_counter() - begun
        tick(cells, len(clean.ids))
        execution = {
            "started_at": started,
            "seconds": seconds,
            "batch_size": size,
            "oom_retries": retries,
            "cost_shared_by": len(cells),
            "peak_memory_bytes": self.peak(),
        }
        return [
            self._row(task, cell, clean, measured, health, extra) | execution
            for cell, (measured, health, extra) in zip(cells, results, strict=True)
        ]

    def _attack(
        self,
        model: ModelAdapter,
        clean: CleanPass,
        cells: Sequence[Cell],
        size: int,
        tick: Tick,
        first: int,
    ) -> list[tuple[Measured, AttackHealth, Row]]:
        specs = [cell.spec for cell in cells]
        attacked = self.attacked(model.card.name)
        attack = build(specs[0].name, self.config.seed)
        attack.early_stop = self.config.fast == "early-stop"
        parts: list[list[Measured]] = [[] for _ in cells]
        healths = [AttackHealth() for _ in cells]
        agreements = [Agreement() for _ in cells]
        for start in range(0, len(clean.ids), size):
            tick(cells, start)
            piece = slice(start, start + size)
            x, y = self.tensors(clean.x[piece], clean.y[piece])
            found = attack.run(attacked, x, y, clean.ids[piece], specs)
            for i, (cell, result) in enumerate(zip(cells, found, strict=True)):
                budget = Budget(*norm_and_eps(cell), high=model.card.max_value)
                parts[i].append(measure(model, x, result.x, y, budget))
                healths[i] += result.health + AttackHealth(forward_calls=1)
                if attacked is not model and first + start < CHECKED:
                    agreements[i].add(attacked, result.x, parts[i][-1].scores.predicted)
        extra: list[Row] = [{"precision": precision(self.config, spec)} for spec in specs]
        if attacked is not model:
            extra = [row | told.row() for row, told in zip(extra, agreements, strict=True)]
        return list(zip([joined(part) for part in parts], healths, extra, strict=True))

    def _row(
        self,
        task: Task,
        cell: Cell,
        clean: CleanPass,
        measured: Measured,
        health: AttackHealth,
        extra: Row,
    ) -> Row:
        samples = {
            "sample_ids": clean.ids,
            "labels": clean.y,
            "pred_clean": clean.scores.predicted,
            "pred_adv": measured.scores.predicted,
            "valid": measured.within & measured.in_range,
            "loss_clean": clean.scores.loss,
            "loss_adv": measured.scores.loss,
            "margin_clean": clean.scores.margin,
            "margin_adv": measured.scores.margin,
            "linf": measured.linf,
        }
        seen = health.gradients > 0
        row = identity(task, cell, self.config.seed) | self._constant | outcome(samples)
        row |= extra | {
            "norm_ok": bool(measured.within.all()),
            "range_ok": bool(measured.in_range.all()),
            "forward_calls": health.forward_calls,
            "backward_calls": health.backward_calls,
            "gradients": health.gradients,
            "zero_grad_frac": health.zero_grad_frac if seen else None,
            "nonfinite_grad_frac": health.nonfinite_grad_frac if seen else None,
            "zero_pixel_frac": health.zero_pixel_frac if seen else None,
            "repeat_logit_diff": clean.repeat_logit_diff,
            "status": "ok",
        }
        return row | as_lists(samples) | {"flags": flags(task, cell, row)}

    def _reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """Bytes: of the group on a GPU, of the process so far on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return process_peak()


def _changed(what: str) -> UsageError:
    return UsageError(
        f"{what} changed on disk since this run began, so new numbers would stand under the key of "
        "the old: nothing of it was stored; run the same command again."
    )
