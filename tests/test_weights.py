"""Loading weights: every layout, strictly, and nothing that could run code."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.card import Checkpoint
from robustbench_snn.errors import UsageError
from robustbench_snn.weights import file_sha256, load_weights, read_state_dict

NAME = "sdt-2-256.cifar10"


@pytest.fixture(scope="module")
def model() -> ModelAdapter:
    return load_model(NAME)


@pytest.fixture(scope="module")
def state(model: ModelAdapter) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        k: torch.rand(v.shape, generator=generator) if v.is_floating_point() else v.clone()
        for k, v in model.net.state_dict().items()
    }


def loads(model: ModelAdapter, path: Path, state: dict[str, torch.Tensor], **kw: bool) -> None:
    load_weights(model, str(path), **kw)
    assert all(torch.equal(v, state[k]) for k, v in model.net.state_dict().items())
    assert model.weights_sha256 == file_sha256(path)


@pytest.mark.parametrize("key", ["model", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_layouts(
    tmp_path: Path, model: ModelAdapter, state: dict[str, torch.Tensor], key: str, prefix: str
) -> None:
    named = {prefix + k: v for k, v in state.items()}
    extras = {"epoch": 3, "optimizer": {"lr": 0.1}, "args": argparse.Namespace(lr=0.1)}
    content = {key: named, **extras} if key else named
    torch.save(content, tmp_path / "checkpoint.pth")
    loads(model, tmp_path / "checkpoint.pth", state)


def test_averaged_weights_on_request(
    tmp_path: Path, model: ModelAdapter, state: dict[str, torch.Tensor]
) -> None:
    other = {k: torch.zeros_like(v) for k, v in state.items()}
    path = tmp_path / "model_best.pth.tar"
    torch.save({"state_dict": other, "state_dict_ema": state}, path)
    loads(model, path, state, ema=True)
    loads(model, path, other)
    torch.save({"state_dict": other}, path)
    with pytest.raises(UsageError, match="no 'state_dict_ema'"):
        load_weights(model, str(path), ema=True)


def test_safetensors_and_half_precision(
    tmp_path: Path, model: ModelAdapter, state: dict[str, torch.Tensor]
) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    back = {k: v.float() if v.is_floating_point() else v for k, v in half.items()}
    loads(model, tmp_path / "half.safetensors", back)
    assert model.net.head.weight.dtype == torch.float32


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("created-by-the-checkpoint",)


def test_pickled_objects_are_refused_and_not_run(
    tmp_path: Path, model: ModelAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"head.weight": Evil()}}, "evil.pth")
    with pytest.raises(UsageError, match="could run code"):
        load_weights(model, "evil.pth")
    assert not Path("created-by-the-checkpoint").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("page.pth", b"<!DOCTYPE html><html>Not found</html>", "an HTML page"),
        ("page.safetensors", b"\n <html>", "an HTML page"),
        ("empty.pth", b"", "empty"),
        ("noise.safetensors", b"\x01" * 64, "not a readable safetensors"),
        ("noise.pth", b"\x01" * 64, "no checkpoint at all|not a readable torch checkpoint"),
        ("text.pth", b"hello", "no checkpoint at all|not a readable torch checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(
    tmp_path: Path, model: ModelAdapter, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        load_weights(model, str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_truncated_checkpoint(
    tmp_path: Path, model: ModelAdapter, state: dict[str, torch.Tensor]
) -> None:
    torch.save(state, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "part.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match="not a readable torch checkpoint"):
        load_weights(model, str(tmp_path / "part.pth"))


def test_another_architecture_is_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "sdt.safetensors")
    with pytest.raises(UsageError, match="does not fit model 'qkformer-tiny"):
        load_model("qkformer-tiny.digit-scenes", weights=str(tmp_path / "sdt.safetensors"))
    with pytest.raises(UsageError, match=r"misshapen \(first: .* instead of"):
        load_model("sdt-2-512.cifar10", weights=str(tmp_path / "sdt.safetensors"))


def test_missing_file_and_malformed_hub_address(model: ModelAdapter) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_weights(model, "absent.safetensors")
    with pytest.raises(UsageError, match="hub:OWNER/REPO/FILE"):
        load_weights(model, "hub:owner/file")


def test_wrong_hash_is_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    from dataclasses import replace

    save_file(state, tmp_path / "weights.safetensors")
    fresh = load_model(NAME)
    source = f"file:{tmp_path / 'weights.safetensors'}"
    right = file_sha256(tmp_path / "weights.safetensors")
    fresh.card = replace(fresh.card, checkpoint=Checkpoint(source, "0" * 64))
    with pytest.raises(UsageError, match="sha256"):
        load_weights(fresh)
    fresh.card = replace(fresh.card, checkpoint=Checkpoint(source, right))
    load_weights(fresh)
    assert fresh.weights_sha256 == right


def test_read_state_dict_refuses_lists(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(UsageError, match="holds no state dict"):
        read_state_dict(tmp_path / "list.pth")
