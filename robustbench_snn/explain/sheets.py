"""Sheets of tiles from stored maps, or from a user's photographs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.card import Preprocess
from robustbench_snn.corruptions.names import CORRUPTIONS
from robustbench_snn.data import DATASETS, load_dataset
from robustbench_snn.errors import UsageError
from robustbench_snn.explain.choose import Choice
from robustbench_snn.explain.kinds import map_kind
from robustbench_snn.explain.settings import parse_change
from robustbench_snn.explain.sheet import Look, Row, Sheet, Tile
from robustbench_snn.explain.stored import Measured, short

DISCLAIMER = (
    "Maps follow this package's own definitions; no published heatmap of these models can be "
    "reproduced exactly, their definition being unpublished."
)


def stored_sheet(
    found: Sequence[Measured],
    choice: Choice,
    look: Look,
    data_dir: Path | None = None,
    images: dict[str, NDArray[Any]] | None = None,
    undefined: dict[str, str] | None = None,
    order: Sequence[str] = (),
) -> Sheet:
    """A sheet of one kind of map: a row for each chosen image, a column for each of ``found``.

    Args:
        found: maps of the same kind by several models (or of clean and changed images).
        choice: which images.
        look: how they are drawn; its ``kind`` is that of ``found``.
        data_dir: folder of the data set's files, as in an evaluation.
        images: sample id to image as drawn; None reads the data set.
        undefined: model to the reason why it has no such map; drawn as an empty column.
        order: models in the order of the columns; none keeps that of ``found``, empty ones last.
    """
    names = DATASETS.get(str(found[0].facts["dataset"])).class_names
    pictures = images or dataset_images(found[0], choice.ids, data_dir)
    rows = [
        _stored_row(found, sample, pictures[sample], names, choice, undefined or {}, order)
        for sample in choice.ids
    ]
    facts = found[0].facts
    about = (
        f"{facts['dataset']} ({facts['dataset_source']}, revision {facts['dataset_revision']}), "
        f"{facts['split']} split: {choice.rule}."
    )
    provenance = {
        "dataset": facts["dataset"],
        "dataset_revision": facts["dataset_revision"],
        "rule": choice.rule,
        "samples": choice.ids,
        "maps": [one.facts | {"result_keys": list(one.keys)} for one in found],
        "undefined": undefined or {},
    }
    return Sheet(rows, look, caption(found, look, about), provenance)


def changed_sheet(
    groups: Sequence[Sequence[Measured]],
    choice: Choice,
    look: Look,
    data_dir: Path | None = None,
) -> Sheet:
    """Maps of corrupted images: for each image one row for each corruption.

    Args:
        groups: for each corruption the ``stability`` measurements of every model, all of one kind
            of map.
        choice: which images.
        look: how they are drawn.
        data_dir: as in ``stored_sheet``.

    Raises:
        UsageError: images changed by an attack, which only the model that was attacked can make.
    """
    sheets = []
    for found in groups:
        change = found[0].change
        images = corrupted_images(found[0], choice.ids, data_dir)
        noted = Choice(choice.ids, choice.rule, {sample: change for sample in choice.ids})
        sheets.append(stored_sheet(found, noted, look, data_dir, images))
    rows = [sheet.rows[i] for i in range(len(choice.ids)) for sheet in sheets]
    maps = [one for sheet in sheets for one in sheet.provenance["maps"]]
    return Sheet(rows, look, sheets[0].caption, {**sheets[0].provenance, "maps": maps})


def corrupted_images(
    one: Measured, ids: Sequence[str], data_dir: Path | None
) -> dict[str, NDArray[Any]]:
    """Sample id to the corrupted image behind a ``stability`` measurement, drawn again."""
    from robustbench_snn.corruptions import corrupt_batch, preset_for

    if one.change.partition(":")[0] not in CORRUPTIONS:
        raise UsageError(
            f"images under '{one.change}' are not stored, and only the attacked model can make "
            "them again: choose a corruption."
        )
    change = parse_change(one.change)
    clean = dataset_images(one, ids, data_dir)
    x = np.stack([clean[sample] for sample in ids])
    preset = preset_for(x.shape[2], x.shape[3])
    seed = int(one.facts["seed"])
    changed = corrupt_batch(x, ids, change.corruption, change.severity, preset, seed)
    return dict(zip(ids, changed, strict=True))


def paper_order(found: Sequence[Measured]) -> list[Measured]:
    """Spike-driven Transformer, QKFormer, SpiLiFormer, then all others, as in the paper."""
    families = ("sdt", "qkformer", "spiliformer")

    def place(one: Measured) -> int:
        family = one.model.partition("-")[0]
        return families.index(family) if family in families else len(families)

    return sorted(found, key=place)


def dataset_images(
    one: Measured, ids: Sequence[str], data_dir: Path | None
) -> dict[str, NDArray[Any]]:
    """Sample id to image [3, H, W] in [0, 1], as the model saw it.

    Raises:
        UsageError: the data set's content is no longer what was measured.
    """
    facts = one.facts
    preprocess = Preprocess(**json.loads(facts["preprocess"]))
    opened = load_dataset(facts["dataset"], facts["split"], data_dir, preprocess)
    if opened.revision != facts["dataset_revision"]:
        raise UsageError(
            f"data set '{facts['dataset']}' has revision {opened.revision}, but the maps were "
            f"computed on {facts['dataset_revision']}: give the same files with --data-dir."
        )
    place = {sample: i for i, sample in enumerate(one.ids)}
    batch = opened.batch([place[sample] for sample in ids])
    if batch.ids != list(ids):
        raise UsageError("stored samples are not a prefix of the data set: compute them again.")
    return dict(zip(batch.ids, batch.x, strict=True))


def _stored_row(
    found: Sequence[Measured],
    sample: str,
    image: NDArray[Any],
    names: Sequence[str],
    choice: Choice,
    undefined: dict[str, str],
    order: Sequence[str],
) -> Row:
    places = [one.ids.index(sample) for one in found]
    label = int(found[0].labels[places[0]])
    tiles = [_tile(one, i, names) for one, i in zip(found, places, strict=True)]
    tiles += [
        Tile(short(model), None, note=f"not defined: {why}") for model, why in undefined.items()
    ]
    columns = [short(model) for model in order]
    tiles.sort(key=lambda tile: columns.index(tile.column) if tile.column in columns else 0)
    mask = None if found[0].masks is None else found[0].masks[places[0]]
    return Row(sample, image, names[label], tiles, mask, choice.notes.get(sample, ""))


def _tile(one: Measured, i: int, names: Sequence[str]) -> Tile:
    name = "changed:lift" if one.change else "lift"
    return Tile(
        column=short(one.model),
        values=None if one.maps is None else one.maps[i],
        predicted=names[int(one.predicted[i])],
        confidence=float(one.confidence[i]),
        correct=bool(one.predicted[i] == one.labels[i]),
        lift=float(one.metrics[name][i]) if name in one.metrics else None,
    )


def caption(found: Sequence[Measured], look: Look, about: str) -> str:
    """Everything a reader must know, as sentences."""
    kind = map_kind(look.kind)
    blocks = [
        f"{short(one.model)}: {one.facts['block']}"
        + (
            f", pass {one.facts['pass_number']} of {one.facts['passes']}"
            * (one.facts["passes"] > 1)
        )
        + f", T={one.facts['time_steps']}"
        + (f" ({one.facts['note']})" if one.facts["note"] else "")
        for one in found
    ]
    whose = "for the predicted class" if kind.class_specific else "class-agnostic"
    untrained = [short(one.model) for one in found if "untrained" in one.flags]
    parts = [
        f"{kind.name}: {kind.summary}; {whose}; unit: {kind.unit}.",
        f"Blocks: {'; '.join(blocks)}.",
        f"Colours {look.scale.replace('_', ' ')} scale, {look.upsampling} upsampling"
        + ("; raw range below each tile." if look.numbers else "."),
        about,
        f"Untrained weights, not a result: {', '.join(untrained)}." if untrained else "",
        DISCLAIMER,
    ]
    return " ".join(part for part in parts if part)
