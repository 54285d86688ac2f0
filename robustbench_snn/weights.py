"""Where weights come from and how a file becomes a strict state dict. Never arbitrary pickle."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.parameter import is_lazy

from robustbench_snn.errors import UsageError
from robustbench_snn.fit import check_fit, check_origin
from robustbench_snn.hub_file import hub_file
from robustbench_snn.resumable import looks_like_html

if TYPE_CHECKING:
    from robustbench_snn.adapter import ModelAdapter

CHECKPOINTS = Path(__file__).parent / "checkpoints"
_WRAPPERS = ("state_dict", "model")
# What a card says of weights that the network brings along.
BUILD = "build:"


def load_weights(model: ModelAdapter, source: str | None = None, ema: bool = False) -> None:
    """Load ``source`` (default: the card's checkpoint) into ``model``, strictly.

    Floating-point tensors are converted to the parameter's type (float16 files give float32
    models). Sets ``model.weights_sha256`` and ``model.weights_source``; leaves a model without any
    checkpoint untrained.

    Args:
        model: the adapter to fill.
        source: path, ``hub:OWNER/REPO/FILE[@REVISION]``, or None.
        ema: read ``state_dict_ema`` of a timm checkpoint instead of ``state_dict``.

    Raises:
        UsageError: missing file, wrong hash, not a checkpoint, or one of another architecture or
            variant.
    """
    checkpoint = model.card.checkpoint
    if source is None:
        if checkpoint is None:
            return
        model.weights_source = checkpoint.source
        if checkpoint.source.startswith(BUILD):
            _accept_built(model, checkpoint.sha256)
            return
        path, expected = locate(checkpoint.source), checkpoint.sha256
    else:
        model.weights_source = source
        path, expected = locate(source), None
    found = file_sha256(path)
    if expected and found != expected:
        raise UsageError(
            f"weights of '{model.card.name}' ({path.name}) have sha256 {found[:12]}…, the card "
            f"says {expected[:12]}…: the file is damaged or another; fetch it again."
        )
    content = read_content(path)
    if source is not None:
        check_origin(model, content, path)
    raw = unwrap(content, path, ema)
    if file_sha256(path) != found:
        raise UsageError(f"weights '{path}' changed while they were read: run the command again.")
    state = model.state_dict_map(raw)
    check_fit(model, state, raw, path)
    model.net.load_state_dict(state, strict=True)
    model.weights_sha256 = found


def weights_identity(model: ModelAdapter) -> str:
    """The checkpoint's sha256; ``untrained:`` and a hash over all tensors where there is none."""
    if model.weights_sha256 != "untrained":
        return model.weights_sha256
    return f"untrained:{state_sha256(model)}"


def _accept_built(model: ModelAdapter, expected: str | None) -> None:
    found = state_sha256(model.net)
    if expected and found != expected:
        raise UsageError(
            f"weights of '{model.card.name}' that build() loads have sha256 {found[:12]}…, the "
            f"card says {expected[:12]}…: build() loads another file, or draws some at random."
        )
    model.weights_sha256 = found


def state_sha256(net: torch.nn.Module) -> str:
    """Lower-case hex sha256 over the names and the bytes of a network's tensors."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_finite(model: ModelAdapter) -> None:
    """Make sure that no weight is NaN or infinite; infinite constants (masks) may be.

    Raises:
        UsageError: naming the first such tensors.
    """
    weights = {name for name, _ in model.net.named_parameters()}
    wrong = []
    for name, value in (*model.net.named_parameters(), *model.net.named_buffers()):
        if is_lazy(value) or not value.is_floating_point():
            continue
        finite = value.isfinite()
        if not (name in weights or name.endswith(("running_mean", "running_var"))):
            finite = ~value.isnan()
        if not bool(finite.all()):
            wrong.append(f"{name} ({int((~finite).sum())} of {value.numel()})")
    if wrong:
        raise UsageError(
            f"weights of model '{model.card.name}' are not finite: {', '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more tensors' if len(wrong) > 3 else ''}; the training "
            "diverged or the file is damaged: use another checkpoint."
        )


def locate(source: str) -> Path:
    """The local file behind ``package:``, ``file:``, ``hub:`` or a plain path."""
    if source.startswith("package:"):
        return CHECKPOINTS / source.removeprefix("package:")
    if source.startswith("hub:"):
        return download(source.removeprefix("hub:"))
    path = Path(source.removeprefix("file:")).expanduser()
    if not path.is_file():
        raise UsageError(
            f"weights '{source}' were asked for, but there is no such file: check the path."
        )
    return path


def download(address: str) -> Path:
    """A file of the Hub, ``OWNER/REPO/FILE[@REVISION]``, through its local cache.

    Raises:
        UsageError: a malformed address, or no network and not in the cache.
    """
    address, _, revision = address.partition("@")
    parts = address.split("/", 2)
    if len(parts) != 3:
        raise UsageError(f"'hub:{address}' is no file of the Hub: write hub:OWNER/REPO/FILE.")
    return hub_file("/".join(parts[:2]), parts[2], revision or None)


def file_sha256(path: Path) -> str:
    """Lower-case hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_page(path: Path, what: str) -> None:
    """Raise UsageError where ``path`` is empty, or a web page in the place of a ``what``."""
    with path.open("rb") as file:
        head = file.read(256)
    if looks_like_html(head) or not head:
        found = "an HTML page, as a failed download leaves it" if head else "empty"
        raise UsageError(f"'{path}' is not a {what} but {found}: download the file again.")


def torch_content(path: Path) -> Any:
    """What ``torch.save`` stored: tensors, containers, numbers, text and ``argparse.Namespace``.

    Raises:
        pickle.UnpicklingError: other objects.
        ValueError: damaged, or not such a file.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mapped = zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # what is no pickle may fail in any way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no content"
        raise ValueError(reason) from error


def read_state_dict(path: Path, ema: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch checkpoint (weights only).

    Layouts: a bare state dict, or one under ``state_dict`` or ``model`` (``state_dict_ema`` with
    ``ema``); a leading ``module.`` is dropped; ``argparse.Namespace`` is the one class allowed
    beside tensors.

    Raises:
        UsageError: not such a file, or one with other objects in it.
    """
    return unwrap(read_content(path), path, ema)


def read_content(path: Path) -> Any:
    """Everything a safetensors file or torch checkpoint holds, the tensors mapped where possible.

    What lies beside the weights, as the state of an optimizer, is then never read into memory.

    Raises:
        UsageError: not such a file, or one with objects that could run code.
    """
    refuse_page(path, "checkpoint")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"'{path}' is not a readable safetensors file ({error}).") from error
    try:
        return torch_content(path)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"'{path}' holds objects other than tensors, numbers and text, which could run code "
            "when loaded, or is no checkpoint at all: save the state dict alone "
            "(safetensors.torch.save_file) and use that file."
        ) from error
    except ValueError as error:
        raise UsageError(f"'{path}' is not a readable torch checkpoint ({error}).") from error


def unwrap(content: Any, path: Path, ema: bool) -> dict[str, Tensor]:
    """The state dict inside a checkpoint of any known layout."""
    wanted = ("state_dict_ema",) if ema else _WRAPPERS
    state = content
    if isinstance(content, dict):
        held = [key for key in wanted if isinstance(content.get(key), dict)]
        if ema and not held:
            raise UsageError(f"'{path}' has no 'state_dict_ema': it holds {sorted(content)[:8]}.")
        state = content[held[0]] if held else content
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(
            f"'{path}' holds no state dict: expected tensors by name, bare or under "
            "'state_dict' or 'model'."
        )
    return {key.removeprefix("module."): value for key, value in state.items()}
