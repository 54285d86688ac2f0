import numpy as np
import pytest
import torch
from torch import nn

from robustbench_snn.measure import Budget, measure, score
from robustbench_snn.memory import keep_large_blocks, with_backoff


class Brightness(nn.Module):
    """Logits (mean, 0.5): class 0 for bright images."""

    def forward(self, x):
        mean = x.flatten(1).mean(dim=1)
        return torch.stack([mean, torch.full_like(mean, 0.5)], dim=1)


CLEAN_IMAGES = torch.full((4, 1, 2, 2), 0.6)
LABELS = torch.zeros(4, dtype=torch.int64)


def test_score_against_hand_computed_values():
    scores = score(torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]), torch.tensor([0, 2]))
    assert scores.predicted.tolist() == [0, 1]
    assert scores.margin.tolist() == [1.0, -2.0]
    expected = [np.log(np.exp([2, 0, 1]).sum()) - 2, np.log(np.exp([0, 3, 1]).sum()) - 1]
    assert scores.loss == pytest.approx(expected, abs=1e-6)


def test_an_attack_that_cheats_gains_nothing():
    found = CLEAN_IMAGES.clone()
    found[1] -= 0.2  # within eps 0.25, flips the prediction
    found[2] -= 0.5  # outside the budget
    found[3, 0, 0, 0] = float("nan")
    measured = measure(Brightness(), CLEAN_IMAGES, found, LABELS, Budget("linf", 0.25, 1.0))
    assert measured.within.tolist() == [True, True, False, False]
    assert measured.scores.predicted.tolist() == [0, 1, 0, 0]
    assert measured.linf[:3] == pytest.approx([0.0, 0.2, 0.5], abs=1e-6)


def test_leaving_the_range_gains_nothing():
    found = CLEAN_IMAGES.clone()
    found[0] -= 0.7
    found[1] += 0.7
    measured = measure(Brightness(), CLEAN_IMAGES, found, LABELS, Budget("linf", 1.0, 1.0))
    assert measured.in_range.tolist() == [False, False, True, True]
    assert measured.scores.predicted.tolist() == [0, 0, 0, 0]
    unbounded = measure(Brightness(), CLEAN_IMAGES, found, LABELS, Budget("linf", 1.0, None))
    assert unbounded.in_range.tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("norm", "size"), [("linf", 0.1), ("l2", 0.2), ("l1", 0.4), ("l0", 4.0), ("none", 1e9)]
)
def test_norms(norm, size):
    found = CLEAN_IMAGES + 0.1
    inside = measure(Brightness(), CLEAN_IMAGES, found, LABELS, Budget(norm, size, 1.0))
    assert inside.within.all()
    outside = measure(Brightness(), CLEAN_IMAGES, found, LABELS, Budget(norm, size * 0.99, 1.0))
    assert outside.within.any() == (norm == "none")


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0", "none"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_in_no_budget(norm, value):
    found = CLEAN_IMAGES.clone()
    found[1, 0, 0, 0] = value
    measured = measure(Brightness(), CLEAN_IMAGES, found, LABELS, Budget(norm, 4.0, None))
    assert measured.within.tolist() == [True, False, True, True]


def test_rounding_of_float32_is_forgiven():
    x = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(64, dtype=torch.int64)
    eps = 8 / 255
    found = (x + eps).clamp(0, 1)
    assert measure(Brightness(), x, found, y, Budget("linf", eps, 1.0)).within.all()
    beyond = measure(Brightness(), x * 0.5, x * 0.5 + eps + 3e-6, y, Budget("linf", eps, 1.0))
    assert not beyond.within.any()


def test_another_shape_is_an_error():
    with pytest.raises(ValueError, match="returned"):
        measure(Brightness(), CLEAN_IMAGES, CLEAN_IMAGES[:2], LABELS, Budget("linf", 1.0, 1.0))


def fits(limit, error):
    tried = []

    def compute(size):
        tried.append(size)
        if size > limit:
            raise error
        return f"done at {size}"

    return compute, tried


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_backoff_halves_until_it_fits(error):
    compute, tried = fits(20, error)
    assert with_backoff(compute, 100) == ("done at 12", 12, 3)
    assert tried == [100, 50, 25, 12]


def test_backoff_gives_up_with_a_reason():
    compute, _ = fits(0, MemoryError())
    with pytest.raises(MemoryError, match="single sample"):
        with_backoff(compute, 4)
    compute, tried = fits(2, MemoryError())
    with pytest.raises(MemoryError, match="would change this result"):
        with_backoff(compute, 4, fixed=True)
    assert tried == [4]


def test_other_errors_pass_through():
    compute, tried = fits(2, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        with_backoff(compute, 4)
    assert tried == [4]


def test_keeping_large_blocks_changes_no_bit():
    layer = nn.Conv2d(3, 64, 3)
    x = torch.rand(32, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = layer(x)
    keep_large_blocks()
    assert torch.equal(layer(x), before)
