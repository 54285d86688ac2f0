"""Which cell a pixel belongs to, and which cells are a map's highest."""

import numpy as np
import pytest

from robustbench_snn.explain.map_metrics import at_pixels, cell_indices
from robustbench_snn.explain.similarity import top_k_iou


@pytest.mark.parametrize(
    ("cells", "pixels", "expected"),
    [
        # Centres at 0.1, 0.3, 0.5, 0.7 and 0.9 of the side, in thirds of it.
        (3, 5, [0, 0, 1, 2, 2]),
        (2, 4, [0, 0, 1, 1]),
        (4, 4, [0, 1, 2, 3]),
        (3, 2, [0, 2]),
        (1, 3, [0, 0, 0]),
    ],
)
def test_a_pixel_is_of_the_cell_its_centre_lies_in(cells, pixels, expected):
    assert cell_indices(cells, pixels).tolist() == expected


def test_rows_stay_rows():
    seen = at_pixels(np.array([[[1.0, 2.0, 3.0]]]), 2, 3)
    assert seen.tolist() == [[[1, 2, 3], [1, 2, 3]]]


def test_the_share_is_of_all_cells():
    a = np.arange(10.0).reshape(1, 2, 5)
    b = a.copy()
    b[0, 0, 0] = 8.5  # second to cell 9, where it is cell 8 in a
    assert top_k_iou(a, b, 0.1)[0] == 1.0
    assert top_k_iou(a, b, 0.2)[0] == pytest.approx(1 / 3)
    assert top_k_iou(a, b, 0.3)[0] == pytest.approx(2 / 4)
