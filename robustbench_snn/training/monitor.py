"""What is measured on held-out images each epoch, and when training has collapsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks.losses import answers
from robustbench_snn.training.adversarial import Adversarial
from robustbench_snn.training.crafting import craft
from robustbench_snn.training.pictures import EVAL_BATCH, Pictures, to_unit

WATCHED = 256  # held-out images that are attacked
PGD_STEPS = 10


def accuracy_of(model: ModelAdapter, pictures: Pictures) -> NDArray[np.bool_]:
    """Which images are classified correctly, bool [N], in float32 and eval mode."""
    return _correct(model, pictures, None)


def robustness_of(model: ModelAdapter, pictures: Pictures, eps: float) -> tuple[float, float]:
    """Accuracy on the first 256 pictures under FGSM and under PGD-10 at ``eps``.

    FGSM is one step of size eps from the image itself; PGD takes steps of eps / 4 from a random
    start. Both ascend the cross-entropy.
    """
    few = Pictures(pictures.pixels[:WATCHED], pictures.labels[:WATCHED])
    one = Adversarial(eps, steps=1, step_size=eps, start=0.0)
    many = Adversarial(eps, steps=PGD_STEPS, step_size=eps / 4)
    return float(_correct(model, few, one).mean()), float(_correct(model, few, many).mean())


def _correct(
    model: ModelAdapter, pictures: Pictures, attack: Adversarial | None
) -> NDArray[np.bool_]:
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    found: list[NDArray[np.bool_]] = []
    training = model.training
    model.eval()
    for begin in range(0, len(pictures.labels), EVAL_BATCH):
        part = slice(begin, begin + EVAL_BATCH)
        x = to_unit(pictures.pixels[part], device)
        if attack is not None:
            noise = 2 * torch.rand(x.shape, generator=generator).to(device) - 1
            y = torch.from_numpy(pictures.labels[part]).to(device)
            x = craft(model, x, y, attack, attack.steps, 1.0, noise)
        with torch.no_grad():
            found.append(answers(model(x)).cpu().numpy() == pictures.labels[part])
    model.train(training)
    return np.concatenate(found)


def collapsed(log: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The last good epoch's row, if single-step training collapsed in the log's last one.

    Catastrophic overfitting (Wong et al., arXiv 2001.03994): accuracy under PGD falls to less than
    half of its best while accuracy under FGSM is not below what it was then.
    """
    now = log[-1]
    if now["attack_steps"] != 1:
        return None
    best = max(log, key=lambda row: (row["monitor_pgd"], row["epoch"]))
    fell = now["monitor_pgd"] < 0.5 * best["monitor_pgd"]
    return best if fell and now["monitor_fgsm"] >= best["monitor_fgsm"] else None
