"""What every adapter must pass before a number of it is believed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks import build, make_spec
from robustbench_snn.attacks.losses import LOSSES, margin, wrong
from robustbench_snn.card import Checkpoint
from robustbench_snn.errors import PreflightRefused
from robustbench_snn.metrics import wilson

BATCH_TOLERANCE = 1e-5
AGREEMENT_LEVEL = 0.999
ZERO_GRADIENT_SHARE = 0.05
LIKELY = (
    "Likely causes: state not reset, wrong mean and std, wrong crop, other class order, a "
    "checkpoint of another variant (other data set, time steps or switches), or an accuracy "
    "measured with the batch leak (ssa_proj_lif=official)."
)
SATURATED = "cross-entropy is saturated by logits far apart"
_RANDOM = "not asked: the encoder is declared stochastic"


@dataclass(frozen=True)
class Finding:
    """One check: what it is called, whether it held, and what was measured."""

    name: str
    passed: bool
    detail: str


def repeatable(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """Two calls on the same batch are bitwise equal (state is reset, nothing is random)."""
    if model.stochastic:
        return Finding("two calls equal", True, _RANDOM)
    gap = float((model(x) - model(x)).detach().abs().max())
    return Finding("two calls equal", gap == 0, f"max logit difference {gap:.1e}")


def batch_independent(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """A batch equals its samples one by one, in any order, to 1e-5 and in every prediction."""
    name = "batch of n equals n batches of 1"
    if any(getattr(module, "official", False) for module in model.net.modules()):
        return Finding(name, True, "not asked: ssa_proj_lif='official' mixes the batch by design")
    if model.stochastic:
        return Finding(name, True, _RANDOM)
    gap, same = batch_gap(model, x[:16])
    if gap <= BATCH_TOLERANCE and same:
        return Finding(name, True, f"max logit difference {gap:.1e}")
    # Kernels round differently for other batch sizes, which can flip a spike that sits on its
    # threshold; in float64 such a flip vanishes, while a real leak between images stays.
    try:
        wide, same = batch_gap(copy.deepcopy(model).double(), x[:16].double())
    except RuntimeError:
        return Finding(name, False, f"max logit difference {gap:.1e}; it does not run in float64")
    detail = f"max logit difference {gap:.1e} in float32, {wide:.1e} in float64"
    return Finding(name, wide <= BATCH_TOLERANCE and same, detail)


@torch.no_grad()
def batch_gap(model: torch.nn.Module, x: Tensor) -> tuple[float, bool]:
    """Largest logit difference of a batch to its samples alone and reversed; same predictions."""
    whole = model(x)
    single = torch.cat([model(sample) for sample in x.split(1)])
    reversed_ = model(x.flip(0)).flip(0)
    gap = float(torch.maximum((whole - single).abs(), (whole - reversed_).abs()).max())
    return gap, bool((whole.argmax(1) == single.argmax(1)).all())


def stays_in_eval(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """``train()`` does not leave eval mode and forward passes do not move batch-norm statistics."""
    before = {k: v.clone() for k, v in model.net.named_buffers()}
    model.train()
    input_gradient(model, x[:4], y[:4])
    training = [name for name, module in model.named_modules() if module.training]
    moved = [k for k, v in model.net.named_buffers() if k in before and not v.equal(before[k])]
    detail = f"{len(training)} modules in train mode, {len(moved)} buffers moved"
    return Finding("stays in eval mode", not (training or moved), detail)


def zero_budget(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """PGD with eps = 0 moves no image and changes no prediction."""
    x, y = x[:8], y[:8]
    specs = [make_spec("pgd", {"eps": "0", "steps": "2"})]
    ids = [str(i) for i in range(len(x))]
    (attacked,) = build("pgd", 0).perturb(model, x, y, ids, specs)
    moved = float((attacked - x).abs().max())
    same = bool((model(attacked).argmax(1) == model(x).argmax(1)).all())
    return Finding("eps = 0 is clean", moved == 0 and same, f"largest change {moved:.1e}")


def gradient_alive(model: ModelAdapter, x: Tensor, y: Tensor, loss: str = "ce") -> Finding:
    """The input gradient is finite everywhere and not all zero for (almost) every sample.

    Where only cross-entropy has none, the logits are so far apart that it is exactly zero in
    float32; the finding says so, and what to do.
    """
    name = "input gradient alive"
    gradient = input_gradient(model, x, y, loss)
    if not bool(gradient.isfinite().all()):
        return Finding(name, False, "non-finite gradient")
    dead = _without_gradient(gradient)
    zeros = float((gradient == 0).float().mean())
    detail = f"{dead:.1%} of samples without gradient, {zeros:.1%} of pixels exactly zero"
    passed = dead <= ZERO_GRADIENT_SHARE
    if not passed and loss == "ce":
        rest = _without_gradient(input_gradient(model, x, y, "margin"))
        if rest <= ZERO_GRADIENT_SHARE:
            gap = float(margin(model(x), y).abs().median())
            detail += (
                f": {SATURATED} (median margin {gap:.0f}), which says nothing of robustness; use "
                "apgd or pgd-worst with --loss dlr or margin, or square, or divide the logits by a "
                "constant in readout()"
            )
    return Finding(name, passed, detail)


def _without_gradient(gradient: Tensor) -> float:
    return float((gradient.flatten(1).abs().sum(1) == 0).float().mean())


def surrogate_swap(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """Another surrogate changes no logit bit, and every spiking unit takes it."""
    units = model.spiking_units()
    if model.stochastic:
        return Finding("surrogate swap leaves logits", bool(units), _RANDOM)
    before = model(x[:4])
    saved = {name: unit.surrogate_function for name, unit in units.items()}
    try:
        for unit in units.values():
            unit.surrogate_function = surrogate.ATan(alpha=2.0)
        after = model(x[:4])
    finally:
        for name, unit in units.items():
            unit.surrogate_function = saved[name]
    gap = float((before - after).abs().max())
    detail = f"{len(units)} spiking units, max logit difference {gap:.1e}"
    return Finding("surrogate swap leaves logits", gap == 0 and bool(units), detail)


def clean_accuracy(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """Accuracy on these samples agrees with the card's: their 99.9 % intervals overlap.

    Wrong preprocessing costs tens of points; 95 % would refuse honest models every so often.
    """
    name, reported = "clean accuracy as reported", model.card.reported
    checkpoint = model.card.checkpoint
    if reported is None:
        return Finding(name, True, "the card states none")
    if checkpoint is None or not own_weights(model, checkpoint):
        return Finding(name, True, "the card speaks of other weights")
    correct = int((~wrong(model(x), y)).sum())
    low, high = wilson(correct, len(y), AGREEMENT_LEVEL)
    stated = wilson(round(reported.accuracy * reported.n), reported.n, AGREEMENT_LEVEL)
    passed = low <= stated[1] and stated[0] <= high
    return Finding(
        name,
        passed,
        f"{correct / len(y):.1%} of {len(y)} [{low:.1%}, {high:.1%}], "
        f"reported {reported.accuracy:.1%} of {reported.n}",
    )


def own_weights(model: ModelAdapter, checkpoint: Checkpoint) -> bool:
    """Whether ``model`` has its card's weights: by hash, or by source where none is known."""
    if checkpoint.sha256 is None:
        return model.weights_source == checkpoint.source
    return model.weights_sha256 == checkpoint.sha256


CHECKS: tuple[Callable[[ModelAdapter, Tensor, Tensor], Finding], ...] = (
    repeatable,
    batch_independent,
    stays_in_eval,
    zero_budget,
    gradient_alive,
    surrogate_swap,
    clean_accuracy,
)
FAST_CHECKS = (repeatable, stays_in_eval, clean_accuracy)


def input_gradient(model: ModelAdapter, x: Tensor, y: Tensor, loss: str = "ce") -> Tensor:
    """Gradient of the summed loss, a key of ``losses.LOSSES``, with respect to ``x``."""
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(LOSSES[loss](model(x), y, None).sum(), x)[0]


def conformance(model: ModelAdapter, x: Tensor, y: Tensor) -> list[Finding]:
    """Run every check on samples ``x`` [B, ...] in [0, 1] with labels ``y`` [B]."""
    return [check(model, x, y) for check in CHECKS]


def preflight(
    model: ModelAdapter,
    x: Tensor,
    y: Tensor,
    compare: bool = True,
    losses: Sequence[str] = ("ce",),
) -> None:
    """The fast part of ``conformance`` before a run.

    Args:
        model: the adapter.
        x, y: samples [B, ...] in [0, 1] and labels [B].
        compare: whether they come from the split that ``card.reported`` speaks of.
        losses: whose gradients the run follows (``attacks.specs.climbed``); all must be alive.

    Raises:
        PreflightRefused: with what failed and the likely causes.
    """
    checks = [check for check in FAST_CHECKS if compare or check is not clean_accuracy]
    findings = [check(model, x, y) for check in checks]
    findings += [gradient_alive(model, x, y, loss) for loss in losses]
    failed = [f"{f.name}: {f.detail}" for f in findings if not f.passed]
    if failed:
        raise PreflightRefused(
            f"model '{model.card.name}' is refused before any attack: {'; '.join(failed)}."
            + ("" if all(SATURATED in text for text in failed) else f" {LIKELY}")
        )
