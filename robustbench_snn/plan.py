"""From a configuration to the list of results it needs, each under its content key; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.specs import BRIDGE_PREFIX, attack_type, group
from robustbench_snn.card import Preprocess
from robustbench_snn.config import (
    CLEAN,
    DEFAULT_N,
    FAST,
    Corruption,
    RunConfig,
    Shard,
    content_key,
    parse_part,
    shards,
)
from robustbench_snn.data.catalogue import DATASETS
from robustbench_snn.errors import UsageError
from robustbench_snn.provenance import version_of
from robustbench_snn.schema import SCHEMA_VERSION
from robustbench_snn.source_code import (
    foreign_source_sha256,
    installed_version,
    own_roots,
    own_source_sha256,
)
from robustbench_snn.store import look, shard_path

# Raise when a change of code changes numbers for sure; the source itself stands in every row.
EVALUATION_VERSION = 1
UNREADABLE = "is damaged, of another schema, or no results file"


@dataclass(frozen=True)
class ModelIdentity:
    """Everything about a loaded model that can change its numbers.

    Attributes:
        name: catalogue name.
        config: constructor arguments as canonical JSON.
        weights_sha256: of the checkpoint; ``untrained:`` and a hash when there is none.
        source_sha256: of the plug-in and all modules it brings in; empty for our own.
        surrogate: what spikes are differentiated as, for example ``sigmoid(alpha=4)``.
        ssa_proj_lif: ``per_sample`` or ``official`` where the family has the choice, else empty.
        time_steps: T of one forward pass.
        preprocess: how stored images become inputs.
        batch_dependent: whether an image's logits depend on the other images of its batch.
        clamp: the input range attacks keep to, as text.
        code: modules of this package that define the model; no part of the content key.
    """

    name: str
    config: str
    weights_sha256: str
    source_sha256: str
    surrogate: str
    ssa_proj_lif: str
    time_steps: int
    preprocess: Preprocess
    batch_dependent: bool = False
    clamp: str = "[0, 1]"
    code: frozenset[str] = frozenset()

    @property
    def untrained(self) -> bool:
        """Whether the model has no trained weights, so that its accuracies mean nothing."""
        return self.weights_sha256.startswith("untrained")


@dataclass(frozen=True)
class DataIdentity:
    """One split as opened, corrupted or not.

    Attributes:
        name, split: as asked for.
        source: ``embedded``, ``hub`` or ``local``.
        revision: covers the content, corruption included.
        size: number of samples.
        corruption: what was done to the images; None for clean ones.
        corruption_source: ``official`` or ``generated``; empty for clean images.
        corruption_settings: what the corrupted images depend on, as text.
    """

    name: str
    source: str
    revision: str
    split: str
    size: int
    corruption: Corruption | None = None
    corruption_source: str = ""
    corruption_settings: str = ""


@dataclass(frozen=True)
class Cell:
    """One result to come: an attack on one shard, and the key and file it will have.

    ``code`` is the sha256 of the source of this package that the result depends on.
    """

    spec: AttackSpec
    key: str
    path: Path
    code: str = ""


@dataclass(frozen=True)
class Task:
    """What one worker does at a time: all attacks of one model on one shard.

    The clean pass is made once and serves every group; each inner tuple is one computation.
    """

    model: ModelIdentity
    data: DataIdentity
    shard: Shard
    groups: tuple[tuple[Cell, ...], ...]

    @property
    def cells(self) -> list[Cell]:
        """The cells of all groups."""
        return [cell for group in self.groups for cell in group]


def grouped(attacks: Sequence[AttackSpec]) -> list[list[AttackSpec]]:
    """Attacks that one computation serves, together; clean accuracy is a group of its own."""
    rest = [spec for spec in attacks if spec != CLEAN]
    return ([[CLEAN]] if CLEAN in attacks else []) + group(rest)


def batch_dependent(model: ModelIdentity, spec: AttackSpec) -> bool:
    """Whether the batch size can change this result, and so belongs to its key."""
    if model.batch_dependent or spec == CLEAN:
        return model.batch_dependent
    coupled = "over=batch" in str(spec.params.get("estimator", ""))
    return coupled or attack_type(spec.name).batch_dependent


def key_content(
    config: RunConfig,
    model: ModelIdentity,
    data: DataIdentity,
    shard: Shard,
    spec: AttackSpec,
    device_type: str,
) -> dict[str, Any]:
    """All that can change the number of one cell, and nothing that cannot."""
    return {
        "schema": SCHEMA_VERSION,
        "evaluation": EVALUATION_VERSION,
        "model": model.name,
        "config": model.config,
        "weights": model.weights_sha256,
        "source": model.source_sha256,
        "surrogate": model.surrogate,
        "ssa_proj_lif": model.ssa_proj_lif,
        "time_steps": model.time_steps,
        "preprocess": asdict(model.preprocess),
        "dataset": data.name,
        "revision": data.revision,
        "split": data.split,
        "samples": [shard.start, shard.stop],
        "attack": spec.name,
        "params": dict(spec.params),
        "attack_source": _attack_source(spec),
        "seed": config.seed,
        "device": device_type,
        "precision": precision(config, spec),
        "batch_size": config.batch_size if batch_dependent(model, spec) else None,
    }


def precision(config: RunConfig, spec: AttackSpec) -> str:
    """What ``spec`` is computed in; predictions, and so clean accuracy, are float32 always."""
    # Other attacks take one gradient, or spare samples that are wrong already in any case.
    exact = spec == CLEAN or (config.fast == "early-stop" and spec.name != "pgd")
    return FAST["none" if exact else config.fast]


def _attack_source(spec: AttackSpec) -> str:
    if spec.name.startswith(BRIDGE_PREFIX):
        return installed_version("torchattacks")
    return "" if spec == CLEAN else foreign_source_sha256(attack_type(spec.name).impl)


def code_sha256(
    model: ModelIdentity, data: DataIdentity, spec: AttackSpec = CLEAN, *more: str
) -> str:
    """sha256 of the source of this package that decides one result.

    Args:
        model, data, spec: what is measured.
        more: modules that measure it; ``worker`` if there are none.
    """
    roots = {*(more or ("worker",)), *model.code}
    if spec != CLEAN:
        roots |= own_roots(attack_type(spec.name).impl)
    if "source" in spec.params:
        roots.add("models.adapters")
    if data.name in DATASETS.names():
        roots |= own_roots(DATASETS.get(data.name).loader)
    spared = "" if data.corruption is not None or more else "corruptions"
    return own_source_sha256(roots, spared)


def sample_count(config: RunConfig, data: DataIdentity) -> int:
    """How many samples the run takes from the start of the split.

    Raises:
        UsageError: more samples were asked for than there are.
    """
    if config.n is None:
        return min(DEFAULT_N, data.size)
    if config.n > data.size:
        raise UsageError(
            f"--n {config.n} asks for more samples than {data.name} has in its {data.split} "
            f"split ({data.size}): use --n {data.size} or less."
        )
    return config.n


def plan(
    config: RunConfig,
    models: Sequence[ModelIdentity],
    data: Mapping[str, Sequence[DataIdentity]],
    device_type: str,
) -> list[Task]:
    """Every task of the run, finished or not: by model, then version of the data, then shard.

    Args:
        config: what was asked.
        models: the models as loaded.
        data: model name to the data it is evaluated on, in all its versions.
        device_type: ``cpu`` or ``cuda``, without an index.

    Raises:
        UsageError: more samples were asked for than there are.
    """
    tasks = []
    for model in models:
        _check_sizes(data[model.name])
        for found in data[model.name]:
            for shard in shards(sample_count(config, found), config.shard_size):
                groups = tuple(
                    tuple(_cell(config, model, found, shard, spec, device_type) for spec in specs)
                    for specs in grouped(config.attacks)
                )
                tasks.append(Task(model, found, shard, groups))
    return tasks


def part(tasks: Sequence[Task], text: str | None) -> list[Task]:
    """Part ``i/n`` of the tasks: every n-th, so that all parts cost alike; all of them for None.

    Raises:
        UsageError: there are fewer tasks than parts.
    """
    if text is None:
        return list(tasks)
    index, count = parse_part(text)
    if len(tasks) < count:
        raise UsageError(
            f"--shard {text} cuts the run in {count} parts, but it has only {len(tasks)} shards: "
            f"use --shard I/{len(tasks)} at most, or a smaller --shard-size."
        )
    return list(tasks[index - 1 :: count])


def _check_sizes(versions: Sequence[DataIdentity]) -> None:
    # A mean over corruptions is of the same images everywhere, or it is of nothing.
    short = min(versions, key=lambda found: found.size)
    longest = max(found.size for found in versions)
    if short.size != longest and short.corruption is not None:
        raise UsageError(
            f"{short.name} has {short.size} images under {short.corruption.name} at severity "
            f"{short.corruption.severity} ({short.corruption_source}) and {longest} elsewhere: "
            "files are missing; complete them, or leave this corruption out."
        )


def _cell(
    config: RunConfig,
    model: ModelIdentity,
    data: DataIdentity,
    shard: Shard,
    spec: AttackSpec,
    device_type: str,
) -> Cell:
    key = content_key(key_content(config, model, data, shard, spec, device_type))
    place = {
        "model": model.name,
        "dataset": data.name,
        "attack": spec.name,
        "start": shard.start,
        "stop": shard.stop,
        "key": key,
    }
    return Cell(spec, key, shard_path(config.out, place), code_sha256(model, data, spec))


def missing(tasks: Sequence[Task], keep_older: bool = False) -> tuple[list[Task], list[str]]:
    """The part of ``tasks`` that has no finished file yet, and a note on what was found.

    Args:
        tasks: what is asked for.
        keep_older: whether results of another version of the source count as finished.
    """
    left, notes = [], []
    older: list[Path] = []
    torches: dict[str, int] = {}
    for task in tasks:
        groups = []
        for cells in task.groups:
            todo = []
            for cell in cells:
                state, row = look(cell.path, cell.key, code=cell.code)
                if state == "unreadable":
                    notes.append(f"'{cell.path}' {UNREADABLE} and is computed again.")
                if state == "older":
                    older.append(cell.path)
                if state == "ok" or (state == "older" and keep_older):
                    torch = str((row or {}).get("torch_version"))
                    torches[torch] = torches.get(torch, 0) + 1
                else:
                    todo.append(cell)
            groups.append(tuple(todo))
        if any(groups):
            found = tuple(cells for cells in groups if cells)
            left.append(Task(task.model, task.data, task.shard, found))
    return left, [*notes, *older_notes(older, keep_older), *_torch_notes(torches)]


def older_notes(older: Sequence[Path], keep: bool) -> list[str]:
    """One sentence on results of another version of this package's source, if there are any."""
    if not older:
        return []
    what = f"{len(older)} results on disk (first: '{older[0]}') come from another version of this "
    if keep:
        return [what + "package's source; --keep-older takes them as they are."]
    return [what + "package's source and are computed again; --keep-older takes them as they are."]


def _torch_notes(found: Mapping[str, int]) -> list[str]:
    here = version_of("torch")
    return [
        f"{count} results on disk were computed with torch {version}, this is {here}: rounding "
        "may differ."
        for version, count in found.items()
        if version not in (here, "None", "unknown")
    ]


def work(cells: Sequence[Cell]) -> tuple[int, int]:
    """(gradients, forward passes beside them) of one computation per sample."""
    gradients = [0 if cell.spec == CLEAN else _gradients(cell.spec) for cell in cells]
    alone = max(int(cell.spec.params.get(k, 0)) for cell in cells for k in ("queries", "draws"))
    return max(gradients), alone + len(cells)


def forwards(cells: Sequence[Cell]) -> int:
    """Rough cost of one computation per sample, in forward passes; for progress and estimates.

    A gradient costs about three forward passes; every result is predicted once more.
    """
    gradients, alone = work(cells)
    return 3 * gradients + alone


def _gradients(spec: AttackSpec) -> int:
    targets = int(spec.params["targets"]) if spec.params.get("loss") == "dlr-targeted" else 1
    factors = [int(spec.params.get(key, 1)) for key in ("steps", "restarts", "eot")]
    free = "queries" in spec.params or "draws" in spec.params
    return 0 if free else math.prod(factors) * targets
