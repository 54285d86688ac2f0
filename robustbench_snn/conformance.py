"""What every adapter must pass before a number of it is believed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks import build, make_spec
from robustbench_snn.attacks.losses import LOSSES, margin, wrong
from robustbench_snn.card import Checkpoint
from robustbench_snn.errors import PreflightRefused, UsageError
from robustbench_snn.estimators.install import not_applicable, spiking_units
from robustbench_snn.estimators.libraries import spike_emitters
from robustbench_snn.metrics import wilson

BATCH_TOLERANCE = 1e-5
AGREEMENT_LEVEL = 0.999
ZERO_GRADIENT_SHARE = 0.05
_MIXES = "an image's answer depends on its batch mates: mend axes, batch norm in train mode, state"
_ALIVE = "answers depend on the image"
_RANDOM = "not asked: the encoder is declared stochastic"
_SWAPPED = "atan:alpha=2"


@dataclass(frozen=True)
class Finding:
    """One check: what it is called, whether it held, and what was measured.

    Attributes:
        name: of the check.
        passed: whether it held; warnings hold.
        detail: what was measured.
        remedy: why it usually fails and what to do; shown where it did not hold, or warns.
        warning: whether a reader must be told although it held.
    """

    name: str
    passed: bool
    detail: str
    remedy: str = ""
    warning: bool = False

    @property
    def verdict(self) -> str:
        """``PASS``, ``WARN`` or ``FAIL``, the last two with the remedy."""
        word = "FAIL" if not self.passed else "WARN" if self.warning else "PASS"
        return word if word == "PASS" or not self.remedy else f"{word} ({self.remedy})"


def answers(model: ModelAdapter, x: Tensor) -> list[Finding]:
    """What one forward pass shows; a network without finite [B, K] answers is asked no more."""
    name = "one logit per class"
    try:
        with torch.no_grad():
            logits = model(x)
        model.check_logits(logits, x)
    except UsageError as error:
        return [Finding(name, False, str(error).rstrip("."))]
    broken = int((~logits.isfinite()).any(dim=1).sum())
    if broken:
        remedy = "look for a division by zero, or for weights of another network"
        detail = f"{broken} of {len(x)} images get logits that are not finite"
        return [Finding(name, False, detail, remedy)]
    first = Finding(name, True, f"{logits.shape[1]} logits, as the card says")
    return [first, answers_differ(logits, x), logits_not_rates(logits, model.time_steps)]


def answers_differ(logits: Tensor, x: Tensor) -> Finding:
    """Different images get different logits: a network that is silent answers all alike."""
    if len(x) < 2 or bool((x == x[:1]).all()):
        return Finding(_ALIVE, True, "not asked: needs two different images")
    gap = float((logits - logits[:1]).abs().max())
    detail = f"largest logit difference between images {gap:.1e}"
    remedy = "no spike reaches the last layer: give weights, or mend thresholds and normalisation"
    return Finding(_ALIVE, gap > 0, detail, remedy)


def logits_not_rates(logits: Tensor, steps: int) -> Finding:
    """A warning where outputs look like probabilities or like firing rates over ``steps``.

    Cross-entropy takes them for logits: its gradient then vanishes, or takes few values, and
    attacks that follow it are weak. AutoAttack warns of probabilities too.
    """
    name, kind, remedy = "outputs are logits", "", ""
    logits = logits.double()
    within = bool(((logits >= -1e-6) & (logits <= 1 + 1e-6)).all())
    counts = logits * steps if within else logits
    spikes = bool(((counts >= -1e-4) & (counts <= steps + 1e-4)).all()) and bool(
        ((counts - counts.round()).abs() < 1e-4).all()
    )
    if within and bool(((logits.sum(dim=1) - 1).abs() < 1e-4).all()):
        kind = "probabilities: every row lies in [0, 1] and sums to 1"
        remedy = "leave the softmax out of the network, as cross-entropy applies its own"
    elif spikes and bool((logits != logits[0, 0]).any()):
        kind = f"firing rates: every value is a number of spikes out of {steps}"
        remedy = "read out a membrane or a linear layer, or attack with several estimators"
    if kind:
        return Finding(name, True, f"they look like {kind}", remedy, warning=True)
    return Finding(name, True, "neither probabilities nor firing rates")


def repeatable(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """Two calls on the same batch are bitwise equal (state is reset, nothing is random)."""
    if model.stochastic:
        return Finding("two calls equal", True, _RANDOM)
    gap = float((model(x) - model(x)).detach().abs().max())
    remedy = "reset every neuron in each forward pass, or set stochastic = True if it draws"
    return Finding("two calls equal", gap == 0, f"max logit difference {gap:.1e}", remedy)


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
        detail = f"max logit difference {gap:.1e}; it does not run in float64"
        return Finding(name, False, detail, _MIXES)
    detail = f"max logit difference {gap:.1e} in float32, {wide:.1e} in float64"
    return Finding(name, wide <= BATCH_TOLERANCE and same, detail, _MIXES)


@torch.no_grad()
def batch_gap(model: torch.nn.Module, x: Tensor) -> tuple[float, bool]:
    """Largest logit difference of a batch to its samples alone and reversed; same predictions."""
    whole = model(x)
    single = torch.cat([model(sample) for sample in x.split(1)])
    reversed_ = model(x.flip(0)).flip(0)
    gap = float(torch.maximum((whole - single).abs(), (whole - reversed_).abs()).max())
    return gap, bool((whole.argmax(1) == single.argmax(1)).all())


def stays_in_eval(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """``train()`` does not leave eval mode and forward passes do not move batch-norm statistics.

    Buffers of spiking units are membranes, whose reset is ``repeatable``'s business.
    """
    state = tuple(f"{name}." for name in (*model.spiking_units(), *spike_emitters(model.net)))
    before = {k: v.clone() for k, v in model.net.named_buffers() if not k.startswith(state)}
    model.train()
    input_gradient(model, x[:4], y[:4])
    training = [name for name, module in model.named_modules() if module.training]
    moved = [k for k, v in model.net.named_buffers() if k in before and not v.equal(before[k])]
    named = f" ({', '.join(moved[:3])})" if moved else ""
    detail = f"{len(training)} modules in train mode, {len(moved)} buffers moved{named}"
    remedy = "keep eval mode; name units that keep their membrane in a buffer in spiking_units()"
    return Finding("stays in eval mode", not (training or moved), detail, remedy)


def zero_budget(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """PGD with eps = 0 moves no image and changes no prediction."""
    x, y = x[:8], y[:8]
    specs = [make_spec("pgd", {"eps": "0", "steps": "2"})]
    ids = [str(i) for i in range(len(x))]
    (attacked,) = build("pgd", 0).perturb(model, x, y, ids, specs)
    moved = float((attacked - x).abs().max())
    same = bool((model(attacked).argmax(1) == model(x).argmax(1)).all())
    remedy = "the network answers the same images differently: see 'two calls equal'"
    detail = f"largest change {moved:.1e}, {'the same' if same else 'other'} predictions"
    return Finding("eps = 0 is clean", moved == 0 and same, detail, remedy)


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
    if dead <= ZERO_GRADIENT_SHARE:
        return Finding(name, True, detail)
    remedy = "give every spike a surrogate, and detach nothing between image and logits"
    if loss == "ce":
        rest = _without_gradient(input_gradient(model, x, y, "margin"))
        if rest <= ZERO_GRADIENT_SHARE:
            gap = float(margin(model(x), y).abs().median())
            detail += f": cross-entropy is saturated by logits far apart (median margin {gap:.0f})"
            remedy = (
                "this says nothing of robustness; use apgd or pgd-worst with --loss dlr or margin, "
                "or square, or divide the logits by a constant in readout()"
            )
    return Finding(name, False, detail, remedy)


def _without_gradient(gradient: Tensor) -> float:
    return float((gradient.flatten(1).abs().sum(1) == 0).float().mean())


def surrogate_swap(model: ModelAdapter, x: Tensor, y: Tensor) -> Finding:
    """Another surrogate changes no logit bit, and every spiking unit takes it.

    Not asked of networks without spikes, which serve as controls, nor where a library leaves no
    place for another surrogate.
    """
    name = "surrogate swap leaves logits"
    units = spiking_units(model)
    if not units and not spike_emitters(model.net):
        return Finding(name, True, "not asked: no spiking units, so this is a non-spiking control")
    reason = not_applicable(model, _SWAPPED, x[:4])
    if "leave no place" in reason:
        return Finding(name, True, f"not asked: {reason}")
    detail = f"{len(units)} spiking units take {_SWAPPED}"
    return Finding(name, not reason, reason or detail, "name every neuron in spiking_units()")


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
        "wrong mean and std, wrong crop, other class order, a checkpoint of another variant (other "
        "data set, time steps or switches), or an accuracy measured with the batch leak "
        "(ssa_proj_lif=official)",
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
    """Run every check on samples ``x`` [B, ...] in [0, 1] with labels ``y`` [B].

    Without one finite logit for each class no other check is asked.
    """
    found = answers(model, x)
    return [*found, *(check(model, x, y) for check in CHECKS if found[0].passed)]


def preflight(
    model: ModelAdapter,
    x: Tensor,
    y: Tensor,
    compare: bool = True,
    losses: Sequence[str] = ("ce",),
) -> list[str]:
    """The fast part of ``conformance`` before a run.

    Args:
        model: the adapter.
        x, y: samples [B, ...] in [0, 1] and labels [B].
        compare: whether they come from the split that ``card.reported`` speaks of.
        losses: whose gradients the run follows (``attacks.specs.climbed``); all must be alive.

    Returns:
        A sentence on everything a reader must know although nothing failed.

    Raises:
        PreflightRefused: with what failed and the likely causes.
    """
    name = model.card.name
    findings = answers(model, x)
    if findings[0].passed:
        checks = [check for check in FAST_CHECKS if compare or check is not clean_accuracy]
        findings += [check(model, x, y) for check in checks]
        findings += [gradient_alive(model, x, y, loss) for loss in losses]
    if model.weights_sha256 == "untrained":
        # Deep networks are often silent before training, and no number of them is a result.
        findings = [f for f in findings if f.name != _ALIVE]
    failed = [f for f in findings if not f.passed]
    if failed:
        reasons = "; ".join(f"{f.name}: {f.detail}" for f in failed)
        remedies = "; ".join(dict.fromkeys(f.remedy for f in failed if f.remedy))
        likely = f" Likely causes: {remedies}." if remedies else ""
        raise PreflightRefused(f"model '{name}' is refused before any attack: {reasons}.{likely}")
    return [f"model '{name}': {f.name}: {f.detail}; {f.remedy}." for f in findings if f.warning]
