"""One model's part of an evaluation of maps: shard by shard, a row for each job."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.data.base import ImageDataset
from robustbench_snn.errors import UsageError
from robustbench_snn.explain import measures
from robustbench_snn.explain.columns import LAYOUT
from robustbench_snn.explain.compute import Computed, Reading, compute_maps
from robustbench_snn.explain.jobs import Job
from robustbench_snn.explain.measures import Samples, Values
from robustbench_snn.explain.progress import Bar
from robustbench_snn.explain.rows import Row, content, failed, identity, light
from robustbench_snn.explain.settings import MAPS, ExplainConfig
from robustbench_snn.plan import (
    UNREADABLE,
    DataIdentity,
    ModelIdentity,
    older_notes,
    sample_count,
)
from robustbench_snn.provenance import provenance, utc_now
from robustbench_snn.store import read_light, say, write_shard
from robustbench_snn.worker import Worker


def reading_of(config: ExplainConfig, kinds: Sequence[str]) -> Reading:
    """How ``config`` reads maps of these kinds."""
    return Reading(tuple(kinds), config.block, config.number, config.target, config.layer)


@dataclass
class ModelRun:
    """Computes and stores the rows of one model.

    Attributes:
        config: what was asked.
        worker: opens models and data, and names the device.
        run_id: name of the run, for the rows.
        model, opened, who, data: the model, its data, and their identities.
        probe: the maps of one sample; says which are defined, and where they are read.
        bar: shows progress.
        controls: control name to map [h, w]; filled in once all maps are on disk.
    """

    config: ExplainConfig
    worker: Worker
    run_id: str
    model: ModelAdapter
    opened: ImageDataset
    who: ModelIdentity
    data: DataIdentity
    probe: Computed
    bar: Bar
    controls: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def rows(self, jobs: Sequence[Job]) -> list[Row]:
        """The row of every job, computed unless it is on disk; without per-sample lists."""
        self._tell(jobs)
        found = {job.key: read_light(job.path, LAYOUT) for job in jobs if job.done}
        todo = [job for job in jobs if job.key not in found]
        pieces: dict[int, list[Job]] = {}
        for job in todo:
            pieces.setdefault(job.shard.start, []).append(job)
        self.bar.begin(self.who.name, len(todo), len(found))
        try:
            for piece in pieces.values():
                found |= {row["key"]: row for row in self._shard(piece)}
        finally:
            self.bar.end()
        return [row for job in jobs if (row := found[job.key]) is not None]

    def _tell(self, jobs: Sequence[Job]) -> None:
        states = {job.path: job.state for job in jobs}
        older = [path for path, state in states.items() if state == "older"]
        for path, state in states.items():
            if state == "unreadable":
                say(f"'{path}' {UNREADABLE} and is computed again.")
        for note in older_notes(older, self.config.run.keep_older):
            say(note)

    def _shard(self, jobs: Sequence[Job]) -> list[Row]:
        constant = provenance() | {
            "run_id": self.run_id,
            "device": self.worker.device.type,
            "device_name": self.worker.device_name,
            "dtype": "float32",
            "started_at": utc_now(),
            "batch_size": self.config.run.batch_size,
        }
        samples: Samples | None = None
        changed: dict[str, Computed] = {}
        rows = []
        for job in jobs:
            begun = time.perf_counter()
            about = identity(job, self.config, self.probe) | constant
            try:
                samples = samples or self._samples(jobs)
                row = about | self._content(job, samples, changed)
            except UsageError:
                raise
            except Exception as error:
                row = about | failed(job, error)
            row["seconds"] = time.perf_counter() - begun
            write_shard(self.config.run.out, job.key, row, LAYOUT)
            rows.append(light(row))
            self.bar.advance(f"{job.map} {job.measure}")
        return rows

    def _samples(self, jobs: Sequence[Job]) -> Samples:
        """The shard's images and all maps that its jobs need, from one pass."""
        shard, run = jobs[0].shard, self.config.run
        indices = range(shard.start, shard.stop)
        batch = self.opened.batch(indices)
        wanted = [kind for kind in self.probe.maps if any(job.map == kind for job in jobs)]
        reading, fixed = reading_of(self.config, wanted), self.who.batch_dependent
        found = compute_maps(
            self.model, batch.x, batch.ids, reading, batch.y, run.seed, run.batch_size, fixed
        )
        masks = self._masks(indices, batch.ids, batch.x.shape[-2:])
        return Samples(
            model=self.model,
            ids=batch.ids,
            x=batch.x,
            y=batch.y,
            masks=masks,
            found=found,
            reading=reading,
            seed=run.seed,
            batch_size=run.batch_size,
            fixed_batch=fixed,
        )

    def _masks(
        self, indices: range, ids: Sequence[str], size: tuple[int, ...]
    ) -> NDArray[np.bool_] | None:
        own = getattr(self.opened, "masks", None)
        if own is not None:
            return np.asarray(own(indices))
        if self.config.boxes is None:
            return None
        from robustbench_snn.explain.boxes import box_masks

        folder = Path(self.config.boxes)
        return box_masks(folder, ids, self.model.card.preprocess, size[0], size[1])

    def _content(self, job: Job, samples: Samples, changed: dict[str, Computed]) -> Row:
        found, maps = samples.found, samples.found.maps.get(job.map)
        if job.measure == "stability":
            found = self._changed(job, samples, changed)
            values: Values = measures.measure_stability(samples, job.map, found)
            return content(job, samples, found, found.maps[job.map], values)
        if job.measure == MAPS:
            assert maps is not None
            return content(job, samples, found, maps, measures.describe(maps, samples.masks))
        if maps is None:
            control = self.controls[job.map]
            maps = np.broadcast_to(control, (len(samples.ids), *control.shape)).astype(np.float32)
        return content(job, samples, found, None, self._rerun(job, samples, maps))

    def _rerun(self, job: Job, samples: Samples, maps: NDArray[np.float32]) -> Values:
        if job.measure == "faithfulness":
            return measures.measure_faithfulness(samples, maps, self.config.steps)
        if job.measure == "fidelity":
            return measures.measure_fidelity(samples, job.map, maps)
        if job.measure == "randomisation":
            return measures.measure_randomisation(samples, job.map)
        n = sample_count(self.config.run, self.data)
        return measures.measure_grid_pointing(
            samples,
            job.map,
            range(job.shard.start, job.shard.stop),
            self.opened.batch(range(n)).y.tolist(),
            lambda indices: self.opened.batch(indices).x,
        )

    def _changed(self, job: Job, samples: Samples, changed: dict[str, Computed]) -> Computed:
        """All maps of the shard's changed images, computed once for every change."""
        assert job.change is not None
        if job.change.text not in changed:
            x = measures.changed_images(samples, job.change)
            changed[job.change.text] = samples.again(list(samples.found.maps), x)
        return changed[job.change.text]
