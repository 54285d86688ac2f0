"""D1 to D9, D12, D14, D18: rules about outcomes of attacks on the same samples; no torch.

Sources: Athalye et al. 2018 (arXiv 1802.00420), Carlini et al. 2019 (arXiv 1902.06705), and the
checks of AutoAttack (Croce and Hein 2020). A difference counts when McNemar's exact test has
p < 0.01, or, on few samples, when more than two samples differ.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.diagnostics.findings import Finding, Status, skipped
from robustbench_snn.metrics import mcnemar

Right = NDArray[np.bool_]

FEW = 200
FEW_SAMPLES: Status = "too few samples"
_P = 0.01


def significant(higher: Right, lower: Right) -> bool:
    """Whether ``higher`` is right more often than ``lower`` by more than chance."""
    more = int((higher & ~lower).sum()) - int((lower & ~higher).sum())
    if more <= 0:
        return False
    return mcnemar(higher, lower) < _P or (higher.size < FEW and more > 2)


def percent(right: Right) -> str:
    """``41.4 %``."""
    return f"{100 * right.mean():.1f} %"


def _verdict(bad: bool, worst: Status = "fail", beyond: bool = False) -> Status:
    """``worst``, or a pass; neither where the figure is ``beyond`` the threshold by chance."""
    return worst if bad else FEW_SAMPLES if beyond else "pass"


def step_order(fgsm: Right, pgd: Right) -> Finding:
    """D1: ten steps are not weaker than one."""
    figure = f"PGD-10 {percent(pgd)}, FGSM {percent(fgsm)} (n {pgd.size})"
    bad = significant(pgd, fgsm)
    return Finding("D1", _verdict(bad), figure, "PGD-10 <= FGSM, unless by chance")


def monotone_in_eps(curve: Mapping[float, Right]) -> Finding:
    """D2: accuracy does not rise with eps."""
    eps = sorted(curve)
    rises = [
        f"{255 * a:g} to {255 * b:g}"
        for a, b in itertools.pairwise(eps)
        if significant(curve[b], curve[a])
    ]
    values = ", ".join(f"{255 * e:g}: {100 * curve[e].mean():.0f}" for e in eps)
    figure = f"% at levels of 255: {values}" + (f"; rises from {'; '.join(rises)}" if rises else "")
    return Finding("D2", _verdict(bool(rises)), figure, "no significant rise")


def large_eps(right: Right, classes: int) -> Finding:
    """D3: at eps 128/255 every image can be made grey, so accuracy is chance at best."""
    chance = 1 / classes
    limit = chance + 3 * math.sqrt(chance * (1 - chance) / right.size)
    figure = f"{percent(right)} at 128/255 (n {right.size})"
    return Finding("D3", _verdict(bool(right.mean() > limit)), figure, f"<= {100 * limit:.1f} %")


def noise_floor(noise: Right, pgd: Right) -> Finding:
    """D4: uniform noise fools no more than 0.2 % of samples that PGD does not."""
    only = float((pgd & ~noise).mean())
    figure = f"noise alone fools {100 * only:.1f} %; noise {percent(noise)}, PGD {percent(pgd)}"
    status = _verdict(only > _share(pgd.size), beyond=only > 0.002)
    return Finding("D4", status, figure, "<= 0.2 % of samples")


def _share(n: int) -> float:
    # On fewer than 1,000 samples two of them may differ by chance.
    return max(0.002, 2 / n)


def monotone_in_steps(final: Mapping[int, Right]) -> Finding:
    """D5: the last iterate does not get worse with steps, beyond two standard errors."""
    steps = sorted(final)
    rises = []
    for a, b in itertools.pairwise(steps):
        low = float(final[a].mean())
        error = math.sqrt(max(low * (1 - low), 1 / final[a].size) / final[a].size)
        if final[b].mean() - low > 2 * error:
            rises.append(f"{a} to {b}")
    values = ", ".join(f"{s}: {100 * final[s].mean():.1f}" for s in steps)
    figure = f"% by steps: {values}" + (f"; rises from {'; '.join(rises)}" if rises else "")
    return Finding("D5", _verdict(bool(rises), "warn"), figure, "no rise above 2 SE")


def convergence(
    at_100: Right, at_200: Right, loss_100: NDArray[np.float32], loss_200: NDArray[np.float32]
) -> Finding:
    """D6: twice the steps change accuracy by at most 0.5 points and the loss by at most 1 %."""
    drop = float(at_100.mean() - at_200.mean())
    left = at_200 & at_100
    change = 0.0
    if left.any():
        first, second = float(loss_100[left].mean()), float(loss_200[left].mean())
        change = abs(second - first) / max(abs(first), 1e-12)
    figure = f"100 to 200 steps: {100 * drop:.1f} points, loss of the rest {100 * change:.1f} %"
    few = drop * at_100.size <= 1
    bad = (drop > 0.005 and not few) or (change > 0.01 and left.sum() > 2)
    status = _verdict(bad, "warn", drop > 0.005 or change > 0.01)
    return Finding("D6", status, figure, "<= 0.5 points and <= 1 % of loss")


def restarts(one: Right, five: Right) -> Finding:
    """D7: five starts gain at most 1 point over one (fail above 3)."""
    gain = float(one.mean() - five.mean())
    worst: Status = "fail" if gain > 0.03 else "warn"
    status = _verdict(gain > 0.01 and gain * one.size > 2, worst, gain > 0.01)
    figure = f"1 start {percent(one)}, 5 starts {percent(five)} (n {one.size})"
    return Finding("D7", status, figure, "<= 1 point (fail above 3)")


def black_box(square: Right, white_box: Right) -> Finding:
    """D8: random search finds next to nothing that gradients miss."""
    only = float((white_box & ~square).mean())
    figure = f"Square alone fools {100 * only:.1f} %; Square {percent(square)}, white box "
    figure += percent(white_box)
    bad = only > _share(square.size) or square.mean() < white_box.mean() - 0.002
    status = _verdict(bad, beyond=only > 0.002)
    return Finding("D8", status, figure, "<= 0.2 % of samples fooled by Square alone")


def transfer(transferred: Sequence[Right], white_box: Right) -> Finding:
    """D9: attacks made on other models do not beat those made on this one."""
    threshold = "transfer >= white box, unless by chance"
    if not transferred:
        return skipped("D9", threshold, "the run has no second model to attack from")
    both = np.logical_and.reduce(list(transferred))
    figure = f"transfer {percent(both)}, white box {percent(white_box)} (n {both.size})"
    return Finding("D9", _verdict(significant(white_box, both)), figure, threshold)


def surrogate_sensitivity(
    accuracy: Mapping[str, float], training: str, eps: float, left: float | None = None
) -> Finding:
    """D12: the training surrogate attacks as well as the best one.

    Args:
        accuracy: what each estimator leaves standing at ``eps``, by name.
        training: the name of the training surrogate.
        eps: where they were compared.
        left: what the training surrogate leaves at the suite's eps, where that is a larger one.
    """
    threshold = "training <= best + 5 points"
    if training not in accuracy or len(accuracy) < 2:
        return skipped("D12", threshold, "no screen of estimators was run")
    best = min(accuracy, key=lambda name: accuracy[name])
    gap = accuracy[training] - accuracy[best]
    spread = max(accuracy.values()) - accuracy[best]
    figure = (
        f"training {100 * accuracy[training]:.1f} %, best {best} {100 * accuracy[best]:.1f} %, "
        f"spread of {len(accuracy)}: {100 * spread:.1f} points (PGD-10, eps {255 * eps:g}/255)"
    )
    if gap > 0.05 and left is not None and left <= 0.05:
        note = f"no verdict: at the suite's eps the training surrogate leaves {100 * left:.1f} %"
        return Finding("D12", "info", f"{figure}; {note}", threshold)
    return Finding("D12", _verdict(gap > 0.05, "warn"), figure, threshold)


def loss_choice(ce: Right, margin: Right) -> Finding:
    """D14: cross-entropy and margin loss agree within 2 points; else one of them saturates."""
    gap = abs(float(ce.mean() - margin.mean()))
    figure = f"CE {percent(ce)}, margin {percent(margin)} (n {ce.size})"
    bad = gap > 0.02 and gap * ce.size > 2
    return Finding("D14", _verdict(bad, "warn", gap > 0.02), figure, "within 2 points")


def undefended(pgd: Right, defended: bool) -> Finding:
    """D18: a model without adversarial training falls to 1 % under PGD-50 at 8/255."""
    threshold = "<= 1 % without adversarial training"
    figure = f"PGD-50 at 8/255 leaves {percent(pgd)} (n {pgd.size})"
    if defended:
        return Finding("D18", "info", figure, threshold, "the card says: adversarially trained")
    beyond = bool(pgd.mean() > 0.01)
    return Finding(
        "D18", _verdict(beyond and int(pgd.sum()) > 2, "warn", beyond), figure, threshold
    )
