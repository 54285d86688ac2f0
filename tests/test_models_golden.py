"""Networks equal the official ones: key names, parameter counts, spikes, logits, gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import functional

from robustbench_snn.catalogue import MODELS
from robustbench_snn.check import main
from robustbench_snn.golden import build_network, compare, evaluate, read_golden
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
    "spiliformer-2-256.cifar10-dvs": 1_570_698,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    entry = MODELS.get(name)
    with torch.device("meta"):
        network = import_target(entry.adapter).build(_Card(entry.card))
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]


class _Card:
    def __init__(self, card: object) -> None:
        self.card = card


@pytest.mark.parametrize("path", KEYS, ids=lambda p: p.stem)
def test_key_names_and_shapes_are_the_official_ones(path: Path) -> None:
    recorded = json.loads(path.read_text())
    with torch.device("meta"):
        network = build_network(recorded["family"], recorded["config"], "per_sample")
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == recorded["keys"]
    assert sum(p.numel() for p in network.parameters()) == recorded["n_params"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_numbers_equal_the_official_models(path: Path) -> None:
    golden = read_golden(path)
    found = compare(golden)
    assert found.spike_mismatches == 0
    assert found.logits <= 1e-5
    assert found.gradient < 1e-2
    if golden["family"].startswith("qk_"):
        alone = compare(golden, "per_sample")
        assert alone.logits <= 1e-5
        assert alone.gradient < 1e-2


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_training_mode_equals_the_official_models(path: Path) -> None:
    golden = read_golden(path)
    network = build_network(golden["family"], golden["config"], "official")
    network.load_state_dict(golden["state_dict"])
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
    assert main(["--golden", str(FILES[0]), str(FILES[3])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
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
