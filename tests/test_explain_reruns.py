"""Measurements that run the model again: faithfulness, randomisation, mosaics, stability."""

import numpy as np
import pytest
import torch
from explain_nets import LinearAdapter, lively, scenes

from robustbench_snn.explain.compute import Reading, compute_maps
from robustbench_snn.explain.faithfulness import (
    area,
    blurred,
    cell_order,
    cell_scores,
    curve,
    faithfulness,
)
from robustbench_snn.explain.mosaic import grid_pointing, mosaics, partners
from robustbench_snn.explain.randomisation import levels, randomisation


def test_deletion_curve_of_a_linear_model_in_closed_form():
    model = LinearAdapter()
    x = np.full((1, 3, 4, 4), 1.0, dtype=np.float32)
    end = np.zeros_like(x)
    weights = np.arange(16) / 8
    order = cell_order(weights.reshape(1, 4, 4), ["a"], seed=0)
    assert order[0].tolist() == list(range(15, -1, -1))
    ks = list(range(17))
    found = curve(model, x, end, order, (4, 4), torch.tensor([0]), ks)
    left = np.array([weights[: 16 - k].sum() for k in ks])
    assert found[0] == pytest.approx(1 / (1 + np.exp(-left)), abs=1e-6)
    steps = 1 / (1 + np.exp(-left))
    assert area(found, ks)[0] == pytest.approx(((steps[1:] + steps[:-1]) / 2).mean(), abs=1e-6)


def test_gap_is_largest_for_the_true_order_and_turns_sign_with_it():
    model = LinearAdapter()
    x = scenes(3, side=4)
    target = torch.zeros(3, dtype=torch.int64)
    drop = ((x - x.mean((2, 3), keepdims=True)).mean(1) * np.arange(16).reshape(4, 4)) / 8
    ids = ["a", "b", "c"]
    best = faithfulness(model, x, target, drop, ids, steps=16)["morf_lerf_gap"]
    worst = faithfulness(model, x, target, -drop, ids, steps=16)["morf_lerf_gap"]
    assert best == pytest.approx(-worst, abs=1e-6)
    assert (best > 0).all()
    rng = np.random.default_rng(0)
    for _ in range(5):
        other = faithfulness(model, x, target, rng.random((3, 4, 4)), ids, steps=16)
        assert (other["morf_lerf_gap"] <= best + 1e-6).all()


def test_uniform_map_is_a_random_order_keyed_by_sample():
    uniform = np.ones((3, 4, 4))
    order = cell_order(uniform, ["a", "b", "a"], seed=0)
    assert sorted(order[0].tolist()) == list(range(16))
    assert order[0].tolist() == order[2].tolist() != order[1].tolist()
    assert cell_order(uniform, ["a"] * 3, seed=1)[0].tolist() != order[0].tolist()


def test_cells_of_pixel_maps_are_token_sized():
    maps = np.arange(2 * 32 * 32, dtype=float).reshape(2, 32, 32)
    cells = cell_scores(maps, (8, 8))
    assert cells.shape == (2, 8, 8)
    assert cells[0, 0, 0] == pytest.approx(maps[0, :4, :4].mean())
    assert cell_scores(maps[:, :8, :8], (8, 8)) is not None
    flat = blurred(np.ones((1, 3, 8, 8), dtype=np.float32), (2, 2))
    assert flat == pytest.approx(np.ones_like(flat))


def test_shuffling_starts_at_the_output_and_leaves_the_model_alone():
    model = lively()
    names = list(levels(model.net))
    assert names[:3] == ["prompt2", "prompt1", "head"]
    assert names.index("stage3.1") < names.index("stage3.0") < names.index("stage1.0")
    assert names[-1] == "patch_embed1"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = scenes(3)

    def rate(net):
        return compute_maps(net, x, ["a", "b", "c"], Reading(("rate",))).maps["rate"]

    found = randomisation(model, rate, seed=0)
    # A rate map does not see the head; the prompts before it act through the feedback.
    assert found["randomised:head"] == pytest.approx(found["randomised:prompt1"])
    assert (found["randomised"] < 0.9).all()
    assert found["randomised"] == pytest.approx(found[f"randomised:{names[-1]}"])
    again = randomisation(model, rate, seed=0)
    assert again["randomised"] == pytest.approx(found["randomised"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_maps_that_vanish_share_no_rank_and_constant_ones_are_undefined():
    model = LinearAdapter()
    calls = iter([np.arange(8.0).reshape(2, 2, 2), np.ones((2, 2, 2))])
    assert randomisation(model, lambda _: next(calls))["randomised"].tolist() == [0.0, 0.0]
    calls = iter([np.ones((2, 2, 2)), np.arange(8.0).reshape(2, 2, 2)])
    assert np.isnan(randomisation(model, lambda _: next(calls))["randomised"]).all()


def test_mosaics_have_four_classes_and_turn():
    labels = [0, 0, 1, 2, 3, 0]
    images = np.stack([np.full((3, 4, 4), i, dtype=np.float32) for i in range(6)])
    assert partners(0, labels) == [2, 3, 4]
    assert partners(4, labels) == [5, 2, 3]
    made = mosaics([0, 1, 4], labels, lambda indices: images[list(indices)])
    assert made is not None
    x, cells = made
    assert x.shape == (3, 3, 8, 8)
    assert cells.tolist() == [0, 1, 0]
    corners = [[(0, 0), (0, 4), (4, 0), (4, 4)][c] for c in cells]
    own = [float(x[i, 0, r, c]) for i, (r, c) in enumerate(corners)]
    assert own == [0, 1, 4]
    assert {labels[int(v)] for v in np.unique(x[1])} == {0, 1, 2, 3}
    assert mosaics([0], [0, 1, 2], lambda indices: images[list(indices)]) is None


def test_grid_pointing_in_closed_form():
    maps = np.zeros((3, 4, 4))
    maps[0, :2, 2:] = 1  # all in quarter 1
    maps[1] = 1
    cells = np.array([1, 2, 0])
    found = grid_pointing(maps, cells)
    assert found[:2].tolist() == [1.0, 0.25]
    assert np.isnan(found[2])
    assert grid_pointing(-maps + 2 * maps, np.array([0, 2, 0]))[0] == 0
