"""Checkpoints as SpiLiFormer's authors publish them, and those of another variant."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from robustbench_snn.adapter import load_model
from robustbench_snn.catalogue import model_card
from robustbench_snn.errors import UsageError
from robustbench_snn.fit import check_fit
from robustbench_snn.golden import read_golden
from robustbench_snn.models.adapters import SpiLiFormerAdapter
from robustbench_snn.run import main
from robustbench_snn.weights import CHECKPOINTS, file_sha256, load_weights

RECORDED = Path(__file__).parent / "golden" / "spiliformer_imagenet_c.pt"
SMALL = "spiliformer-small.cifar10"


def small_imagenet() -> SpiLiFormerAdapter:
    """The published network, as small as the recording of it."""
    card = model_card("spiliformer-10-768-t1.imagenet")
    size = {"dim": 48, "depth": 6, "heads": 3, "mlp_ratio": 1, "num_classes": 10}
    config = {**card.config, **size, "ssa_proj_lif": "official"}
    return SpiLiFormerAdapter(replace(card, config=config, num_classes=10))


def released(state: dict[str, Tensor], path: Path, **args: object) -> Path:
    moments = {i: {"step": 3.0, "exp_avg": torch.zeros(4)} for i in range(3)}
    torch.save(
        {
            "model": state,
            "optimizer": {"state": moments, "param_groups": [{"lr": 1e-3, "params": [0, 1, 2]}]},
            "epoch": 199,
            "scaler": {"scale": 65536.0, "growth_factor": 2.0},
            "args": argparse.Namespace(lr=None, resume="", **args),
        },
        path,
    )
    return path


def test_the_released_layout_loads_under_its_own_names(tmp_path: Path) -> None:
    theirs = torch.load(RECORDED, weights_only=True)
    path = released(theirs["state_dict"], tmp_path / "checkpoint.pth", time_step=1)
    model = small_imagenet()
    load_weights(model, str(path))
    assert (model.weights_sha256, model.weights_source) == (file_sha256(path), str(path))
    golden = read_golden(RECORDED)
    logits = model.net.double()(golden["input"].double()[None])
    assert (logits - golden["logits"]).abs().max() < 1e-5


def test_files_of_old_torch_load_too(tmp_path: Path) -> None:
    state = load_model(SMALL).net.state_dict()
    path = tmp_path / "old.pth"
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)
    model = load_model(SMALL, weights=str(path))
    assert all(torch.equal(v, state[k]) for k, v in model.net.state_dict().items())


def test_the_optimizer_is_never_read_into_memory(tmp_path: Path) -> None:
    state = load_model(SMALL).net.state_dict()
    moments = torch.zeros(25_000_000)  # 100 MB beside 2 MB of weights
    torch.save({"model": state, "optimizer": {"state": {0: {"m": moments}}}}, tmp_path / "big.pth")
    code = f"""
import resource
from pathlib import Path
from robustbench_snn.weights import file_sha256, read_state_dict
path = Path({str(tmp_path / "big.pth")!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
file_sha256(path)
print(len(read_state_dict(path)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    tensors, mebibytes = map(int, done.stdout.split())
    assert tensors == len(state)
    assert mebibytes < 40


def test_a_file_made_for_other_data_is_recognised(tmp_path: Path) -> None:
    state = load_model(SMALL).net.state_dict()
    path = released(state, tmp_path / "theirs.pth", dataset="torch/cifar100")
    with pytest.raises(UsageError) as caught:
        load_model(SMALL, weights=str(path))
    said = str(caught.value)
    assert "a checkpoint of another variant: it says that it was trained with dataset=" in said
    assert "classifies cifar10: use spiliformer-small.cifar100" in said
    fitting = released(state, tmp_path / "own.pth", dataset="torch/CIFAR10", time_step=2)
    assert load_model(SMALL, weights=str(fitting)).weights_sha256 == file_sha256(fitting)
    elsewhere = released(state, tmp_path / "folder.pth", data_dir="/data/ImageNet")
    with pytest.raises(UsageError, match=r"data_dir=.*ImageNet.*use spiliformer-10-768\.imagenet"):
        load_model(SMALL, weights=str(elsewhere))
    unsaid = released(state, tmp_path / "unsaid.pth", dataset="mine", time_step=None)
    load_model(SMALL, weights=str(unsaid))


def test_a_file_made_with_other_time_steps_is_recognised(tmp_path: Path) -> None:
    path = released({"x": torch.zeros(1)}, tmp_path / "t4.pth", time_step=4)
    with pytest.raises(UsageError, match=r"time_step=4, but .* has T = 1: use .*10-768\.imagenet"):
        load_weights(small_imagenet(), str(path))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("spiliformer-4-384.cifar10", "spiliformer-4-384.cifar100"),
        ("spiliformer-2-256.ncaltech101", "spiliformer-2-256.cifar10-dvs"),
    ],
)
def test_another_variant_of_other_shapes_is_named(name: str, other: str) -> None:
    with torch.device("meta"):
        model, theirs = SpiLiFormerAdapter(model_card(name)), SpiLiFormerAdapter(model_card(other))
    state = dict(theirs.net.state_dict())
    with pytest.raises(UsageError, match=rf"does not fit.*variant or size, that of {other}\."):
        check_fit(model, state, state, Path("file.pth"))


def test_the_hash_of_fetched_weights_is_in_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = CHECKPOINTS / "sdt-tiny.digit-scenes.safetensors"
    asked = []

    def fetched(*address: object) -> Path:
        asked.append(address)
        return kept

    monkeypatch.setattr("robustbench_snn.weights.hub_file", fetched)
    words = ["--model", "sdt-tiny.digit-scenes", "--weights", "hub:owner/name/folder/w.safetensors"]
    words += ["--attack", "clean", "--n", "8", "--shard-size", "4", "--device", "cpu"]
    assert main([*words, "--executor", "inline", "--out", str(tmp_path / "out")]) == 0
    assert set(asked) == {("owner/name", "folder/w.safetensors", None)}
    rows = [pq.read_table(path).to_pylist() for path in (tmp_path / "out").rglob("*.parquet")]
    assert [len(found) for found in rows] == [1, 1]
    assert {found[0]["weights_sha256"] for found in rows} == {file_sha256(kept)}
