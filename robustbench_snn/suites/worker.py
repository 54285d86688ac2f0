"""One step of a suite on one shard: attack the survivors, measure, keep the images that won."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks import build
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.config import RunConfig, content_key
from robustbench_snn.errors import PreflightRefused, StorageError, UsageError
from robustbench_snn.measure import Budget, Measured, joined, measure
from robustbench_snn.memory import with_backoff
from robustbench_snn.plan import (
    UNREADABLE,
    Cell,
    Task,
    batch_dependent,
    code_sha256,
    key_content,
    older_notes,
)
from robustbench_snn.provenance import utc_now
from robustbench_snn.rows import Row, failed_row, norm_and_eps
from robustbench_snn.store import look, read_row, say, shard_path, write_shard
from robustbench_snn.suites.images import image_path, is_stored, write_images
from robustbench_snn.suites.layouts import STEPS, SUITE_VERSION, as_step
from robustbench_snn.worker import CleanPass, Worker

VOTES = 10


class Votes(nn.Module):
    """A random model's verdict: how often each class won in ten calls, [B, K]."""

    def __init__(self, model: ModelAdapter) -> None:
        super().__init__()
        self.model, self.card = model, model.card

    def forward(self, x: Tensor) -> Tensor:
        calls = [self.model(x) for _ in range(VOTES)]
        counts = [nn.functional.one_hot(c.argmax(1), c.shape[1]).float() for c in calls]
        # Logits break ties between classes that won equally often.
        return torch.stack(counts).sum(0) + 1e-3 * torch.stack(calls).mean(0).softmax(1)


def verdict(model: ModelAdapter) -> nn.Module:
    """What decides whether ``model`` was fooled: itself, or a vote where it draws at random."""
    return Votes(model) if model.stochastic else model


@dataclass(frozen=True)
class _Found:
    measured: Measured
    health: AttackHealth
    x: NDArray[np.float32]


class SuiteWorker(Worker):
    """A worker that also attacks parts of a shard and keeps adversarial images."""

    def __init__(self, config: RunConfig, run_id: str) -> None:
        super().__init__(config, run_id)
        self._passes: dict[tuple[str, int, int], CleanPass] = {}

    def clean(self, task: Task) -> CleanPass:
        """The clean pass over the shard of ``task``, made once for each model."""
        place = (task.model.name, task.shard.start, task.shard.stop)
        if place not in self._passes:
            if any(name != task.model.name for name, _, _ in self._passes):
                self._passes.clear()
            self._passes[place] = self._clean_pass(self.model(task.model.name), task)
        return self._passes[place]

    def step(self, task: Task, spec: AttackSpec, rows: Sequence[int]) -> Row:
        """The row of ``spec`` on the samples ``rows`` of the shard: from disk, or computed.

        Raises:
            UsageError: the attack cannot be run on this model (``NotApplicable``) or at all.
        """
        self.verify(task)
        clean = self.clean(task)
        part = _part(clean, rows)
        cell = self._step_cell(task, spec, part.ids)
        if found := self._stored(cell):
            return found
        try:
            row = self._computed(task, cell, part)
        except (UsageError, PreflightRefused, StorageError):
            raise
        except Exception as error:
            row = failed_row(task, cell, self.config.seed, error) | self._constant
            row |= {"started_at": utc_now(), "batch_size": self.config.batch_size}
        row = as_step(row)
        write_shard(self.config.out, cell.key, row, STEPS)
        return row

    def _stored(self, cell: Cell) -> Row | None:
        """The step's row, if it and its images are on disk as they were written."""
        state, found = look(cell.path, cell.key, STEPS, cell.code)
        if state == "unreadable":
            say(f"'{cell.path}' {UNREADABLE} and is computed again.")
        elif state == "older":
            for note in older_notes([cell.path], self.config.keep_older):
                say(note)
        if found is None or not (state == "ok" or (state == "older" and self.config.keep_older)):
            return None
        if found["images"] and not is_stored(
            self.config.out, found["images"], found["images_sha256"]
        ):
            say(f"'{found['images']}' is missing or damaged and is computed again.")
            return None
        return read_row(cell.path)

    def _step_cell(self, task: Task, spec: AttackSpec, ids: Sequence[str]) -> Cell:
        content = key_content(
            self.config, task.model, task.data, task.shard, spec, self.device.type
        )
        attacked = hashlib.sha256("\n".join(ids).encode()).hexdigest()
        key = content_key(content | {"suite": SUITE_VERSION, "survivors": attacked})
        place = {
            "rows_of": "survivors",
            "model": task.model.name,
            "dataset": task.data.name,
            "step": spec.name,
            "start": task.shard.start,
            "stop": task.shard.stop,
            "key": key,
        }
        code = code_sha256(task.model, task.data, spec, "suites.worker")
        return Cell(spec, key, shard_path(self.config.out, place, STEPS), code)

    def _computed(self, task: Task, cell: Cell, part: CleanPass) -> Row:
        started, begun = utc_now(), time.perf_counter()
        model = self.model(task.model.name)
        fixed = batch_dependent(task.model, cell.spec)
        found, size, retries = with_backoff(
            lambda size: self._attacked(model, part, cell, size),
            self.batch_size(task.model.name, fixed),
            fixed,
        )
        row = self._row(task, cell, part, found.measured, found.health, {})
        row |= {"n": len(part.ids), "started_at": started, "batch_size": size}
        row |= {"oom_retries": retries, "cost_shared_by": 1, "peak_memory_bytes": self.peak()}
        fooled = found.measured.scores.predicted != part.y
        row |= {"fooled": int(fooled.sum()), "images": "", "images_sha256": ""}
        if fooled.any():
            place = task.model.name, task.data.name, task.shard.start, task.shard.stop, cell.key
            path = image_path(*place)
            ids = [name for name, won in zip(part.ids, fooled, strict=True) if won]
            levels = model.card.max_value == 1.0
            digest = write_images(self.config.out, path, ids, found.x[fooled], levels)
            row |= {"images": path, "images_sha256": digest}
        return row | {"seconds": time.perf_counter() - begun}

    def _attacked(self, model: ModelAdapter, part: CleanPass, cell: Cell, size: int) -> _Found:
        attack, judge = build(cell.spec.name, self.config.seed), verdict(model)
        budget = Budget(*norm_and_eps(cell), high=model.card.max_value)
        parts, images, health = [], [], AttackHealth()
        for start in range(0, len(part.ids), size):
            piece = slice(start, start + size)
            x, y = self.tensors(part.x[piece], part.y[piece])
            result = attack.run(model, x, y, part.ids[piece], [cell.spec])[0]
            parts.append(measure(judge, x, result.x, y, budget))
            images.append(result.x.cpu().numpy())
            health += result.health + AttackHealth(forward_calls=1)
        return _Found(joined(parts), health, np.concatenate(images))


def _part(clean: CleanPass, rows: Sequence[int]) -> CleanPass:
    chosen = np.asarray(rows, dtype=np.int64)
    scores = clean.scores
    return replace(
        clean,
        ids=[clean.ids[row] for row in rows],
        x=clean.x[chosen],
        y=clean.y[chosen],
        scores=replace(
            scores,
            predicted=scores.predicted[chosen],
            loss=scores.loss[chosen],
            margin=scores.margin[chosen],
        ),
    )
