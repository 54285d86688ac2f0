"""From a configuration to the rows it needs, each under its content key; no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.config import CLEAN, Shard, canonical_json, content_key, shards
from robustbench_snn.explain.columns import EXPLAIN_VERSION, LAYOUT
from robustbench_snn.explain.kinds import KINDS
from robustbench_snn.explain.settings import GROUPS, MAPS, Change, ExplainConfig
from robustbench_snn.plan import DataIdentity, ModelIdentity, code_sha256, sample_count
from robustbench_snn.schema import SCHEMA_VERSION
from robustbench_snn.store import State, shard_path, shard_state

# Measurements that controls take part in; their answer to the others is known.
WITH_CONTROLS = ("faithfulness", "fidelity")


@dataclass(frozen=True)
class Job:
    """One row to come: one measurement of one map on one shard.

    Attributes:
        model, data, shard: what is measured.
        map: kind of map, or ``uniform``, ``centre`` or ``mean(KIND)`` for a control.
        measure: a value of ``GROUPS``.
        settings: canonical JSON of the measurement's own numbers.
        change: of ``stability``.
        key, path: content key and file.
        code: sha256 of the source of this package that the row depends on.
        keep_older: whether a stored row of another version of that source counts.
    """

    model: ModelIdentity
    data: DataIdentity
    shard: Shard
    map: str
    measure: str
    settings: str
    change: Change | None
    key: str
    path: Path
    code: str = ""
    keep_older: bool = False

    @property
    def state(self) -> State:
        """Whether the row is on disk, and of this source."""
        return shard_state(self.path, self.key, LAYOUT, self.code)

    @property
    def done(self) -> bool:
        """Whether the row need not be computed."""
        state = self.state
        return state == "ok" or (state == "older" and self.keep_older)


def make_job(
    config: ExplainConfig,
    model: ModelIdentity,
    data: DataIdentity,
    shard: Shard,
    kind: str,
    measure: str,
    change: Change | None = None,
    control: NDArray[np.float64] | None = None,
) -> Job:
    """The job with its key: all that can change the numbers, and nothing that cannot.

    Args:
        config: what was asked.
        model, data, shard, kind, measure, change: as in ``Job``.
        control: the control's map, when ``kind`` is a control.
    """
    settings: dict[str, Any] = {}
    if measure == "faithfulness":
        settings["steps"] = config.steps
    if config.layer and kind == "grad_cam":
        settings["layer"] = config.layer
    if change is not None:
        settings["change"] = change.text
    content = {
        "schema": SCHEMA_VERSION,
        "explain": EXPLAIN_VERSION,
        "model": _told(model),
        "dataset": [data.name, data.revision, data.split],
        "samples": [shard.start, shard.stop],
        "map": kind,
        "measure": measure,
        "settings": settings,
        "block": config.block,
        "pass": config.number,
        "target": config.target,
        "control": "" if control is None else hashlib.sha256(control.tobytes()).hexdigest(),
        "boxes": _boxes(config),
        # Mosaics take images from the whole set that is measured.
        "set": sample_count(config.run, data) if measure == "grid_pointing" else None,
        "seed": config.run.seed,
        "device": config.run.device,
        "batch_size": config.run.batch_size if model.batch_dependent else None,
    }
    key = content_key(content)
    place = {
        "model": model.name,
        "dataset": data.name,
        "map": kind,
        "measure": measure,
        "start": shard.start,
        "stop": shard.stop,
        "key": key,
    }
    path = shard_path(config.run.out, place, LAYOUT)
    about = (model, data, shard, kind, measure, canonical_json(settings), change)
    code = code_sha256(model, data, CLEAN, "explain.model_run")
    return Job(*about, key, path, code, config.run.keep_older)


def _told(model: ModelIdentity) -> dict[str, Any]:
    told = {**asdict(model), "preprocess": asdict(model.preprocess)}
    # Modules of this package stand in each row and not in the key.
    return {name: value for name, value in told.items() if name != "code"}


def _boxes(config: ExplainConfig) -> str:
    if config.boxes is None:
        return ""
    from robustbench_snn.explain.boxes import fingerprint

    return fingerprint(Path(config.boxes))


def map_jobs(
    config: ExplainConfig, model: ModelIdentity, data: DataIdentity, kinds: Sequence[str]
) -> list[Job]:
    """The jobs that compute and store the maps themselves."""
    pieces = shards(sample_count(config.run, data), config.run.shard_size)
    return [make_job(config, model, data, piece, kind, MAPS) for piece in pieces for kind in kinds]


def costly_jobs(
    config: ExplainConfig,
    model: ModelIdentity,
    data: DataIdentity,
    kinds: Sequence[str],
    controls: Mapping[str, NDArray[np.float64]],
) -> list[Job]:
    """The jobs of the groups that run the model again, on the first ``costly_n`` samples.

    Args:
        config, model, data: what was asked.
        kinds: maps that are defined for the model.
        controls: control name to map [h, w], for the measurements that controls take part in.
    """
    n = min(config.costly_n, sample_count(config.run, data))
    measures = dict.fromkeys(GROUPS[group] for group in config.groups if GROUPS[group] != MAPS)
    jobs = []
    for piece in shards(n, config.run.shard_size):
        for measure in measures:
            for kind in kinds:
                if measure == "grid_pointing" and not KINDS[kind].class_specific:
                    continue
                changes = config.under if measure == "stability" else (None,)
                jobs += [
                    make_job(config, model, data, piece, kind, measure, change)
                    for change in changes
                ]
            if measure in WITH_CONTROLS:
                jobs += [
                    make_job(config, model, data, piece, name, measure, None, control)
                    for name, control in controls.items()
                ]
    return jobs
