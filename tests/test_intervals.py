"""Every interval the package prints holds what it promises: coverage by simulation.

The promise is 95 % on average over shares. Near 0 and 1 the coverage of any interval jumps with the
counts: Wilson's is 92.1 % at 0.99 of 100, and 1,500 runs tell it to 0.7 points. So 91 % is asked.
"""

import numpy as np
import pytest

from robustbench_snn.data import sample_groups
from robustbench_snn.explain.intervals import mean_interval, paired_mean
from robustbench_snn.metrics import Accuracy, effective_size, mcnemar, paired_difference, wilson
from robustbench_snn.suites.curves import eps50, eps50_band

RUNS = 1500
PAIRS = np.repeat(np.arange(500), 2)


def coverage(truth, draw, runs=RUNS, seed=0):
    """How often the interval that ``draw`` makes from a generator holds ``truth``."""
    generator = np.random.default_rng(seed)
    bounds = [draw(generator) for _ in range(runs)]
    return float(np.mean([low <= truth <= high for low, high in bounds]))


def twice(generator, share, agreement, groups=500):
    """Two outcomes of each group, bool [2 groups], equal with probability ``agreement`` or more."""
    first = generator.random(groups) < share
    again = np.where(generator.random(groups) < agreement, first, generator.random(groups) < share)
    return np.stack([first, again], axis=1).ravel()


@pytest.mark.parametrize(("n", "p"), [(100, 0.02), (100, 0.5), (500, 0.98), (1000, 0.05)])
def test_accuracy(n, p):
    def draw(generator):
        return Accuracy(int(generator.binomial(n, p)), n).interval

    assert 0.91 <= coverage(p, draw) <= 0.99


@pytest.mark.parametrize("agreement", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.96])
def test_accuracy_of_objects_shown_twice(p, agreement):
    def draw(generator):
        return Accuracy.of(twice(generator, p, agreement), PAIRS).interval

    assert 0.91 <= coverage(p, draw) <= 0.985


def test_taking_them_for_independent_would_be_too_narrow():
    def draw(generator):
        right = twice(generator, 0.5, 1.0)
        return wilson(right.sum(), len(right))

    assert coverage(0.5, draw) < 0.87


@pytest.mark.parametrize(
    ("only_a", "only_b", "both"), [(0.02, 0.01, 0.9), (0.01, 0.0, 0.5), (0.1, 0.2, 0.4)]
)
@pytest.mark.parametrize("agreement", [None, 0.5])
def test_difference_of_two_models(only_a, only_b, both, agreement):
    shares = [only_a, only_b, both, 1 - only_a - only_b - both]
    groups = None if agreement is None else PAIRS

    def draw(generator):
        kind = generator.choice(4, 500, p=shares)
        if agreement is not None:
            again = np.where(
                generator.random(500) < agreement, kind, generator.choice(4, 500, p=shares)
            )
            kind = np.stack([kind, again], axis=1).ravel()
        a, b = np.isin(kind, (0, 2)), np.isin(kind, (1, 2))
        return paired_difference(a, b, groups=groups)[1:]

    assert coverage(only_a - only_b, draw) >= 0.91


@pytest.mark.parametrize(("n", "p"), [(100, 0.02), (100, 0.99), (500, 0.98), (20, 0.5)])
def test_mean_of_a_metric_that_is_0_or_1(n, p):
    def draw(generator):
        mean = mean_interval((generator.random(n) < p).astype(float))
        return mean.low, mean.high

    assert coverage(p, draw) >= 0.91


def test_a_mean_of_equal_shares_still_has_a_width():
    for mean in (mean_interval(np.ones(100)), mean_interval(np.zeros(100))):
        assert mean.high - mean.low > 0.03
        assert 0 <= mean.low <= mean.high <= 1
    same = paired_mean(np.ones(100), np.ones(100))
    assert same.low < 0 < same.high


@pytest.mark.parametrize("groups", [None, PAIRS])
def test_mean_of_a_continuous_metric(groups):
    def draw(generator):
        values = generator.beta(2, 5, 500)
        if groups is not None:
            values = np.repeat(values, 2) + 0.01 * generator.standard_normal(1000)
        mean = mean_interval(values, groups=groups)
        return mean.low, mean.high

    assert 0.925 <= coverage(2 / 7, draw) <= 0.975


@pytest.mark.parametrize("groups", [None, PAIRS])
def test_paired_difference_of_a_metric(groups):
    def draw(generator):
        a, b = generator.random(500), generator.random(500)
        if groups is not None:
            a, b = np.repeat(a, 2), np.repeat(b, 2)
        mean = paired_mean(a, b, groups=groups)
        return mean.low, mean.high

    assert 0.925 <= coverage(0.0, draw) <= 0.975


def test_paired_difference_of_shares():
    def draw(generator):
        a, b = generator.random(200) < 0.97, generator.random(200) < 0.99
        mean = paired_mean(a.astype(float), b.astype(float))
        return mean.low, mean.high

    assert coverage(-0.02, draw) >= 0.91


EPS = (0.0, 0.5, 1.0, 2.0, 4.0)


def curve(broken):
    """Points of an eps curve from the eps at which each sample is broken."""
    points = []
    for eps in EPS:
        accuracy = Accuracy.of(broken > eps)
        low, high = accuracy.interval
        counts = {"correct": accuracy.correct, "n": accuracy.n}
        points.append({"eps": eps, "low": low, "high": high, **counts})
    return points


def test_eps50():
    large = np.random.default_rng(7).gamma(3.0, 0.6, 200_000)
    truth = eps50(curve(np.where(np.random.default_rng(8).random(200_000) < 0.9, large, 0.0)))

    def draw(generator):
        broken = np.where(generator.random(200) < 0.9, generator.gamma(3.0, 0.6, 200), 0.0)
        return eps50_band(curve(broken))

    assert coverage(truth, draw, 400) >= 0.91


def test_error_under_corruptions_counts_every_image_once():
    from robustbench_snn.report.corruptions import Share

    def draw(generator):
        hard = generator.random(200)
        # 15 corruptions of one image share how hard it is.
        right = generator.random((200, 15)) < hard[:, None]
        return Share(float(right.mean()), 200).interval

    assert coverage(0.5, draw, 600) >= 0.95


def test_effective_size_by_hand():
    assert effective_size([1, 0, 1], None) is None
    assert effective_size([1, 0, 1], ["a", "b", "c"]) is None
    # Two groups of two that agree: worth two samples; that differ within: worth four.
    assert effective_size([1, 1, 0, 0], [0, 0, 1, 1]) == 2.0
    assert effective_size([1, 0, 1, 0], [0, 0, 1, 1]) == 4.0
    assert effective_size([1, 1, 1, 1], [0, 0, 1, 1]) == 2.0


def test_mcnemar_keeps_its_level_where_objects_are_shown_twice():
    generator = np.random.default_rng(0)
    small, naive = 0, 0
    for _ in range(400):
        kind = np.repeat(generator.choice(3, 500, p=[0.1, 0.1, 0.8]), 2)
        a, b = kind == 0, kind == 1
        small += mcnemar(a, b, PAIRS) < 0.05
        naive += mcnemar(a, b) < 0.05
    assert small <= 0.07 * 400
    assert naive > 0.1 * 400


def test_mcnemar_of_single_groups_is_mcnemar():
    generator = np.random.default_rng(1)
    a, b = generator.random(200) < 0.6, generator.random(200) < 0.5
    expected = mcnemar(a, b)
    assert mcnemar(a, b, np.arange(200)) == expected
    # One group of two in which nothing differs changes nothing.
    a[1], b[1] = a[0], b[0] = True, True
    assert mcnemar(a, b, [0, 0, *range(2, 200)]) == pytest.approx(mcnemar(a, b), abs=1e-12)


def test_test_scenes_of_one_scan_are_known_by_their_ids():
    ids = [f"test/{i:06d}" for i in range(1000)]
    assert sample_groups("digit-scenes", ids[:500]) is None
    groups = sample_groups("digit-scenes", ids)
    counts = np.bincount(groups)
    assert sorted(set(counts[counts > 0])) == [2]
    assert len(set(groups.tolist())) == 500
    assert sample_groups("cifar10", ids) is None
    assert sample_groups("of a plugin", ids) is None
    assert sample_groups("digit-scenes", ["x", "y", "test/999999"]) is None
