"""The original python archives of CIFAR-10 and CIFAR-100, read without running their pickles.

Layout: https://www.cs.toronto.edu/~kriz/cifar.html. Every batch file is a pickled dictionary with
``data`` (uint8 [N, 3072], channel by channel) and ``labels`` or ``fine_labels``.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.errors import UsageError

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
TARBALLS = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}
BATCHES = {
    ("cifar10", "train"): tuple(f"data_batch_{i}" for i in range(1, 6)),
    ("cifar10", "test"): ("test_batch",),
    ("cifar100", "train"): ("train",),
    ("cifar100", "test"): ("test",),
}
# The largest batch file, CIFAR-100's training set, has 155 MB, either archive 186 MB unpacked.
_LARGEST_BATCH, _LARGEST_ARCHIVE = 200_000_000, 400_000_000
# The file beside the batches that names the classes, and what it calls them.
_NAMES = {
    "cifar10": ("batches.meta", "label_names"),
    "cifar100": ("meta", "fine_label_names"),
}
_LABEL_KEYS = {"cifar10": "labels", "cifar100": "fine_labels"}
_RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArchiveRows:
    """One split of the archives, decoded once as uint8 (at most 154 MB); see ``Rows``."""

    source = "local"

    def __init__(self, archive: Path, dataset: str, split: str) -> None:
        """Read the split's batch files from a folder or a ``.tar.gz``.

        Args:
            archive: what ``find_archive`` returned.
            dataset: ``cifar10`` or ``cifar100``.
            split: ``train`` or ``test``.

        Raises:
            UsageError: a batch file is missing, damaged or holds anything but arrays.
        """
        self._archive = archive
        names = BATCHES[dataset, split]
        batches = [
            _parse(stored, f"{archive}/{name}", _LABEL_KEYS[dataset])
            for name, stored in zip(names, _read(archive, names), strict=True)
        ]
        self._pixels = np.concatenate([pixels for pixels, _ in batches])
        self.labels = np.concatenate([labels for _, labels in batches])
        self.class_names = _class_names(archive, dataset)

    def fingerprint(self) -> str:
        """Short sha256 over all pixels and labels of the split."""
        digest = hashlib.sha256(self._pixels.tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()[:12]

    def name(self, index: int) -> str:
        """Archive and row, for messages."""
        return f"image {index} of {self._archive}"

    def identity(self, index: int) -> None:
        """Rows are named by their position."""

    def pictures(self, indices: Sequence[int]) -> list[Image.Image]:
        """The pictures at ``indices``, 32x32 RGB."""
        return [Image.fromarray(self._pixels[i].transpose(1, 2, 0)) for i in indices]


def find_archive(dataset: str, folder: Path) -> Path | None:
    """The archive's folder or ``.tar.gz`` in ``folder`` (or ``folder`` itself), None if absent."""
    inside = folder / FOLDERS[dataset]
    if inside.is_dir():
        return inside
    first = BATCHES[dataset, "test"][0]
    if (folder / first).is_file():
        return folder
    tarball = folder / TARBALLS[dataset]
    return tarball if tarball.is_file() else None


def restricted_loads(stored: bytes, name: str) -> Any:
    """Unpickle data that may hold NumPy arrays and plain containers, and nothing else.

    Raises:
        UsageError: the pickle names any other object, or is damaged.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(stored), name).load()
    except UsageError:
        raise
    except Exception as error:  # a damaged pickle may fail in any way
        raise UsageError(
            f"{name} is not a readable CIFAR batch file ({error}): fetch the archive again."
        ) from error


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, name: str) -> None:
        # The archives were written by Python 2, whose strings are bytes.
        super().__init__(stream, encoding="latin1")
        self._name = name

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        found = _ALLOWED.get((module, name))
        if found is None:
            raise UsageError(
                f"{self._name} asks to load {module}.{name}, which a CIFAR archive never holds and "
                "which could run code: fetch the archive from its original source."
            )
        allowed: Callable[..., Any] = found
        return allowed


def _class_names(archive: Path, dataset: str) -> list[str] | None:
    """What the archive calls its classes, in label order; None where it lacks that file."""
    name, key = _NAMES[dataset]
    stored = _found(archive, (name,)).get(name)
    content = None if stored is None else restricted_loads(stored, f"{archive}/{name}")
    names = content.get(key) if isinstance(content, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else None


def _read(archive: Path, names: Sequence[str]) -> list[bytes]:
    """The named files of a folder or tarball, in that order."""
    stored = _found(archive, names)
    missing = [name for name in names if name not in stored]
    if missing:
        raise UsageError(f"{archive} lacks {', '.join(missing)}: fetch the archive again.")
    return [stored[name] for name in names]


def _found(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Those of the named files that a folder or tarball holds."""
    if archive.is_dir():
        return {n: (archive / n).read_bytes() for n in names if (archive / n).is_file()}
    return _read_tar(archive, names)


def _read_tar(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    stored: dict[str, bytes] = {}
    unpacked = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                unpacked += max(member.size, 0)
                if member.size > _LARGEST_BATCH or unpacked > _LARGEST_ARCHIVE:
                    raise UsageError(
                        f"{archive} unpacks to more than the original archive holds (at "
                        f"'{member.name}'), so nothing of it was read: fetch it again."
                    )
                name = Path(member.name).name
                if name not in names:
                    continue
                content = tar.extractfile(member) if member.isfile() else None
                if content is None:
                    raise UsageError(
                        f"{archive} holds '{member.name}' as a link or folder instead of a file: "
                        "fetch it again."
                    )
                stored[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, KeyError, zlib.error) as error:
        raise UsageError(f"{archive} cannot be unpacked ({error}): fetch it again.") from error
    return stored


def _parse(stored: bytes, name: str, label_key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels uint8 [N, 3, 32, 32] and labels int64 [N] of one batch file."""
    batch = restricted_loads(stored, name)
    fields = batch if isinstance(batch, dict) else {}
    pixels, labels = fields.get("data"), fields.get(label_key)
    if not (
        isinstance(labels, list)
        and all(isinstance(label, int) for label in labels)
        and isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.shape == (len(labels), 3072)
    ):
        raise UsageError(
            f"{name} lacks 'data' (uint8, N x 3072) with N '{label_key}': it is no batch file of "
            "this data set; fetch the archive again."
        )
    return pixels.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)
