"""Scaling, colours, overlays, sheets of tiles, and the choice of images."""

import json

import numpy as np
import pytest

from robustbench_snn import UsageError
from robustbench_snn.explain.choose import choose
from robustbench_snn.explain.rendering import limits, overlay, scaled, upsample
from robustbench_snn.explain.sheet import Look, Row, Sheet, Tile
from robustbench_snn.explain.stored import Measured

RAMP = np.linspace(0, 2, 16).reshape(4, 4)
IMAGE = np.random.default_rng(0).random((3, 32, 32))


def test_scales():
    assert scaled(RAMP, "per_map", "rate").values == pytest.approx(RAMP / 2)
    raw = scaled(RAMP / 4, "raw", "rate", limits([RAMP / 4], "raw", "rate"))
    assert raw.values == pytest.approx(RAMP / 4)
    ends = limits([RAMP, RAMP + 2], "shared", "rate")
    assert ends == (0, 4)
    assert scaled(RAMP, "shared", "rate", ends).values.max() == pytest.approx(0.5)
    cut = scaled(RAMP, "percentile", "rate")
    assert (cut.low, cut.high) == pytest.approx(tuple(np.percentile(RAMP, (2, 98))))
    assert (cut.values.min(), cut.values.max()) == (0, 1)


def test_signed_maps_keep_zero_in_the_middle():
    found = scaled(np.array([[-1.0, 0.0], [0.5, 3.0]]), "per_map", "class")
    assert found.values[0, 1] == 0.5
    assert (found.low, found.high) == (-3, 3)
    assert limits([np.array([-4.0, 1.0])], "shared", "signed") == (-4, 4)


@pytest.mark.parametrize("scale", ["per_map", "percentile", "shared", "raw"])
def test_silent_and_constant_maps_are_empty_never_nan(scale):
    for value, flag in ((0.0, "silent"), (0.7, "constant")):
        maps = np.full((4, 4), value)
        found = scaled(maps, scale, "rate", limits([maps], scale, "rate"))
        expected = "" if flag == "constant" and scale == "raw" else flag
        assert found.flag == expected
        assert np.isfinite(found.values).all()


def test_overlay_of_a_silent_map_is_the_image_and_else_a_half_mix():
    silent = scaled(np.zeros((4, 4)), "per_map", "rate")
    plain = IMAGE.transpose(1, 2, 0)
    assert np.array_equal(overlay(IMAGE, silent, "rate", "perceptual", "bilinear"), plain)
    hot = np.zeros((4, 4))
    hot[0, 0] = 1
    mixed = overlay(IMAGE, scaled(hot, "per_map", "rate"), "rate", "perceptual", "nearest")
    top, bottom = mixed[0, 0] * 2 - plain[0, 0], mixed[-1, -1] * 2 - plain[-1, -1]
    assert top == pytest.approx([0.988, 0.998, 0.645], abs=0.01)  # inferno's end, in RGB order
    assert bottom == pytest.approx([0.001, 0, 0.014], abs=0.01)
    paper = overlay(IMAGE, scaled(hot, "per_map", "rate"), "rate", "paper", "nearest")
    assert paper[0, 0] * 2 - plain[0, 0] == pytest.approx([0.5, 0, 0], abs=0.01)  # jet: red on top
    assert (0 <= mixed).all() and (mixed <= 1).all()  # noqa: PT018


def test_upsampling():
    cells = np.array([[0.0, 1.0], [2.0, 3.0]])
    nearest = upsample(cells, 4, 4, "nearest")
    assert nearest[:2, :2].tolist() == [[0, 0], [0, 0]]
    assert set(np.unique(nearest)) == {0, 1, 2, 3}
    # Half-pixel centres: the first output pixel lies outside the first cell's centre.
    assert upsample(cells, 1, 4, "bilinear")[0] == pytest.approx([1.0, 1.25, 1.75, 2.0])


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (Look(scale="log"), "--scale 'log' is unknown: use one of per_map"),
        (Look(style="jet"), "--style 'jet' is unknown: use perceptual or paper"),
        (Look(upsampling="cubic"), "--upsampling 'cubic' is unknown"),
        (Look(kind="received", scale="raw"), "'received' has none: use shared"),
    ],
)
def test_unknown_looks_are_one_sentence(look, message):
    with pytest.raises(UsageError, match=message):
        look.check()


def sheet(scale="per_map"):
    mask = np.zeros((32, 32), dtype=bool)
    mask[8:16, 8:16] = True
    rows = [
        Row(
            f"test/{i}",
            IMAGE,
            "seven",
            [
                Tile("right", RAMP * (i + 1), "seven", 0.9, True, 1.25),
                Tile("wrong", RAMP, "one", 0.5, False),
                Tile("silent", np.zeros((4, 4)), "one", 0.5, False),
                Tile("absent", None, note="not defined: gates channels"),
            ],
            mask,
        )
        for i in range(2)
    ]
    return Sheet(rows, Look(scale=scale), "What is drawn.", {"rule": "all"})


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_sheet_has_a_tile_for_each_map_and_says_what_it_shows():
    figure = sheet().draw()
    assert len(figure.axes) == 2 * 5 + 1  # and the colour bar
    assert [axis.get_title() for axis in figure.axes[:5]] == [
        "image",
        "right",
        "wrong",
        "silent",
        "absent",
    ]
    found = texts(figure)
    assert "pred: seven (0.90) ✓" in found
    assert "pred: one (0.50) ✗" in found
    assert "raw 0 to 2 · lift 1.25" in found
    assert "raw 0 to 0 · silent" in found
    assert any(text.replace("\n", " ") == "not defined: gates channels" for text in found)
    assert "What is drawn." in [text.get_text() for text in figure.texts]


def test_prediction_colours_differ_and_shared_scale_has_ticks():
    figure = sheet("shared").draw()
    colours = {
        t.get_text()[-1]: t.get_color()
        for axis in figure.axes
        for t in axis.texts
        if "pred" in t.get_text()
    }
    assert colours["✓"] != colours["✗"]
    bar = figure.axes[-1]
    assert bar.get_ylim() == pytest.approx((0, 4))


def test_written_files_name_their_origin(tmp_path):
    paths = sheet().write(tmp_path / "deep" / "sheet")
    assert [path.suffix for path in paths] == [".png", ".pdf", ".csv", ".json"]
    lines = (tmp_path / "deep" / "sheet.csv").read_text().splitlines()
    assert len(lines) == 1 + 8
    assert lines[1] == "test/0,seven,right,rate,seven,0.9,True,0.0,2.0,,1.25"
    assert "not defined" in lines[4]
    origin = json.loads((tmp_path / "deep" / "sheet.json").read_text())
    assert origin["rule"] == "all"
    assert origin["look"]["scale"] == "per_map"
    first = (tmp_path / "deep" / "sheet.png").read_bytes()
    sheet().write(tmp_path / "deep" / "sheet")
    assert (tmp_path / "deep" / "sheet.png").read_bytes() == first


def measured(model, predicted, lift, n=12):
    labels = np.zeros(n, dtype=np.int64)
    return Measured(
        {"model": model, "map": "rate", "measure": "maps", "settings": "{}"},
        [f"test/{i}" for i in range(n)],
        labels,
        np.asarray(predicted),
        np.ones(n),
        np.ones((n, 2, 2), dtype=np.float32),
        None,
        {} if lift is None else {"lift": np.asarray(lift, dtype=float)},
        (),
        (),
    )


def test_choice_follows_its_rule():
    right, wrong = np.zeros(12, dtype=int), np.ones(12, dtype=int)
    a = measured("a", np.where(np.arange(12) < 6, right, wrong), np.arange(12))
    b = measured("b", np.where(np.arange(12) % 2 == 0, right, wrong), np.arange(12))
    random = choose([a, b], 4, "random", seed=1)
    assert random == choose([a, b], 4, "random", seed=1)
    assert random.ids != choose([a, b], 4, "random", seed=2).ids
    assert "drawn at random (seed 1)" in random.rule
    assert choose([a, b], 3, "first").ids == ["test/0", "test/1", "test/2"]
    lift = choose([a, b], 6, "lift")
    assert lift.ids[:2] == ["test/11", "test/10"]
    assert set(lift.ids[-2:]) == {"test/0", "test/1"}
    assert sorted(lift.notes.values()) == ["best", "best", "median", "median", "worst", "worst"]
    outcomes = choose([a, b], 8, "outcomes")
    assert sorted(outcomes.notes.values()) == sorted(
        ["a and b right", "only a right", "only b right", "neither a nor b right"] * 2
    )
    assert "a and b right: 3" in outcomes.rule


def test_choice_refuses_what_it_cannot_follow():
    one = measured("a", np.zeros(12), None)
    with pytest.raises(UsageError, match="--choose 'best' is unknown"):
        choose([one], 3, "best")
    with pytest.raises(UsageError, match="needs object masks"):
        choose([one], 3, "lift")


def test_signed_maps_cover_where_they_say_something():
    values = np.array([[-2.0, 0.0], [0.0, 2.0]])
    found = overlay(IMAGE, scaled(values, "per_map", "class"), "class", "perceptual", "nearest")
    plain = IMAGE.transpose(1, 2, 0)
    assert found[0, -1] == pytest.approx(plain[0, -1])
    blue, red = found[0, 0] - 0.15 * plain[0, 0], found[-1, -1] - 0.15 * plain[-1, -1]
    assert blue[2] > blue[0]
    assert red[0] > red[2]
