"""Evaluate maps of models on a data set, with the results store and resume of an attack run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.errors import UsageError
from robustbench_snn.explain.compute import Computed, compute_maps
from robustbench_snn.explain.controls import centre_prior, mean_map, uniform
from robustbench_snn.explain.jobs import Job, costly_jobs, map_jobs
from robustbench_snn.explain.model_run import ModelRun, reading_of
from robustbench_snn.explain.progress import Bar
from robustbench_snn.explain.settings import ExplainConfig
from robustbench_snn.explain.stored import read_maps
from robustbench_snn.loading import identify
from robustbench_snn.provenance import new_run_id
from robustbench_snn.runner import first_images
from robustbench_snn.store import check_writable
from robustbench_snn.worker import Worker


@dataclass
class Report:
    """What an evaluation of maps gave.

    Attributes:
        rows: one row per job, without per-sample lists; ``status`` is ``ok`` or ``failed``.
        undefined: (model, kind) to the reason why there is no such map.
        notes: (model, kind) to what a caption must add.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    undefined: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Content keys of all rows that have numbers."""
        return [row["key"] for row in self.rows if row["status"] == "ok"]


def evaluate(config: ExplainConfig, bar: Bar | None = None) -> Report:
    """Compute the maps and metrics ``config`` asks for; rows on disk are not computed again.

    Args:
        config: what to compute.
        bar: shows progress; None for silence.

    Raises:
        UsageError: something asked for does not exist.
    """
    check_writable(config.run.out)
    run_id = new_run_id()
    worker = Worker(config.run, run_id)
    config = replace(config, run=replace(config.run, device=worker.device.type))
    report = Report()
    for name in config.run.models:
        _one_model(config, worker, run_id, name, report, bar or Bar(quiet=True))
    return report


def _one_model(
    config: ExplainConfig, worker: Worker, run_id: str, name: str, report: Report, bar: Bar
) -> None:
    model = worker.model(name)
    opened = worker.data(model.card)
    data = worker.identity_of(model.card, None)
    who = identify(model, first_images(worker, model.card, data))
    if config.boxes is not None and hasattr(opened, "masks"):
        raise UsageError(
            f"--boxes was given, but data set '{config.run.dataset}' has object masks of its own: "
            "leave it out."
        )
    first = opened.batch([0])
    probe = compute_maps(model, first.x, first.ids, reading_of(config, config.maps), first.y)
    report.undefined |= {(name, kind): why for kind, why in probe.undefined.items()}
    report.notes |= {(name, kind): text for kind, text in probe.notes.items() if text}
    kinds = list(probe.maps)
    run = ModelRun(config, worker, run_id, model, opened, who, data, probe, bar)
    jobs = map_jobs(config, run.who, data, kinds)
    rows = run.rows(jobs)
    if kinds and all(row["status"] == "ok" for row in rows):
        run.controls = _controls(jobs, kinds, probe)
        rows += run.rows(costly_jobs(config, run.who, data, kinds, run.controls))
    report.rows += rows


def _controls(
    jobs: Sequence[Job], kinds: Sequence[str], probe: Computed
) -> Mapping[str, NDArray[np.float64]]:
    """Control name to map; each kind has a mean map of its own."""
    controls = {"uniform": uniform(*probe.grid), "centre": centre_prior(*probe.grid)}
    for kind in kinds:
        controls[f"mean({kind})"] = mean_map(
            read_maps([job.path for job in jobs if job.map == kind])
        )
    return controls
