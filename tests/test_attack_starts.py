"""Where attacks begin: on the sphere or in the ball, each sample and each start its own."""

import numpy as np
import pytest
import torch

from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import sample_generator
from robustbench_snn.attacks.gradient import PGD

IDS = ["test/0", "test/1"]
X = torch.full((2, 3, 8, 8), 0.5)


def drawn(kind, restart=0):
    """What numpy's generator of each sample draws, float64 [2, 3, 8, 8]."""
    found = []
    for name in IDS:
        generator = sample_generator(7, name, restart)
        if kind == "normal":
            found.append(generator.standard_normal((3, 8, 8), dtype=np.float32))
        else:
            found.append(2 * generator.random((3, 8, 8), dtype=np.float32) - 1)
    return np.stack(found).astype(np.float64)


def size(values, norm):
    flat = values.reshape(len(values), -1)
    length = np.abs(flat).max(1) if norm == "linf" else np.sqrt((flat**2).sum(1))
    return length.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(("norm", "kind"), [("linf", "uniform"), ("l2", "normal")])
@pytest.mark.parametrize("restart", [0, 3])
def test_a_surface_start_has_norm_eps_in_a_direction_of_its_own(norm, kind, restart):
    start = Ball(norm, 0.25, 0.0, 1.0).surface_start(X, 7, IDS, restart)
    noise = drawn(kind, restart)
    expected = 0.5 + 0.25 * noise / size(noise, norm)
    assert start.numpy() == pytest.approx(expected, abs=1e-6)
    assert size(start.double().numpy() - 0.5, norm) == pytest.approx(0.25, abs=1e-6)


def test_an_inner_start_fills_the_ball():
    start = Ball("linf", 0.25, 0.0, 1.0).inner_start(X, 7, IDS, 1)
    assert start.numpy() == pytest.approx(0.5 + 0.25 * drawn("uniform", 1), abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_keep_to_the_range_of_inputs(norm):
    ball = Ball(norm, 30.0, 0.0, 1.0)
    for start in (ball.surface_start(X, 7, IDS, 0), ball.inner_start(X, 7, IDS, 0)):
        assert 0 <= float(start.min()) <= float(start.max()) <= 1


def test_pgd_begins_in_the_ball_and_in_the_range_or_at_the_image():
    assert PGD(7).start(X, IDS, 0.25, (0.0, 1.0)).numpy() == pytest.approx(
        0.5 + 0.25 * drawn("uniform"), abs=1e-6
    )
    far = PGD(7).start(X, IDS, 30.0, (0.0, 1.0))
    assert (float(far.min()), float(far.max())) == (0.0, 1.0)
    assert torch.equal(PGD(7).start(X, IDS, 0.25, (0.0, 1.0), random=False), X)
