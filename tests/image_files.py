"""Tiny local copies of the layouts in which CIFAR and ImageNet are distributed."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image


def noise(count: int, seed: int = 0) -> np.ndarray:
    """Random pixels uint8 [count, 3, 32, 32]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """One image uint8 [3, H, W], losslessly encoded."""
    stream = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, format="PNG")
    return stream.getvalue()


def write_parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: list[Any],
    image_column: str = "img",
    label_column: str = "label",
) -> None:
    """Columns as on the Hub: a struct of bytes and path, and a whole number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = {image_column: pa.array(cells, kind), label_column: pa.array(labels)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)


class _Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did, like the original archives."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, text: bytes | str) -> None:
        raw = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2_pickle(content: dict[str, Any]) -> bytes:
    """``content`` (arrays, lists, text, numbers) as a Python 2 pickle."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def batch_file(pixels: np.ndarray, labels: list[int], label_key: str = "labels") -> bytes:
    """One batch file of the python archives."""
    return python2_pickle({"data": pixels.reshape(len(pixels), -1), label_key: labels})
