"""Opening what a run names: device, model, data set; and what identifies a loaded model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.card import ModelCard
from robustbench_snn.config import RunConfig
from robustbench_snn.conformance import batch_independent
from robustbench_snn.data import load_dataset
from robustbench_snn.data.base import ImageDataset
from robustbench_snn.errors import UsageError
from robustbench_snn.plan import ModelIdentity
from robustbench_snn.source_code import foreign_source_sha256, own_roots
from robustbench_snn.weights import weights_identity


def resolve_device(text: str) -> torch.device:
    """The device ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` stands for, ready for exact numbers.

    TF32 and the choice of kernels by timing are switched off: both change results.

    Raises:
        UsageError: not a device, or one this machine lacks.
    """
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"device '{text}' is unknown: use auto, cpu, cuda or cuda:N.")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise UsageError(
                f"device '{text}' was asked for, but torch {torch.__version__} sees {count} CUDA "
                "devices: use --device cpu, or install a torch built for this GPU."
            )
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return torch.device(text)


def device_name(device: torch.device) -> str:
    """The GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def open_dataset(config: RunConfig, card: ModelCard) -> ImageDataset:
    """The run's split, preprocessed as the model's card says.

    Raises:
        UsageError: the data cannot be found.
    """
    folder = Path(config.data_dir) if config.data_dir else None
    return load_dataset(config.dataset, config.split, folder, card.preprocess)


def check_classes(card: ModelCard, data: ImageDataset) -> None:
    """Make sure a model and a data set count the same classes.

    Raises:
        UsageError: they do not.
    """
    if data.card.num_classes != card.num_classes:
        raise UsageError(
            f"model '{card.name}' has {card.num_classes} classes, but data set "
            f"'{data.card.name}' has {data.card.num_classes}, so its labels would mean nothing: "
            "choose a model trained on it (--list names them)."
        )


def open_model(config: RunConfig, name: str, device: torch.device) -> ModelAdapter:
    """The model ``name``, in eval mode, its parameters frozen, with its weights on ``device``.

    Raises:
        UsageError: unknown model, or weights that do not fit it.
    """
    # Untrained networks must come out the same each time, or no run of them could be resumed.
    torch.manual_seed(0)
    return load_model(
        name,
        weights=config.weights,
        device=str(device),
        plugins=config.plugins,
        model_args=config.model_args,
    )


def identify(model: ModelAdapter, images: Tensor | None = None) -> ModelIdentity:
    """What of ``model`` can change a number.

    Args:
        model: as opened.
        images: a few of its images [B, *input_shape]; with them a plug-in's answers are asked
            for together and one by one, so that a network that mixes its batch shows.
    """
    source = foreign_source_sha256(type(model))
    official = {str(found) for m in model.modules() if (found := getattr(m, "ssa_proj_lif", ""))}
    layer = "official" if "official" in official else next(iter(official), "")
    bound = model.card.max_value
    return ModelIdentity(
        name=model.card.name,
        config=model.config_json,
        weights_sha256=weights_identity(model),
        source_sha256=source,
        surrogate=model.surrogate,
        ssa_proj_lif=layer,
        time_steps=model.card.time_steps,
        preprocess=model.card.preprocess,
        batch_dependent=layer == "official" or (bool(source) and _mixes(model, images)),
        clamp="[0, inf)" if bound is None else f"[0, {bound:g}]",
        code=own_roots(type(model)),
    )


def _mixes(model: ModelAdapter, images: Tensor | None) -> bool:
    if images is None or len(images) < 2:
        return False
    try:
        return not batch_independent(model, images, images).passed
    except Exception:
        # What is wrong with the model is reported by the checks before a run.
        return False
