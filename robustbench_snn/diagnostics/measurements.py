"""D10, D11, D13, D15, D17, D19, D20: what is measured on the model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks.base import cross_entropy_gradient, input_range, uniform_noise
from robustbench_snn.conformance import batch_independent, repeatable, stays_in_eval
from robustbench_snn.diagnostics.findings import Finding, Status
from robustbench_snn.diagnostics.health import UnitHealth
from robustbench_snn.estimators.install import installed, not_applicable

NOISE, DIRECTIONS, UPHILL_STEP = 1 / 255, 10, 4 / 255


def zero_gradients(model: nn.Module, points: Mapping[str, Tensor], y: Tensor) -> Finding:
    """D10: no sample without gradient, and at most 10 % of pixels, wherever attacks go.

    Args:
        model: images to logits.
        points: name (``clean``, ``start``, ``iterate 10``) to images [B, *].
        y: labels [B].
    """
    samples, pixels, parts = 0.0, 0.0, []
    for name, point in points.items():
        gradient = cross_entropy_gradient(model, point, y).flatten(1)
        dead = float((gradient.abs().sum(1) == 0).float().mean())
        zero = float((gradient == 0).float().mean())
        parts.append(f"{name}: {100 * dead:.1f} % of samples, {100 * zero:.1f} % of pixels")
        samples, pixels = max(samples, dead), max(pixels, zero)
    status: Status = "fail" if samples > 0 else "warn" if pixels > 0.1 else "pass"
    return Finding("D10", status, "; ".join(parts), "no sample, <= 10 % of pixels")


def gradient_scale(
    model: nn.Module, x: Tensor, y: Tensor, ids: Sequence[str], seed: int
) -> Finding:
    """D11: gradients at x and at x ± 1/255 noise agree in sign (fewer than 55 %: shattered)."""
    here = cross_entropy_gradient(model, x, y).flatten(1)
    alive = here != 0
    agreement, ratios = [], []
    for draw in range(DIRECTIONS):
        noise = uniform_noise(seed, ids, x.shape[1:], 1000 + draw).to(x)
        near = (x + NOISE * noise.sign()).clamp(*input_range(model))
        there = cross_entropy_gradient(model, near, y).flatten(1)
        same = ((here.sign() == there.sign()) & alive).sum(1) / alive.sum(1).clamp_min(1)
        agreement.append(same)
        ratios.append(here.norm(dim=1) / there.norm(dim=1).clamp_min(1e-30))
    share = float(torch.stack(agreement).mean())
    ratio = float(torch.stack(ratios).median())
    figure = f"signs agree {100 * share:.1f} %, median ratio of norms {ratio:.2f} (n {len(x)})"
    status: Status = "warn" if share < 0.55 else "pass"
    return Finding("D11", status, figure, "signs agree in >= 55 %")


def uphill(model: nn.Module, x: Tensor, y: Tensor, estimators: Sequence[str]) -> Finding:
    """D13: a step of 4/255 along each estimator's signs raises the true loss of most samples."""
    shares = {name: share for name in estimators if (share := uphill_share(model, x, y, name)) >= 0}
    first = estimators[0]
    figure = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    status: Status = "warn" if shares.get(first, 0.0) < 0.6 else "pass"
    return Finding("D13", status, f"{figure} (n {len(x)})", f">= 60 % of samples with {first}")


def uphill_share(model: nn.Module, x: Tensor, y: Tensor, estimator: str) -> float:
    """Share of samples whose true cross-entropy rises along the signs; -1 if not applicable."""
    if not_applicable(model, estimator, x[:2]):
        return -1.0
    with installed(model, estimator):
        direction = cross_entropy_gradient(model, x, y).sign()
    with torch.no_grad():
        ahead = (x + UPHILL_STEP * direction).clamp(*input_range(model))
        before = nn.functional.cross_entropy(model(x), y, reduction="none")
        after = nn.functional.cross_entropy(model(ahead), y, reduction="none")
    return float((after > before).float().mean())


def determinism(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """D15: two calls are equal to the bit, and a batch equals its samples."""
    checks = [repeatable(model, x, y), batch_independent(model, x, y)]
    figure = "; ".join(f"{check.name}: {check.detail}" for check in checks)
    status: Status = "pass" if all(check.passed for check in checks) else "fail"
    return Finding("D15", status, figure, "equal to the bit; to 1e-5")


def untouched(model: ModelAdapter, x: Tensor, y: Tensor, estimators: Sequence[str]) -> Finding:
    """D17: estimators leave the logits alone, and attacks leave mode and statistics alone."""
    changed = []
    for name in estimators:
        before = None if model.stochastic else model(x[:4]).detach()
        reason = not_applicable(model, name, x[:4])
        if before is not None and not torch.equal(before, model(x[:4])):
            reason = "not restored"
        if "change" in reason or reason == "not restored":
            changed.append(name)
    mode = stays_in_eval(model, x, y)
    figure = f"{len(estimators) - len(changed)} of {len(estimators)} estimators change nothing"
    figure += f"; {mode.detail}"
    status: Status = "pass" if not changed and mode.passed else "fail"
    return Finding("D17", status, figure, "logits equal to the bit, nothing moved")


def averaging(model: ModelAdapter) -> Finding:
    """D19: only a random encoder needs averaged gradients."""
    if not model.stochastic:
        return Finding("D19", "pass", "the encoder is deterministic", "report")
    return Finding("D19", "info", "random encoder: attacks ran with EOT, votes of 10", "report")


def dead_neurons(units: Sequence[UnitHealth]) -> Finding:
    """D20: how many neurons never fire, and how many lie far from their threshold."""
    if not units:
        return Finding("D20", "info", "no spiking units", "report")
    silent = [unit for unit in units if unit.rate == 0]
    worst = max(units, key=lambda unit: unit.zero_share)
    rates = sorted(unit.rate for unit in units)
    figure = (
        f"{len(silent)} of {len(units)} layer-steps silent, median rate "
        f"{100 * rates[len(rates) // 2]:.1f} %; most zero gradients {100 * worst.zero_share:.0f} % "
        f"({worst.name}, t {worst.step})"
    )
    return Finding("D20", "info", figure, "report")
