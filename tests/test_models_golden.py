"""Networks equal the official ones: key names, parameter counts, spikes, logits, gradients."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional

from robustbench_snn.catalogue import MODELS
from robustbench_snn.check import main
from robustbench_snn.golden import (
    build_network,
    compare,
    evaluate,
    load_strictly,
    read_golden,
)
from robustbench_snn.models.adapters import released_key
from robustbench_snn.models.spiliformer import SpiLiFormer
from robustbench_snn.registry import import_target

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.pt"))
KEYS = sorted(GOLDEN.glob("keys_*.json"))

COUNTS = {
    "qkformer-4-384.cifar10": 6_706_234,
    "qkformer-4-384.cifar100": 6_740_884,
    "qkformer-10-768.imagenet": 64_962_760,
    "qkformer-2-256.cifar10-dvs": 1_504_138,
    "sdt-2-512.cifar10": 10_233_546,
    "sdt-2-512.cifar100": 10_279_716,
    "sdt-8-512.imagenet": 29_689_896,
    "sdt-8-768.imagenet": 66_339_144,
    "sdt-2-256.cifar10-dvs": 2_566_794,
    "spiliformer-4-384.cifar10": 7_003_450,
    "spiliformer-4-384.cifar100": 7_038_100,
    "spiliformer-10-768.imagenet": 69_103_816,
    "spiliformer-10-768-t1.imagenet": 69_103_816,
    "spiliformer-2-256.cifar10-dvs": 1_702_282,
    "spiliformer-2-256.ncaltech101": 1_594_085,
}
# What the paper prints as 7.04 M, 69.10 M and 1.57 M; CIFAR-10 is CIFAR-100 with 10 classes.
PAPER_COUNTS = {
    "spiliformer-4-384.cifar10": 7_003_450,
    "spiliformer-4-384.cifar100": 7_038_100,
    "spiliformer-10-768.imagenet": 69_103_816,
    "spiliformer-2-256.cifar10-dvs": 1_570_698,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    assert count(name) == COUNTS[name]


@pytest.mark.parametrize("name", PAPER_COUNTS)
def test_parameter_counts_of_the_papers_reading(name: str) -> None:
    assert count(name, reading="paper") == PAPER_COUNTS[name]


def count(name: str, **arguments: object) -> int:
    entry = MODELS.get(name)
    card = replace(entry.card, config={**entry.card.config, **arguments})
    with torch.device("meta"):
        network = import_target(entry.adapter).build(_Card(card))
    return sum(p.numel() for p in network.parameters())


class _Card:
    def __init__(self, card: object) -> None:
        self.card = card


@pytest.mark.parametrize("path", KEYS, ids=lambda p: p.stem)
def test_key_names_and_shapes_are_the_official_ones(path: Path) -> None:
    recorded = json.loads(path.read_text())
    with torch.device("meta"):
        network = build_network(recorded["family"], recorded["config"], "per_sample")
    ours = recorded["keys"]
    if recorded["family"].startswith("spili_"):
        ours = {released_key(key, network.linear_key): shape for key, shape in ours.items()}
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == ours
    assert len(ours) == recorded["n_keys"]
    assert sum(p.numel() for p in network.parameters()) == recorded["n_params"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_numbers_equal_the_official_models(path: Path) -> None:
    golden = read_golden(path)
    found = compare(golden)
    assert found.spike_mismatches == 0
    assert found.logits <= 1e-5
    assert found.gradient < 1e-2
    if "per_sample" in golden and not golden["family"].startswith("sdt_"):
        alone = compare(golden, "per_sample")
        assert alone.logits <= 1e-5
        assert alone.gradient < 1e-2


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_training_mode_equals_the_official_models(path: Path) -> None:
    golden = read_golden(path)
    network = build_network(golden["family"], golden["config"], "official")
    load_strictly(network, golden["state_dict"])
    outcome = evaluate(network.train(), golden, torch.float32)
    recorded = golden["train_step"]
    assert (outcome.logits - recorded["logits"]).abs().max() < 1e-4
    statistics = network.get_submodule(recorded["bn_name"])
    assert torch.allclose(statistics.running_mean, recorded["bn_running_mean"], atol=1e-6)
    assert torch.allclose(statistics.running_var, recorded["bn_running_var"], rtol=1e-4)


def test_batch_mates_leak_in_official_mode_only() -> None:
    golden = read_golden(GOLDEN / "qkformer_cifar.pt")
    gaps = {}
    for mode in ("official", "per_sample"):
        network = build_network(golden["family"], golden["config"], mode)  # type: ignore[arg-type]
        network.load_state_dict(golden["state_dict"])
        network.eval()
        steps, x = golden["config"]["T"], golden["input"]
        with torch.no_grad():
            whole = network(x.expand(steps, *x.shape))
            functional.reset_net(network)
            alone = network(x[:1].expand(steps, 1, *x.shape[1:]))
        gaps[mode] = float((whole[:1] - alone).abs().max())
    assert gaps["official"] > 1e-2
    assert gaps["per_sample"] < 1e-5


def test_check_golden_reports_a_line_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    released = GOLDEN / "spiliformer_imagenet_c.pt"
    assert main(["--golden", str(FILES[0]), str(FILES[3]), str(released)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "22 checks of both passes" in lines[2]
    assert all(line.endswith("PASS") for line in lines)


def test_check_golden_fails_on_other_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = torch.load(GOLDEN / "sdt_cifar.pt", weights_only=True)
    golden["state_dict"]["head.weight"] += 0.01
    torch.save(golden, tmp_path / "changed.pt")
    assert main(["--golden", str(tmp_path / "changed.pt")]) == 1
    assert "FAIL (wanted: equal spikes" in capsys.readouterr().out


def test_check_golden_on_a_wrong_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.pt").write_text("<html></html>")
    assert main(["--golden", str(tmp_path / "page.pt")]) == 2
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    assert main(["--golden", str(tmp_path / "other.pt")]) == 2
    assert main(["--golden", str(tmp_path / "none.pt")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_spiliformer_without_inhibition_is_qkformer() -> None:
    golden = read_golden(GOLDEN / "qkformer_cifar.pt")
    network = SpiLiFormer("cifar", 64, ff=False, fb=False, ssa_proj_lif="official").eval()
    network.load_state_dict(golden["state_dict"])
    steps, x = golden["config"]["T"], golden["input"]
    assert (network(x.expand(steps, *x.shape)) - golden["logits"]).abs().max() < 1e-5


SPILI = sorted(GOLDEN.glob("spiliformer_*.pt"))


@pytest.mark.parametrize("path", SPILI, ids=lambda p: p.stem)
def test_both_passes_of_released_spiliformers(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--golden", str(path)]) == 0
    said = capsys.readouterr().out
    assert "failed" not in said
    assert "not compared" not in said


def test_a_released_variant_is_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The same tensors and the same first pass: only the feedback tells them apart.
    golden = torch.load(GOLDEN / "spiliformer_cifar100_a.pt", weights_only=True)
    golden["family"] = "spili_cifar10"
    torch.save(golden, tmp_path / "other.pt")
    assert main(["--golden", str(tmp_path / "other.pt")]) == 1
    said = capsys.readouterr().out
    assert "feedback.0" in said
    assert "first pass" not in said


def shift(name: str) -> Callable[[dict[str, Any]], None]:
    def change(part: dict[str, Any]) -> None:
        part[name] = part[name] + 0.02 * (1 + torch.as_tensor(part[name]).abs())

    return change


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "first pass": shift("logits_first"),
    "first pass alone": lambda g: shift("logits_first")(g["per_sample"]),
    "spike counts per pass": lambda g: g["spike_counts_per_pass"]["stage3.1.ssa.v_lif"].reverse(),
    "mask_inhibit": lambda g: shift("mask_inhibit")(g["intermediate"]),
    "feedback.1": lambda g: g["intermediate"]["feedback.1"].sub_(1),
    "carried state": shift("logits_without_reset_between_passes"),
    "training loss": lambda g: shift("loss")(g["train_step"]),
    "training prompt_2_grad": lambda g: shift("prompt_2_grad")(g["train_step"]),
    "training twice_bn running_var": lambda g: shift("twice_bn_running_var")(g["train_step"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_recorded_quantity_is_compared(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = torch.load(GOLDEN / "spiliformer_cifar10_a.pt", weights_only=True)
    CHANGES[name](golden)
    torch.save(golden, tmp_path / "changed.pt")
    assert main(["--golden", str(tmp_path / "changed.pt")]) == 1
    assert f"failed: {name} " in capsys.readouterr().out


def test_an_unknown_part_is_told_and_a_missing_one_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = torch.load(GOLDEN / "spiliformer_ncaltech101_a.pt", weights_only=True)
    golden["intermediate"]["stage9.out"] = torch.zeros(2)
    torch.save(golden, tmp_path / "more.pt")
    assert main(["--golden", str(tmp_path / "more.pt")]) == 0
    assert "not compared: stage9.out" in capsys.readouterr().out
    del golden["train_step"]["beta"]
    torch.save(golden, tmp_path / "less.pt")
    assert main(["--golden", str(tmp_path / "less.pt")]) == 2
    assert "lacks 'beta'" in capsys.readouterr().err
    golden["family"] = "spili_mnist"
    torch.save(golden, tmp_path / "mnist.pt")
    assert main(["--golden", str(tmp_path / "mnist.pt")]) == 2
    assert "with one of cifar10, cifar100" in capsys.readouterr().err
