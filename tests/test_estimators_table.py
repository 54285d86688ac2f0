"""One attack through every estimator: counts by hand, and from a run to the files."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robustbench_snn.errors import UsageError
from robustbench_snn.report.estimators import ALL, COLUMNS, Estimators, load, report, write
from robustbench_snn.run import main as run

PLUGIN = str(Path(__file__).parent / "masked_models.py")
PRESET = """
[[attack]]
name = "sapgd"
eps = "4/255"
steps = 5
estimator = ["training", "ste", "atan:2"]

[[attack]]
name = "sapgd"
eps = "4/255"
steps = 5
restarts = 3
"""


def test_who_fools_what_by_hand():
    right = {
        "training": np.array([0, 0, 1, 1, 1, 1], dtype=bool),
        "ste": np.array([0, 1, 0, 0, 1, 1], dtype=bool),
        "rga": np.array([0, 1, 0, 1, 1, 1], dtype=bool),
    }
    table = Estimators(SimpleNamespace(facts={"dataset": "x"}), [*"abcdef"], right)
    records = {record["estimator"]: record for record in table.records()}
    assert {name: table.alone(name) for name in right} == {"training": 1, "ste": 1, "rga": 0}
    assert records[ALL]["accuracy %"].startswith("33.3 [")
    assert records[ALL]["minus training, points"].startswith("-33.3 [")
    assert records["ste"]["minus training, points"].startswith("-16.7 [")
    assert records["training"]["minus training, points"] == records["training"]["p"] == ""
    assert records[ALL]["p"] == "0.5000", "two against none of six: twice a quarter"
    assert all(tuple(record) == COLUMNS for record in records.values())


def test_from_a_run_to_the_files(tmp_path):
    preset = tmp_path / "many.toml"
    preset.write_text(PRESET)
    words = ["--model", "control.test", "--plugin", PLUGIN, "--n", "24", "--quiet"]
    assert run(["--preset", str(preset), *words, "--out", str(tmp_path / "out")]) == 0
    (table,) = load(tmp_path / "out", preset, "digit-scenes")
    assert set(table.right) == {"training", "ste", "atan:alpha=2"}
    assert [len(right) for right in table.right.values()] == [24, 24, 24]
    assert list(table.repeated) == ["training, 3 starts"]
    assert not (table.repeated["training, 3 starts"] & ~table.right["training"]).any()
    sums = [int(right.sum()) for right in table.right.values()]
    assert sums == sorted(sums)
    text = report([table], preset, "make it")
    assert all(part in text for part in ("eps=4/255", "`make it`"))
    assert "estimator=" not in text
    paths = write([table], preset, tmp_path / "tables", "estimators", "make it")
    lines = paths[2].read_text().splitlines()
    assert lines[0] == 'model,sample,atan:alpha=2,ste,training,"training, 3 starts"'
    assert len(lines) == 25
    (origin,) = json.loads(paths[3].read_text())
    assert origin["model"] == table.outcome.model
    assert origin["result_keys"] == list(table.outcome.keys)
    assert sum(int(line.split(",")[3]) for line in lines[1:]) == int(table.right["ste"].sum())


def test_a_preset_of_different_attacks_is_refused(tmp_path):
    preset = tmp_path / "mixed.toml"
    preset.write_text(PRESET + '[[attack]]\nname = "sapgd"\nsteps = 7\n')
    with pytest.raises(UsageError, match="one attack with several estimators"):
        load(tmp_path, preset, "digit-scenes")
