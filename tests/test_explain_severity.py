"""Curves of map metrics against severity, from measurements made up here."""

import csv
import json

import numpy as np
import pytest

from robustbench_snn.explain.severity import MapCurves
from robustbench_snn.explain.stored import Measured


def measured(model, metrics, change="", flags=()):
    n = len(next(iter(metrics.values())))
    settings = json.dumps({"change": change}) if change else ""
    return Measured(
        facts={"model": model, "dataset": "digit-scenes", "settings": settings, "map": "rate"},
        ids=[f"test/{i}" for i in range(n)],
        labels=np.zeros(n, dtype=np.int64),
        predicted=np.zeros(n, dtype=np.int64),
        confidence=np.ones(n),
        maps=None,
        masks=None,
        metrics={name: np.asarray(values, dtype=float) for name, values in metrics.items()},
        flags=tuple(flags),
        keys=(f"key-{model}-{change}",),
    )


@pytest.fixture
def curves():
    clean = [measured("a.x", {"background_mass": [0.6, 0.8]})]
    clean.append(measured("b.x", {"background_mass": [0.4, 0.4]}, flags=["untrained"]))
    changed = [
        measured("a.x", {"changed:background_mass": [0.8, 1.0], "spearman": [0.5, 0.7]}, "fog:1"),
        measured("a.x", {"changed:background_mass": [0.9, 0.9], "spearman": [0.1, 0.1]}, "fog:5"),
        measured(
            "b.x",
            {"changed:background_mass": [0.5, 0.5], "spearman": [1.0, 1.0]},
            "fog:1",
            ["untrained"],
        ),
    ]
    return MapCurves("rate", clean, changed)


def test_points_start_at_clean_images_and_carry_intervals(curves):
    mass = [p for p in curves.points() if p["metric"] == "background mass" and p["model"] == "a.x"]
    assert [(p["severity"], round(p["mean"], 6)) for p in mass] == [(0, 0.7), (1, 0.9), (5, 0.9)]
    first = mass[0]
    # t-interval of two values: half-width 12.706 * sd / sqrt(2), sd = 0.1 sqrt(2).
    assert first["high"] - first["mean"] == pytest.approx(12.7062 * 0.1, rel=1e-4)
    assert first["n"] == 2
    spearman = [p for p in curves.points() if p["metric"].startswith("rank")]
    assert {p["severity"] for p in spearman} == {1, 5}, "a clean map is not compared with itself"


def test_untrained_models_say_so(curves):
    names = {point["model"] for point in curves.points()}
    assert names == {"a.x", "b.x (untrained, no result)"}


def test_files_hold_the_points_and_their_origin(curves, tmp_path):
    paths = curves.write(tmp_path / "figures" / "curve")
    assert [path.suffix for path in paths] == [".png", ".pdf", ".csv", ".json"]
    assert all(path.stat().st_size > 0 for path in paths)
    with paths[2].open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(curves.points())
    origin = json.loads(paths[3].read_text())["maps"]
    assert sorted(key for one in origin for key in one["result_keys"]) == sorted(
        one.keys[0] for one in [*curves.clean, *curves.changed]
    )
