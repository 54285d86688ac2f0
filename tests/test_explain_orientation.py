"""What is up and left in the image is up and left in the map, in the overlay and in the figure."""

import numpy as np
import pytest
import torch
from explain_nets import LinearAdapter, LinearNet

from robustbench_snn.explain.faithfulness import faithfulness
from robustbench_snn.explain.rendering import overlay, scaled, upsample
from robustbench_snn.explain.sheet import Look, Row, Sheet, Tile

# Ends of matplotlib's inferno, from its published table.
COLD, HOT = (0.001462, 0.000466, 0.013866), (0.988362, 0.998364, 0.644924)
TOP_RIGHT = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


def picture():
    """Black, 4 rows and 6 columns, with a pure red pixel at the bottom left."""
    image = np.zeros((3, 4, 6))
    image[0, 3, 0] = 1.0
    return image


@pytest.mark.parametrize("how", ["nearest", "bilinear"])
def test_the_hot_corner_stays_where_it_is(how):
    found = overlay(picture(), scaled(TOP_RIGHT, "per_map", "rate"), "rate", "perceptual", how)
    assert found.shape == (4, 6, 3)
    assert found[0, 5] == pytest.approx(np.array(HOT) / 2, abs=1e-6)
    assert found[0, 0] == pytest.approx(np.array(COLD) / 2, abs=1e-6)
    assert found[3, 5] == pytest.approx(np.array(COLD) / 2, abs=1e-6)
    assert found[3, 0] == pytest.approx(np.array([1, 0, 0]) / 2 + np.array(COLD) / 2, abs=1e-6)


def test_cells_become_blocks_of_pixels():
    expected = np.zeros((4, 6))
    expected[:2, 4:] = 1.0
    assert upsample(TOP_RIGHT, 4, 6, "nearest").tolist() == expected.tolist()


def test_the_figure_shows_image_and_map_the_same_way_up():
    tile = Tile(column="model", values=TOP_RIGHT)
    row = Row("sample", picture().astype(np.float32), "", [tile], None, "")
    figure = Sheet([row], Look(kind="rate", upsampling="nearest", numbers=False)).draw()
    plain, mixed = (axis.images[0] for axis in figure.axes[:2])
    assert {plain.origin, mixed.origin} == {"upper"}
    left_bottom = np.asarray(plain.get_array())[-1, 0]
    assert left_bottom.tolist() == [1, 0, 0]
    shown = np.asarray(mixed.get_array())
    red_over_blue = shown[..., 0].astype(float)
    corners = [red_over_blue[0, 0], red_over_blue[0, -1], red_over_blue[-1, -1]]
    assert np.argmax(corners) == 1


class Corner(LinearAdapter):
    """Class 0 is the brightness of the pixel in row 0, column 3."""

    def build(self):
        weights = np.zeros((4, 4), dtype=np.float32)
        weights[0, 3] = 5.0
        return LinearNet(weights)


def test_deletion_takes_the_most_relevant_cells_first():
    model, x = Corner(), np.zeros((1, 3, 4, 4), dtype=np.float32)
    x[:, :, 0, 3] = 1.0
    target, ids = torch.zeros(1, dtype=torch.int64), ["a"]
    right, wrong = np.zeros((1, 4, 4)), np.ones((1, 4, 4))
    right[0, 0, 3], wrong[0, 0, 3] = 1.0, 0.0
    # Before its pixel is gone the class has p = sigmoid(5), after it sigmoid(5 / 16).
    high, low = 1 / (1 + np.exp(-5.0)), 1 / (1 + np.exp(-5.0 / 16))
    first = faithfulness(model, x, target, right, ids, steps=16)
    last = faithfulness(model, x, target, wrong, ids, steps=16)
    assert first["deletion"][0] == pytest.approx(((high + low) / 2 + 15 * low) / 16, abs=1e-6)
    assert last["deletion"][0] == pytest.approx(((high + low) / 2 + 15 * high) / 16, abs=1e-6)
    # 15 of the 17 points differ: all but none and all cells.
    assert first["morf_lerf_gap"][0] == pytest.approx(15 * (high - low) / 17, abs=1e-6)
    assert last["morf_lerf_gap"][0] == pytest.approx(-15 * (high - low) / 17, abs=1e-6)
    assert first["insertion"][0] > last["insertion"][0]
