"""What counts as a gradient without information."""

import torch

from robustbench_snn.attacks.base import gradient_health


def test_a_gradient_is_zero_only_when_all_its_pixels_are():
    found = gradient_health(torch.tensor([[0.0, 0.0], [0.0, 1.0], [float("nan"), 0.0]]))
    assert (found.gradients, found.zero_gradients, found.nonfinite_gradients) == (3, 1, 1)
    assert (found.pixels, found.zero_pixels) == (6, 4)
