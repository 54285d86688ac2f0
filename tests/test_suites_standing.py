"""The worst case of each sample: the smallest eps that broke it, and who broke it first."""

import itertools

import numpy as np
import pytest

from robustbench_snn.suites.spec import attack_at
from robustbench_snn.suites.standing import Standing


def row(fooled, images="x"):
    answers = {"sample_ids": ["a", "b"], "labels": [0, 0], "pred_adv": [int(f) for f in fooled]}
    return answers | {"images": images, "images_sha256": "y", "norm": "linf"}


@pytest.mark.parametrize("order", list(itertools.permutations((2, 4, 16))))
def test_the_smallest_eps_that_broke_a_sample_counts_in_whatever_order(order):
    standing = Standing(["a", "b"], np.zeros(2, dtype=np.int64), np.array([True, True]))
    for level in order:
        standing.take(attack_at(("apgd", {}), level / 255), row([True, level >= 4]))
    assert standing.broken_eps.tolist() == [2 / 255, 4 / 255]
    assert standing.robust(1 / 255).tolist() == [True, True]
    assert standing.robust(2 / 255).tolist() == [False, True]
    assert standing.robust(3 / 255).tolist() == [False, True]
    assert standing.robust(4 / 255).tolist() == [False, False]


def test_the_first_that_fools_has_won():
    standing = Standing(["a", "b"], np.zeros(2, dtype=np.int64), np.array([True, True]))
    assert standing.take(attack_at(("apgd", {}), 4 / 255), row([False, True], "one")) == 1
    assert standing.take(attack_at(("square", {}), 4 / 255), row([True, True], "two")) == 2
    assert [name.split()[0] for name in standing.winner] == ["square", "apgd"]
    assert [file.path for file in standing.files] == ["two", "one"]


def test_what_was_wrong_to_begin_with_is_robust_nowhere_and_is_not_attacked():
    standing = Standing(["a", "b"], np.zeros(2, dtype=np.int64), np.array([False, True]))
    assert standing.robust(0.0).tolist() == [False, True]
    assert standing.survivors(0.0, range(2)) == [1]
    assert standing.winner == ["", ""]
