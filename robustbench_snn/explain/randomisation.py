"""Does the map depend on what was learned? Weights are shuffled from the output to the input.

Model parameter randomisation (Adebayo et al. 2018, arXiv 1810.03292), cascading. The entries of
each parameter are permuted instead of drawn anew: their distribution stays, so that neurons keep
firing and a change of the map is not merely a network gone silent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.explain.similarity import spearman, varies


def levels(net: nn.Module) -> dict[str, list[Tensor]]:
    """Parameters by part of the network (``head``, ``stage3.1``, ...), the output's first.

    Parameters that the network itself owns (feedback prompts) act on its end and come first too.
    """
    found: dict[str, list[Tensor]] = {}
    for name, parameter in net.named_parameters():
        parts = name.split(".")
        numbered = len(parts) > 1 and parts[1].isdigit()
        found.setdefault(".".join(parts[: 2 if numbered else 1]), []).append(parameter)
    order = sorted(reversed(found), key=lambda name: name not in dict(net.named_parameters()))
    return {name: found[name] for name in order}


@torch.no_grad()
def shuffle(parameters: list[Tensor], generator: torch.Generator) -> None:
    """Permute the entries of each tensor in place."""
    for parameter in parameters:
        order = torch.randperm(parameter.numel(), generator=generator)
        flat = parameter.flatten()[order.to(parameter.device)]
        parameter.copy_(flat.view_as(parameter))


def randomisation(
    model: ModelAdapter,
    maps_of: Callable[[ModelAdapter], NDArray[np.floating]],
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Rank correlation of the maps before and after shuffling, float64 [n] for each level.

    Args:
        model: left as it is; a copy is shuffled.
        maps_of: model to maps [n, h, w] of the images in question.
        seed: of the permutations.

    Returns:
        ``randomised:LEVEL`` with that level and all after it shuffled, and ``randomised`` with
        everything shuffled. A map that becomes constant shares no rank: 0. A map that was
        constant before: NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    before = maps_of(model)
    shuffled = copy.deepcopy(model)
    found: dict[str, NDArray[np.float64]] = {}
    rho = np.full(len(before), np.nan)
    for name, parameters in levels(shuffled.net).items():
        shuffle(parameters, generator)
        after = maps_of(shuffled)
        rho = np.where(varies(before) & ~varies(after), 0.0, spearman(before, after))
        found[f"randomised:{name}"] = rho
    return found | {"randomised": rho}
