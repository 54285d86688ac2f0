"""Closed forms of every map metric."""

import numpy as np
import pytest

from robustbench_snn.explain import map_metrics as m
from robustbench_snn.explain import similarity as s
from robustbench_snn.explain.controls import control_maps
from robustbench_snn.explain.intervals import mean_interval, paired_mean

MASK = np.zeros((1, 8, 8), dtype=bool)
MASK[0, 2:6, 2:6] = True  # a quarter of the pixels
UNIFORM = np.ones((1, 4, 4))
ONE_HOT = np.zeros((1, 4, 4))
ONE_HOT[0, 1, 2] = 3.0


def test_uniform_map_is_at_chance_everywhere():
    chance = m.chance(MASK)
    for name, metric in m.LOCATION.items():
        assert metric(UNIFORM, MASK) == pytest.approx(chance[name]), name
    assert chance["relevance_mass"] == pytest.approx(0.25)
    assert chance["localisation_auc"] == pytest.approx(0.5)


def test_the_mask_itself_is_perfect():
    perfect = {
        "background_mass": 0.0,
        "relevance_mass": 1.0,
        "lift": 4.0,
        "relevance_rank": 1.0,
        "pointing": 1.0,
        "localisation_auc": 1.0,
    }
    maps = MASK.astype(np.float32)
    assert {k: v(maps, MASK)[0] for k, v in m.LOCATION.items()} == pytest.approx(perfect)
    away = {k: v(1.0 - maps, MASK)[0] for k, v in m.LOCATION.items()}
    assert away["background_mass"] == 1.0
    assert away["localisation_auc"] == 0.0


def test_partly_covered_cells_count_by_their_share():
    # Cell (0, 1) of a 2x2 grid: pixels rows 0-3, columns 4-7, of which 2x2 are in the mask.
    maps = np.array([[[0.0, 2.0], [0.0, 0.0]]])
    assert m.relevance_mass(maps, MASK)[0] == pytest.approx(4 / 16)
    assert m.pointing(maps, MASK)[0] == pytest.approx(4 / 16)
    # The 16 highest pixels are that cell's.
    assert m.relevance_rank(maps, MASK)[0] == pytest.approx(4 / 16)


def test_relevance_rank_shares_ties():
    mask = np.array([[[True, True, False, False]]])
    assert m.relevance_rank(np.array([[[3.0, 1.0, 1.0, 0.0]]]), mask)[0] == pytest.approx(0.75)
    assert m.localisation_auc(np.array([[[3.0, 1.0, 1.0, 0.0]]]), mask)[0] == pytest.approx(7 / 8)


def test_negative_values_count_as_zero():
    maps = np.array([[[-5.0, 1.0], [1.0, -1.0]]])
    clipped = np.maximum(maps, 0)
    for metric in m.LOCATION.values():
        assert metric(maps, MASK) == pytest.approx(metric(clipped, MASK))
    assert m.effective_cells(maps)[0] == pytest.approx(2.0)


@pytest.mark.parametrize("maps", [np.zeros((1, 4, 4)), -UNIFORM])
def test_without_positive_mass_nothing_is_defined(maps):
    assert all(np.isnan(metric(maps, MASK)).all() for metric in m.LOCATION.values())
    assert all(np.isnan(metric(maps)).all() for metric in m.CONCENTRATION.values())


def test_empty_mask_leaves_location_undefined():
    empty = np.zeros_like(MASK)
    assert all(np.isnan(metric(UNIFORM, empty)).all() for metric in m.LOCATION.values())
    assert all(np.isnan(level).all() for level in m.chance(empty).values())


def test_concentration_at_both_ends():
    ends = {"entropy": (1, 0), "gini": (0, 1 - 1 / 16), "hoyer": (0, 1), "effective_cells": (16, 1)}
    for name, (flat, sharp) in ends.items():
        assert m.CONCENTRATION[name](UNIFORM)[0] == pytest.approx(flat, abs=1e-12)
        assert m.CONCENTRATION[name](ONE_HOT)[0] == pytest.approx(sharp, abs=1e-12)


def test_concentration_of_two_equal_cells():
    maps = np.array([[[1.0, 1.0, 0.0, 0.0]]])
    assert m.entropy(maps)[0] == pytest.approx(np.log(2) / np.log(4))
    assert m.gini(maps)[0] == pytest.approx(0.5)
    assert m.hoyer(maps)[0] == pytest.approx(2 - np.sqrt(2))


def test_random_maps_are_at_chance():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((400, 8, 8)), rng.random((400, 8, 8)) < 0.1
    masks[:, 0, 0] = True
    levels = {name: level.mean() for name, level in m.chance(masks).items()}
    for name, metric in m.LOCATION.items():
        tolerance = 0.05 if name == "pointing" else 0.03 * max(1.0, levels[name])
        assert metric(maps, masks).mean() == pytest.approx(levels[name], abs=tolerance)


def test_samples_do_not_mix():
    rng = np.random.default_rng(1)
    maps, masks = rng.random((5, 4, 4)), rng.random((5, 8, 8)) < 0.3
    for metric in m.LOCATION.values():
        alone = np.concatenate([metric(maps[i : i + 1], masks[i : i + 1]) for i in range(5)])
        assert metric(maps, masks) == pytest.approx(alone)


def test_similarity_of_equal_opposite_and_constant_maps():
    a = np.arange(16.0).reshape(1, 4, 4)
    same = {"spearman": 1.0, "ssim": 1.0, "top_k_iou": 1.0, "js_divergence": 0.0}
    assert {k: v(a, a)[0] for k, v in s.SIMILARITY.items()} == pytest.approx(same)
    assert s.spearman(a, 15 - a)[0] == pytest.approx(-1.0)
    assert s.ssim(a, 15 - a)[0] < 0
    assert s.top_k_iou(a, 15 - a)[0] == 0
    for name in ("spearman", "ssim", "top_k_iou"):
        assert np.isnan(s.SIMILARITY[name](a, np.ones_like(a))[0])
    assert s.js_divergence(ONE_HOT, np.roll(ONE_HOT, 1, axis=2))[0] == pytest.approx(1.0)


def test_spearman_and_ssim_agree_with_their_definitions():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 5, (3, 8, 8)).astype(float), rng.integers(0, 5, (3, 8, 8)).astype(float)
    from scipy.stats import spearmanr

    expected = [spearmanr(a[i].ravel(), b[i].ravel()).statistic for i in range(3)]
    assert s.spearman(a, b) == pytest.approx(expected)
    x, y = a[0] / 4, b[0] / 4
    values = []
    for r in range(2):
        for c in range(2):
            p, q = x[r : r + 7, c : c + 7].ravel(), y[r : r + 7, c : c + 7].ravel()
            cov = np.cov(p, q)
            top = (2 * p.mean() * q.mean() + 1e-4) * (2 * cov[0, 1] + 9e-4)
            bottom = (p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (cov[0, 0] + cov[1, 1] + 9e-4)
            values.append(top / bottom)
    assert s.ssim(a, b)[0] == pytest.approx(np.mean(values))


def test_top_cells_never_include_the_lowest_value():
    sparse = np.zeros((1, 4, 4))
    sparse[0, 0, 0] = 1.0
    other = np.zeros((1, 4, 4))
    other[0, 3, 3] = 1.0
    assert s.top_k_iou(sparse, other, share=0.5)[0] == 0


def test_controls_know_nothing_of_the_image():
    maps = np.random.default_rng(0).random((6, 4, 4))
    made = control_maps(maps)
    assert set(made) == {"uniform", "centre", "mean"}
    for one in made.values():
        assert one.shape == maps.shape
        assert (one == one[0]).all()
    assert made["mean"][0] == pytest.approx(maps.mean(0))
    centre = made["centre"][0]
    assert centre == pytest.approx(centre[::-1, ::-1])
    assert centre[1, 1] > centre[0, 0]


def test_means_skip_what_is_not_defined():
    found = mean_interval(np.array([1.0, np.nan, 3.0, 2.0]))
    assert (found.value, found.n) == (2.0, 3)
    half = 4.302652729911275 / np.sqrt(3)  # t quantile with two degrees of freedom, deviation 1
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert found.text(1) == "2.0 [-0.5, 4.5]"
    assert mean_interval(np.array([np.nan])).text() == ""
    assert mean_interval(np.array([0.5])).text() == "0.500"
    paired = paired_mean(np.array([3.0, 5.0, np.nan]), np.array([1.0, 3.0, 1.0]))
    assert (paired.value, paired.low, paired.n) == (2.0, 2.0, 2)
