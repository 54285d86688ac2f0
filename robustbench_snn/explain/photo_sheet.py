"""Maps of a user's own pictures as a sheet of tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.data import DATASETS
from robustbench_snn.explain.compute import Computed, Reading, compute_maps
from robustbench_snn.explain.kinds import map_kind
from robustbench_snn.explain.photographs import as_input, preprocess_for, read_photograph
from robustbench_snn.explain.sheet import Look, Row, Sheet, Tile
from robustbench_snn.explain.sheets import DISCLAIMER
from robustbench_snn.explain.stored import short


def photo_sheet(
    models: Sequence[ModelAdapter],
    paths: Sequence[Path],
    looks: Mapping[str, Look],
    reading: Reading,
    seed: int = 0,
    batch_size: int = 16,
) -> tuple[dict[str, Sheet], dict[tuple[str, str], str]]:
    """One sheet for each kind of map: a row for each picture, a column for each model.

    Args:
        models: adapters of image models; the first one's crop is what the image column shows.
        paths: pictures of any size.
        looks: kind of map to how it is drawn.
        reading: kinds, block and pass.
        seed, batch_size: see ``compute_maps``.

    Returns:
        (kind to sheet, (model, kind) to the reason why that map is not defined); a kind that no
        model has gets no sheet.

    Raises:
        UsageError: a file that is no colour photograph, or a model of event frames.
    """
    pictures = [read_photograph(path) for path in paths]
    ids = [path.name for path in paths]
    inputs = [_inputs(model, pictures) for model in models]
    found = [
        compute_maps(model, x, ids, reading, None, seed, batch_size)
        for model, x in zip(models, inputs, strict=True)
    ]
    pairs = list(zip(models, found, strict=True))
    undefined = {(m.card.name, kind): why for m, c in pairs for kind, why in c.undefined.items()}
    sheets = {
        kind: Sheet(
            [
                Row(name, inputs[0][i], "", [_tile(m, c, kind, i) for m, c in pairs])
                for i, name in enumerate(ids)
            ],
            look,
            _caption(models, found, look),
            {"images": ids, "maps": [_origin(m, c) for m, c in pairs]},
        )
        for kind, look in looks.items()
        if any(kind in c.maps for c in found)
    }
    return sheets, undefined


def _origin(model: ModelAdapter, found: Computed) -> dict[str, Any]:
    return {
        "model": model.card.name,
        "weights_sha256": model.weights_sha256,
        "surrogate": model.surrogate,
        "block": found.block,
        "pass_number": found.number,
    }


def _inputs(model: ModelAdapter, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
    preprocess, _ = preprocess_for(model.card)
    return np.stack([as_input(picture, preprocess) for picture in pictures])


def _tile(model: ModelAdapter, found: Computed, kind: str, i: int) -> Tile:
    names = DATASETS.get(model.card.dataset).class_names if _known(model) else ()
    predicted = int(found.predicted[i])
    values: Any = found.maps.get(kind)
    return Tile(
        column=short(model.card.name),
        values=None if values is None else values[i],
        predicted=names[predicted] if predicted < len(names) else f"class {predicted}",
        confidence=float(found.confidence[i]),
        note="" if values is not None else f"not defined: {found.undefined.get(kind, '')}",
    )


def _known(model: ModelAdapter) -> bool:
    return model.card.dataset in DATASETS.names()


def _caption(models: Sequence[ModelAdapter], found: Sequence[Computed], look: Look) -> str:
    kind = map_kind(look.kind)
    blocks = [
        f"{short(model.card.name)}: {one.block}"
        + (f", pass {one.number} of {one.passes}" if one.passes > 1 else "")
        + f", T={model.card.time_steps}"
        + (f" ({one.notes[look.kind]})" if one.notes.get(look.kind) else "")
        for model, one in zip(models, found, strict=True)
    ]
    ways = dict.fromkeys(preprocess_for(model.card)[1] for model in models)
    sets = ", ".join(dict.fromkeys(model.card.dataset for model in models))
    untrained = [short(m.card.name) for m in models if m.weights_sha256 == "untrained"]
    parts = [
        f"{kind.name}: {kind.summary}; unit: {kind.unit}.",
        f"Blocks: {'; '.join(blocks)}.",
        f"Colours {look.scale.replace('_', ' ')} scale, {look.upsampling} upsampling; raw range "
        "below each tile.",
        f"Pictures given by the user: {'; '.join(ways)}. Their true classes are not known here. "
        f"The models were trained on {sets} and know only its classes, whatever a picture shows.",
        f"Untrained weights, not a result: {', '.join(untrained)}." if untrained else "",
        DISCLAIMER,
    ]
    return " ".join(part for part in parts if part)
