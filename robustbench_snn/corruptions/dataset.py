"""A corrupted image set behind the interface of every image set: official files or generated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from robustbench_snn.card import ModelCard
from robustbench_snn.config import Corruption, RunConfig
from robustbench_snn.corruptions import frost_textures, generate, official
from robustbench_snn.corruptions.names import preset_for
from robustbench_snn.data.base import Batch, ImageDataset
from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.errors import UsageError

_JPEG_NOTE = {"cifar": "", "imagenet": f", JPEG quality {generate.JPEG_QUALITY}"}


class CorruptedImages:
    """One split under one corruption; implements ``ImageDataset``.

    Attributes:
        card, split: of the clean set, whose sample ids are kept.
        source: of the clean images, or ``local`` for official files.
        revision: covers the images underneath, the corruption and everything it depends on.
        corruption: name and severity.
        corruption_source: ``official`` or ``generated``.
        settings: what else the images depend on, as text for captions.
    """

    def __init__(
        self,
        images: ImageDataset,
        corruption: Corruption,
        corruption_source: str,
        settings: str,
        key: Sequence[object] = (),
        change: Callable[[Batch], Batch] | None = None,
    ) -> None:
        """Wrap ``images``.

        Args:
            images: clean images, or corrupted ones with ``change`` None.
            corruption, corruption_source, settings: see the attributes.
            key: what the images depend on beyond all that.
            change: makes corrupted images from clean ones.
        """
        self.card: DatasetCard = images.card
        self.split = images.split
        self.source = images.source if change is not None else "local"
        self.corruption = corruption
        self.corruption_source = corruption_source
        self.settings = settings
        self._images = images
        self._change = change
        content = [corruption.name, corruption.severity, corruption_source, settings, *key]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        self.revision = f"{images.revision}+{digest}"

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Corrupted images at ``indices``: ids, x float32 [B, 3, H, W] in [0, 1], y int64 [B]."""
        batch = self._images.batch(indices)
        return batch if self._change is None else self._change(batch)


def open_corrupted(
    config: RunConfig, card: ModelCard, corruption: Corruption, clean: Callable[[], ImageDataset]
) -> CorruptedImages:
    """The run's data under ``corruption``: official files where there are some, else generated.

    Args:
        config: of the run; ``corruptions_dir`` is where official files are looked for.
        card: of the model, whose input size chooses the constants.
        corruption: name and severity.
        clean: opens the clean images; called only if corrupted ones must be generated.

    Raises:
        UsageError: damaged official files, or constants that were not published for this size.
    """
    if config.corruptions_dir is not None:
        folder = Path(config.corruptions_dir)
        if corruption.name in official.available(config.dataset, folder):
            return _from_files(config, folder, corruption)
    return _from_clean(config, card, corruption, clean())


def _from_files(config: RunConfig, folder: Path, corruption: Corruption) -> CorruptedImages:
    if config.split != "test":
        raise UsageError(
            f"official corruption files are of the test split, but --split {config.split} was "
            "asked for: leave out --corruptions-dir to have them generated."
        )
    images = official.open_official(config.dataset, folder, corruption.name, corruption.severity)
    return CorruptedImages(images, corruption, official.SOURCE, "official files")


def _from_clean(
    config: RunConfig, card: ModelCard, corruption: Corruption, images: ImageDataset
) -> CorruptedImages:
    preset = config.corruption_preset or preset_for(*card.input_shape[-2:])
    frost = Path(config.frost_dir) if config.frost_dir else None
    settings = f"{preset} constants{_JPEG_NOTE[preset]}"
    if corruption.name == "frost":
        settings += f", frost from {frost_textures.label(frost)}"

    def change(batch: Batch) -> Batch:
        x = generate.corrupt_batch(
            batch.x,
            batch.ids,
            corruption.name,
            corruption.severity,
            preset,
            config.seed,
            frost_folder=frost,
        )
        return Batch(batch.ids, x, batch.y)

    key = (config.seed,)
    return CorruptedImages(images, corruption, generate.SOURCE, settings, key, change)
