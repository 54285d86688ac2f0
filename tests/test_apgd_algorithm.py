"""Auto-PGD step by step against Algorithm 1 of its paper, written down plainly for one sample."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from robustbench_snn.attacks.apgd import climb, runs
from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.pursuit import Seen
from robustbench_snn.attacks.sapgd import descend

EPS, STEPS = 0.3, 40
WAVES = torch.tensor([9.0, 23.0, 31.0], dtype=torch.float64)


def losses_of(point):
    """A loss with many peaks, so that steps overshoot and have to be halved: [B, 3] to [B]."""
    return (torch.sin(WAVES * point) + 0.3 * point).sum(1)


def gradients_of(point):
    return WAVES * torch.cos(WAVES * point) + 0.3


class Recorder:
    """Answers as a model would that is never fooled; notes where it was asked."""

    separable = False
    active = SimpleNamespace()

    def __init__(self):
        self.asked = []

    def at(self, point, y, target=None):
        self.asked.append(point.clone())
        loss = losses_of(point)
        return Seen(loss, (100 - loss).float(), gradients_of(point))

    def margin(self, point, y):
        self.asked.append(point.clone())
        return (100 - losses_of(point)).float()


def algorithm_1(x, start, eps, steps):
    """(points visited, numbers of halvings) of one sample [3]; Croce and Hein 2020."""

    def project(z):
        return torch.clamp(torch.max(torch.min(z, x + eps), x - eps), 0.0, 1.0)

    def f(z):
        return float(losses_of(z[None])[0])

    def ascent(z):
        return gradients_of(z[None])[0].sign()

    window, least, less = int(0.22 * steps), int(0.06 * steps), max(int(0.03 * steps), 1)
    eta, point, before = 2 * eps, start, start
    best, best_loss = start, f(start)
    visited, history, halvings = [start], [0.0], 0
    since, halved_last, best_at_check = 0, True, best_loss
    for k in range(steps):
        z = project(point + eta * ascent(point))
        alpha = 1.0 if k == 0 else 0.75
        moved = project(point + alpha * (z - point) + (1 - alpha) * (point - before))
        before, point = point, moved
        visited.append(point)
        history.append(f(point))
        if history[-1] > best_loss:
            best, best_loss = point, history[-1]
        since += 1
        if since == window:
            recent = history[-window - 1 :]
            rises = sum(b > a for a, b in pairwise(recent))
            stuck = rises <= 0.75 * window or (not halved_last and best_at_check >= best_loss)
            if stuck:
                eta, point, halvings = eta / 2, best, halvings + 1
            halved_last, best_at_check = stuck, best_loss
            since, window = 0, max(window - less, least)
    return visited, halvings


def test_every_point_is_that_of_the_algorithm():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(16, 3, generator=generator, dtype=torch.float64)
    ball = Ball("linf", EPS, 0.0, 1.0)
    noise = 2 * torch.rand(16, 3, generator=generator, dtype=torch.float64) - 1
    start = ball.project(x, x + EPS * noise)
    recorder = Recorder()
    climb(recorder, ball, x, torch.zeros(16, dtype=torch.int64), start, STEPS)
    assert len(recorder.asked) == STEPS + 1
    halved = set()
    for row in range(16):
        visited, halvings = algorithm_1(x[row], start[row], EPS, STEPS)
        halved.add(halvings)
        for step, (found, expected) in enumerate(zip(recorder.asked, visited, strict=True)):
            assert found[row].tolist() == pytest.approx(expected.tolist(), abs=1e-6), (row, step)
    assert len(halved) > 2  # samples differ in when their steps are halved


def test_targets_are_the_likely_wrong_classes_each_with_starts_of_its_own():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    params = {"loss": "dlr-targeted", "targets": 9, "restarts": 2}
    found = [(start, target.tolist()) for start, target in runs(logits, params)]
    assert found == [
        (0, [2, 2]),
        (1, [2, 2]),
        (2, [1, 1]),
        (3, [1, 1]),
        (4, [3, 0]),
        (5, [3, 0]),
    ]
    few = [target.tolist() for _, target in runs(logits, params | {"targets": 1, "restarts": 1})]
    assert few == [[2, 2]]


def test_without_targets_there_are_only_starts():
    logits = torch.zeros(2, 4)
    assert list(runs(logits, {"loss": "ce", "restarts": 3})) == [(0, None), (1, None), (2, None)]


def test_sapgd_scales_by_decayed_sums_of_normalised_gradients():
    """Moments with decays 0.5 and 0.8, each gradient over its mean size, steps cut at ±eta."""
    x = torch.tensor([[0.4, 0.5, 0.6]], dtype=torch.float64)
    recorder, steps = Recorder(), 20
    descend(recorder, Ball("linf", EPS, 0.0, 1.0), x, torch.zeros(1, dtype=torch.int64), x, steps)
    point, eta, first, second, visited = x[0], EPS, 0.0, 0.0, [x[0]]
    # Windows of 4, 3, 2 and then 1 step: 0.22, 0.03 less each and at least 0.06 of 20 steps.
    checks = {4, 4 + 3, 4 + 3 + 2, *range(10, steps + 1)}
    for k in range(1, steps + 1):
        gradient = gradients_of(point[None])[0]
        first = 0.5 * first + gradient / gradient.abs().mean()
        second = 0.8 * second + gradient**2 / (gradient**2).mean()
        step = torch.clamp(eta * first / second.sqrt(), -eta, eta)
        point = torch.clamp(torch.max(torch.min(point + step, x[0] + EPS), x[0] - EPS), 0.0, 1.0)
        visited.append(point)
        eta = eta / 2 if k in checks else eta
    assert len(recorder.asked) == len(visited)
    for k, (found, expected) in enumerate(zip(recorder.asked, visited, strict=True)):
        assert found[0].tolist() == pytest.approx(expected.tolist(), abs=1e-9), k
