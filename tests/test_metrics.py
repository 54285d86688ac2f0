import itertools

import numpy as np
import pytest
from scipy import stats

from robustbench_snn import metrics


def outcomes(both, only_a, only_b, neither):
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


@pytest.mark.parametrize(
    ("correct", "n"), [(0, 5), (5, 5), (1, 64), (37, 100), (963, 1000), (1713, 10_000)]
)
def test_intervals_equal_scipy(correct, n):
    exact = stats.binomtest(correct, n).proportion_ci(0.95, method="exact")
    score = stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert metrics.clopper_pearson(correct, n) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert metrics.wilson(correct, n) == pytest.approx((score.low, score.high), abs=1e-12)


def test_wilson_known_value():
    # Newcombe 1998 (Statistics in Medicine 17:857), 81 of 263, method 3
    assert metrics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_interval_ends_are_exact():
    assert metrics.wilson(0, 10)[0] == 0.0
    assert metrics.wilson(10, 10)[1] == 1.0
    assert metrics.clopper_pearson(0, 10) == pytest.approx((0.0, 1 - 0.025 ** (1 / 10)))


@pytest.mark.parametrize(("correct", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts(correct, n):
    with pytest.raises(ValueError, match="correct of"):
        metrics.wilson(correct, n)
    with pytest.raises(ValueError, match="correct of"):
        metrics.clopper_pearson(correct, n)


def test_paired_difference_published_example():
    # Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33:2850), 1, 1, 7, 12 of 21
    a, b = outcomes(1, 1, 7, 12)
    assert metrics.paired_difference(a, b) == pytest.approx((-0.286, -0.507, -0.026), abs=6e-4)


def test_paired_difference_is_antisymmetric():
    a, b = outcomes(40, 9, 4, 47)
    difference, low, high = metrics.paired_difference(a, b)
    assert metrics.paired_difference(b, a) == pytest.approx((-difference, -high, -low))


def test_equal_outcomes_still_have_a_width():
    a = [True] * 30 + [False] * 70
    difference, low, high = metrics.paired_difference(a, a)
    assert difference == 0.0
    assert low < 0.0 < high


def test_paired_interval_covers():
    rng = np.random.default_rng(0)
    cells = np.array([0.35, 0.10, 0.05, 0.50])
    covered = 0
    for counts in rng.multinomial(100, cells, size=1000):
        _, low, high = metrics.paired_difference(*outcomes(*counts))
        covered += low <= 0.05 <= high
    assert 0.93 <= covered / 1000 <= 0.98


def test_pairing_narrows_the_interval():
    concordant = metrics.paired_difference(*outcomes(48, 2, 0, 50))
    discordant = metrics.paired_difference(*outcomes(25, 25, 23, 27))
    assert concordant[2] - concordant[1] < discordant[2] - discordant[1]


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 7), (5, 5), (40, 60), (0, 3)])
def test_mcnemar_equals_binomial_test(only_a, only_b):
    a, b = outcomes(10, only_a, only_b, 10)
    n = only_a + only_b
    expected = stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0
    assert metrics.mcnemar(a, b) == pytest.approx(expected, abs=1e-9)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="equal lengths"):
        metrics.paired_difference([True], [True, False])
    with pytest.raises(ValueError, match="equal lengths"):
        metrics.mcnemar([], [])


def test_worst_case_is_the_conjunction():
    rows = list(itertools.product([True, False], repeat=3))
    columns = [[row[i] for row in rows] for i in range(3)]
    assert metrics.worst_case(columns).tolist() == [all(row) for row in rows]
    with pytest.raises(ValueError, match="at least one"):
        metrics.worst_case([])


def test_accuracy_and_agreement():
    accuracy = metrics.Accuracy(37, 100)
    assert accuracy.value == 0.37
    assert accuracy.interval == metrics.wilson(37, 100)
    assert metrics.agree(37, 100, 420, 1000)
    assert not metrics.agree(37, 100, 900, 1000)
