"""What golden files of SpiLiFormer record beyond one forward pass: both passes and their feedback.

Names in these files are those of the released code; ``in_our_names`` translates them once, when a
file is read. The released layer has one ``q_lif`` where ours has one each for excitation and
inhibition, so these are counted together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from robustbench_snn.models.adapters import released_key
from robustbench_snn.models.qkformer import ProjLif
from robustbench_snn.models.spiliformer import SpiLiFormer

PREFIX = "spili_"
LAYOUTS = {
    "cifar10": "cifar",
    "cifar100": "cifar",
    "imagenet": "imagenet",
    "cifar10dvs": "dvs",
    "ncaltech101": "dvs",
}
LOGITS, EXACT, MASK, RELATIVE, STATISTICS, TRAINING = 1e-5, 0.0, 1e-5, 1e-2, 1e-4, 1e-4

# (layer, keep the membranes between the passes) -> the recorded network in eval mode.
Make = Callable[[ProjLif, bool], nn.Module]


@dataclass(frozen=True)
class Check:
    """One recorded quantity: how far the rebuilt network is from it, and how far it may be.

    ``difference`` is None for a quantity that only the file knows; it is told, not judged.
    """

    name: str
    difference: float | None
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether it agrees; a difference that is no number does not."""
        return self.difference is None or self.difference <= self.tolerance


def in_our_names(golden: dict[str, Any]) -> dict[str, Any]:
    """``golden`` with the names of weights, units and intermediate outputs of our networks."""
    family = golden["family"]
    if not isinstance(family, str) or not family.startswith(PREFIX):
        return golden
    attention = "attn" if LAYOUTS.get(family.removeprefix(PREFIX)) == "imagenet" else "ssa"
    renamed: dict[str, Any] = {
        field: {released_key(key, attention): value for key, value in golden[field].items()}
        for field in ("state_dict", "spike_counts", "spike_counts_per_pass")
        if field in golden
    }
    return {**golden, **renamed}


@contextmanager
def recorded_spikes(network: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Outputs of every spiking unit, one tensor a call, while ``network`` runs."""
    outputs: dict[str, list[Tensor]] = {}

    def record(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs.setdefault(name, []).append(output.detach())

        return hook

    handles = [
        module.register_forward_hook(record(name))
        for name, module in network.named_modules()
        if hasattr(module, "surrogate_function")
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def counted(outputs: dict[str, list[Tensor]]) -> dict[str, list[int]]:
    """Spikes per unit and call, both halves of a split Q together."""
    counts: dict[str, list[int]] = {}
    for name, calls in outputs.items():
        merged = name.replace(".q1_lif", ".q_lif").replace(".q2_lif", ".q_lif")
        found = [int(spikes.sum()) for spikes in calls]
        before = counts.get(merged, [0] * len(found))
        counts[merged] = [a + b for a, b in zip(before, found, strict=True)]
    return counts


def time_first(golden: dict[str, Any], x: Tensor) -> Tensor:
    """``[T, B, C, H, W]`` from images, repeated, or from ``[B, T, C, H, W]`` frames."""
    steps = golden["config"]["T"]
    return x.unsqueeze(0).expand(steps, *x.shape) if x.dim() == 4 else x.transpose(0, 1)


def both_passes(golden: dict[str, Any], make: Make, device: str) -> list[Check]:
    """Compare everything a file of SpiLiFormer holds beside what ``golden.compare`` reads.

    Args:
        golden: as read, in our names.
        make: builds the recorded network.
        device: where to compute.
    """
    groups: list[Callable[[torch.dtype], list[Check]]] = []
    for layer, part in (("official", golden), ("per_sample", golden.get("per_sample"))):
        if part is not None and "logits_first" in part:
            groups.append(_first_pass(golden, part, make, layer, device))  # type: ignore[arg-type]
    groups.append(_second_pass(golden, make, device))
    if "logits_without_reset_between_passes" in golden:
        groups.append(_carried(golden, make, device))
    if "train_step" in golden:
        groups.append(_training(golden, make, device))
    found: list[Check] = []
    for group in groups:
        checks = group(torch.float32)
        if not all(check.passed for check in checks):
            # Rounding can flip a spike that sits on its threshold; in float64 that vanishes.
            checks = group(torch.float64)
        found += checks
    return found


def _prepared(
    golden: dict[str, Any], network: nn.Module, device: str, dtype: torch.dtype
) -> tuple[SpiLiFormer, Tensor, Tensor]:
    network.to(device, dtype)
    functional.reset_net(network)
    x = golden["input"].to(device, dtype).requires_grad_()
    assert isinstance(network, SpiLiFormer)
    return network, x, golden["labels"].to(device)


def _first_pass(
    golden: dict[str, Any], part: dict[str, Any], make: Make, layer: ProjLif, device: str
) -> Callable[[torch.dtype], list[Check]]:
    def group(dtype: torch.dtype) -> list[Check]:
        network, x, labels = _prepared(golden, make(layer, False), device, dtype)
        first = network.passes(time_first(golden, x))[0]
        name = "first pass" if layer == "official" else "first pass alone"
        checks = [Check(name, _gap(first, part["logits_first"]), LOGITS)]
        loss = nn.functional.cross_entropy(first, labels)
        (gradient,) = torch.autograd.grad(loss, x)
        for key, value in (("loss_first", loss), ("input_grad_first", gradient)):
            if key in part:
                size = RELATIVE if key == "input_grad_first" else LOGITS
                checks.append(Check(f"{name} {key}", _relative(value, part[key]), size))
        return checks

    return group


def _second_pass(
    golden: dict[str, Any], make: Make, device: str
) -> Callable[[torch.dtype], list[Check]]:
    @torch.no_grad()
    def group(dtype: torch.dtype) -> list[Check]:
        network, x, labels = _prepared(golden, make("official", False), device, dtype)
        with recorded_spikes(network) as spikes:
            logits = network.passes(time_first(golden, x))[-1]
        checks = []
        if "loss" in golden:
            loss = nn.functional.cross_entropy(logits, labels)
            checks.append(Check("loss", _relative(loss, golden["loss"]), LOGITS))
        if "spike_counts_per_pass" in golden:
            recorded, found = golden["spike_counts_per_pass"], counted(spikes)
            names = recorded.keys() | found.keys()
            wrong = sum(list(recorded.get(n, ())) != found.get(n, []) for n in names)
            checks.append(Check("spike counts per pass", wrong, EXACT))
        parts = _parts(network, time_first(golden, x), spikes)
        for name, value in golden.get("intermediate", {}).items():
            found_part = parts.get(name)
            gap = None if found_part is None else _gap(found_part, value)
            checks.append(Check(name, gap, MASK if name.startswith("mask") else EXACT))
        return checks

    return group


def _parts(
    network: SpiLiFormer, sequence: Tensor, spikes: dict[str, list[Tensor]]
) -> dict[str, Tensor]:
    """Masks ``[T, B, N]``, feedback spikes and block outputs ``[T, B, D, N]``, spikes of units."""
    functional.reset_net(network)
    stem = network.embed(sequence)
    first, _ = network.run_stage(stem)
    functional.reset_net(network)
    signal, tokens = network.feedback(first), first.flatten(3)
    parts = {f"feedback.{i}": value for i, value in enumerate(network.decode(signal))}
    second, _ = network.run_stage(stem, signal)
    last = f"stage{network.stages}.{len(network.last_stage) - 1}.out"
    parts |= {f"{last}.pass1": tokens, f"{last}.pass2": second.flatten(3)}
    prompts = {"mask_excite": network.prompt1, "mask_inhibit": network.prompt2}
    parts |= {name: network.mask(tokens, p).squeeze(2) for name, p in prompts.items()}
    once = {name: calls[0] for name, calls in spikes.items() if len(calls) == 1}
    return parts | {f"{name}.spikes": output for name, output in once.items()}


def _carried(
    golden: dict[str, Any], make: Make, device: str
) -> Callable[[torch.dtype], list[Check]]:
    @torch.no_grad()
    def group(dtype: torch.dtype) -> list[Check]:
        network, x, _ = _prepared(golden, make("official", True), device, dtype)
        logits = network.passes(time_first(golden, x))[-1]
        recorded = golden["logits_without_reset_between_passes"]
        return [Check("carried state", _gap(logits, recorded), LOGITS)]

    return group


def _training(
    golden: dict[str, Any], make: Make, device: str
) -> Callable[[torch.dtype], list[Check]]:
    step = golden["train_step"]

    def group(dtype: torch.dtype) -> list[Check]:
        network, x, labels = _prepared(golden, make("official", False), device, dtype)
        first, second = network.train().passes(time_first(golden, x))
        losses = [nn.functional.cross_entropy(logits, labels) for logits in (first, second)]
        loss = (1 - step["beta"]) * losses[0] + step["beta"] * losses[1]
        wanted = (x, network.prompt1, network.prompt2)
        gradients = torch.autograd.grad(loss, wanted)
        checks = [
            Check("training first pass", _gap(first, step["logits_first"]), TRAINING),
            Check("training second pass", _gap(second, step["logits"]), TRAINING),
            Check("training loss", _relative(loss, step["loss"]), TRAINING),
        ]
        kinds = ("input_grad", "prompt_grad", "prompt_2_grad")
        for kind, gradient in zip(kinds, gradients, strict=True):
            if kind in step:
                checks.append(Check(f"training {kind}", _relative(gradient, step[kind]), RELATIVE))
        for key in ("bn", "twice_bn"):
            name = released_key(step[f"{key}_name"], network.linear_key)
            norm = network.get_submodule(name)
            for statistic in ("running_mean", "running_var"):
                gap = _relative(getattr(norm, statistic), step[f"{key}_{statistic}"])
                checks.append(Check(f"training {key} {statistic}", gap, STATISTICS))
        return checks

    return group


def _gap(found: Tensor, recorded: Tensor) -> float:
    if found.shape != recorded.shape:
        return float("inf")
    return float((found.detach().cpu().double() - recorded.double()).abs().max())


def _relative(found: Tensor, recorded: Tensor | float) -> float:
    """L2 distance relative to what is recorded, or itself where that is zero."""
    wanted = torch.as_tensor(recorded, dtype=torch.float64)
    if found.shape != wanted.shape:
        return float("inf")
    gap = float((found.detach().cpu().double() - wanted).norm())
    return gap / (float(wanted.norm()) or 1.0)
