"""Agreement with the official models, from files of weights, inputs and measured outcomes."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from robustbench_snn.errors import UsageError
from robustbench_snn.golden_passes import (
    LAYOUTS,
    PREFIX,
    both_passes,
    counted,
    in_our_names,
    recorded_spikes,
    time_first,
)
from robustbench_snn.models.qkformer import ProjLif, QKFormer
from robustbench_snn.models.spike_driven_transformer import SpikeDrivenTransformer
from robustbench_snn.models.spiliformer import SpiLiFormer
from robustbench_snn.weights import refuse_page, torch_content

LOGIT_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-2
_WANTED = (
    f"wanted: equal spikes, logits within {LOGIT_TOLERANCE:.0e}, gradients within "
    f"{GRADIENT_TOLERANCE:.0%}; weights, config or input are not of the recorded run, or the "
    "network computes something else"
)
_NEEDED = ("family", "config", "state_dict", "input", "labels", "logits", "input_grad")


@dataclass(frozen=True)
class Agreement:
    """How far a rebuilt network is from the recorded one.

    Attributes:
        logits: largest absolute difference of a logit.
        spike_mismatches: spiking units whose spike counts differ, or that exist on one side only.
        gradient: relative L2 error of the input gradient.
        precision: ``float32``; ``float64`` where rounding flipped a spike in float32.
    """

    logits: float
    spike_mismatches: int
    gradient: float
    precision: str = "float32"

    @property
    def passed(self) -> bool:
        """Spikes equal, logits within 1e-5, gradient within 1 %."""
        return (
            self.spike_mismatches == 0
            and self.logits <= LOGIT_TOLERANCE
            and self.gradient < GRADIENT_TOLERANCE
        )


def read_golden(path: Path) -> dict[str, Any]:
    """A golden file's content, in our names; raises UsageError when it is none."""
    if not path.is_file():
        raise UsageError(f"golden file '{path}' was asked for, but there is no such file.")
    refuse_page(path, "golden file")
    try:
        content = torch_content(path)
    except (pickle.UnpicklingError, ValueError) as error:
        raise UsageError(f"'{path}' is no golden file (tensors, numbers and text only).") from error
    missing = [key for key in _NEEDED if not isinstance(content, dict) or key not in content]
    if missing:
        raise UsageError(f"'{path}' is no golden file: it lacks {', '.join(missing)}.")
    return in_our_names(content)


def build_network(
    family: str, config: dict[str, Any], proj_lif: ProjLif, carry_state: bool = False
) -> nn.Module:
    """The network of an official constructor call.

    Args:
        family: ``qk_cifar``, ``qk_imagenet``, ``qk_dvs``, ``sdt_*`` or ``spili_`` with the data
            set of a released SpiLiFormer.
        config: official argument names (``embed_dims``, ``depths``, ``mlp_ratio``, ...).
        proj_lif: see ``SpikingSelfAttention``; Spike-driven Transformer has no such layer.
        carry_state: keep membranes between the two passes of a SpiLiFormer.

    Raises:
        UsageError: an unknown family or an incomplete config.
    """
    try:
        common = {
            "dim": config["embed_dims"],
            "depth": config["depths"],
            "heads": config["num_heads"],
            "mlp_ratio": config["mlp_ratio"],
            "num_classes": config["num_classes"],
            "in_channels": config["in_channels"],
        }
    except KeyError as error:
        raise UsageError(f"the config of family '{family}' lacks {error}.") from error
    kind, _, layout = family.partition("_")
    if kind == "qk" and layout in ("cifar", "imagenet", "dvs"):
        return QKFormer(layout, ssa_proj_lif=proj_lif, **common)  # type: ignore[arg-type]
    if kind == "sdt":
        return SpikeDrivenTransformer(
            pooling_stat=config.get("pooling_stat", "1111"),
            dvs_mode=config.get("dvs_mode", False),
            tet=config.get("TET", False),
            **common,
        )
    variant = family.removeprefix(PREFIX)
    if family.startswith(PREFIX) and variant in LAYOUTS:
        gain = float(config.get("aug", 1.0))
        common |= {"reading": variant, "fb_gain": gain, "carry_state": carry_state}
        return SpiLiFormer(LAYOUTS[variant], ssa_proj_lif=proj_lif, **common)  # type: ignore[arg-type]
    raise UsageError(
        f"family '{family}' is unknown: expected qk_cifar, qk_imagenet, qk_dvs, sdt_*, or "
        f"{PREFIX} with one of {', '.join(LAYOUTS)}."
    )


@dataclass
class Outcome:
    """One forward and backward pass of a network on a golden file's input."""

    logits: Tensor
    gradient: Tensor
    spikes: dict[str, int]


def evaluate(network: nn.Module, golden: dict[str, Any], dtype: torch.dtype) -> Outcome:
    """Logits, input gradient of the mean cross-entropy, and spike counts per unit."""
    network.to(dtype)
    functional.reset_net(network)
    device = next(network.parameters()).device
    x = golden["input"].to(device, dtype).requires_grad_()
    with recorded_spikes(network) as spikes:
        logits = network(time_first(golden, x))
    mean = logits.mean(0) if logits.dim() == 3 else logits
    loss = nn.functional.cross_entropy(mean, golden["labels"].to(device))
    (gradient,) = torch.autograd.grad(loss, x)
    counts = {name: sum(calls) for name, calls in counted(spikes).items()}
    return Outcome(logits.detach().cpu(), gradient.cpu(), counts)


def compare(
    golden: dict[str, Any], proj_lif: ProjLif = "official", device: str = "cpu"
) -> Agreement:
    """Rebuild the network of a golden file and compare one pass of it on ``device``.

    ``official`` compares with the published behaviour; ``per_sample`` with the recorded runs of
    each sample alone (no spike counts are recorded for those).
    """
    found = Agreement(float("inf"), 1, float("inf"))
    for dtype in (torch.float32, torch.float64):
        network = build_network(golden["family"], golden["config"], proj_lif)
        load_strictly(network, golden["state_dict"])
        outcome = evaluate(network.eval().to(device), golden, dtype)
        found = agreement(outcome, golden, proj_lif, str(dtype).removeprefix("torch."))
        if found.passed:
            break
    return found


def load_strictly(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load official weights; raises UsageError when names or shapes differ."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UsageError(
            f"the file's weights do not fit the network of its config: {error}"
        ) from error


def agreement(
    outcome: Outcome, golden: dict[str, Any], proj_lif: ProjLif, precision: str
) -> Agreement:
    """Distance of one outcome from the recorded one."""
    logits, gradient = golden["logits"], golden["input_grad"]
    mismatches = 0
    if proj_lif == "official":
        recorded = golden.get("spike_counts", {})
        names = recorded.keys() | outcome.spikes.keys()
        mismatches = sum(recorded.get(name) != outcome.spikes.get(name) for name in names)
    else:
        # Recorded one by one, so without the 1/B of the mean loss over the batch.
        logits = golden["per_sample"]["logits"]
        gradient = golden["per_sample"]["input_grad"] / len(golden["labels"])
    gap = float((outcome.logits - logits).abs().max())
    error = float((outcome.gradient - gradient).norm() / gradient.norm())
    return Agreement(gap, mismatches, error, precision)


def report(path: Path, device: str = "cpu") -> tuple[str, bool]:
    """One line on a golden file and whether everything in it agrees on ``device``."""
    golden = read_golden(path)
    official = compare(golden, device=device)
    parts = [
        f"max logit difference {official.logits:.1e}",
        f"spike-count mismatches {official.spike_mismatches}",
        f"gradient error {official.gradient:.1e}",
    ]
    passed = official.passed
    if golden["family"].startswith(("qk_", PREFIX)) and "per_sample" in golden:
        alone = compare(golden, "per_sample", device)
        parts.append(f"per-sample layer: logits {alone.logits:.1e}, gradient {alone.gradient:.1e}")
        passed = passed and alone.passed
    if golden["family"].startswith(PREFIX):

        def make(proj_lif: ProjLif, carry_state: bool) -> nn.Module:
            network = build_network(golden["family"], golden["config"], proj_lif, carry_state)
            load_strictly(network, golden["state_dict"])
            return network.eval()

        try:
            checks = both_passes(golden, make, device)
        except KeyError as error:
            raise UsageError(f"'{path}' is no whole golden file: it lacks {error}.") from error
        untold = [check.name for check in checks if check.difference is None]
        failed = [f"{c.name} {c.difference:.1e}" for c in checks if not c.passed]
        count = len(checks) - len(untold)
        parts.append(f"{count} checks of both passes, feedback and training step")
        parts += [f"not compared: {', '.join(untold)}"] if untold else []
        parts += [f"failed: {', '.join(failed)}"] if failed else []
        passed = passed and not failed
    if official.precision != "float32":
        parts.append("compared in float64, as rounding flips a spike in float32")
    verdict = "PASS" if passed else f"FAIL ({_WANTED})"
    return f"{path.name}: {', '.join(parts)}: {verdict}", passed
