"""``python -m robustbench_snn.explain``: tables, pictures, resume, mistakes."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from explain_nets import GOLDEN
from PIL import Image

from robustbench_snn.errors import UsageError
from robustbench_snn.explain.command import main
from robustbench_snn.explain.settings import parse_change, parse_groups
from robustbench_snn.explain.stored import load, select

ROOT = Path(__file__).parent.parent
MODEL = "lively-sdt.test"
FEEDBACK = "lively-spiliformer.test"
PLUGIN = f"""
import sys
from dataclasses import replace
sys.path.insert(0, {str(GOLDEN.parent)!r})
from explain_nets import lively
from robustbench_snn.models import adapters


def named(kind, source, name):
    live = lively(source)

    class Lively(kind):
        card = replace(live.card, name=name, checkpoint=None)

        def __init__(self, card=None):
            super().__init__(card)
            self.load_state_dict(live.state_dict())

    return Lively


Sdt = named(adapters.SpikeDrivenTransformerAdapter, "sdt-tiny.digit-scenes", {MODEL!r})
Spi = named(adapters.SpiLiFormerAdapter, "spiliformer-tiny.digit-scenes", {FEEDBACK!r})
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "lively_models.py"
    path.write_text(PLUGIN)
    return str(path)


@pytest.fixture(scope="module")
def measured(plugin, tmp_path_factory):
    """A finished evaluation of two models: (results folder, words of its command)."""
    folder = tmp_path_factory.mktemp("explain") / "maps"
    words = ["--dataset", "digit-scenes", "--n", "10", "--shard-size", "6", "--model", MODEL]
    words += ["--model", FEEDBACK, "--plugin", plugin, "--map", "rate,class,received"]
    words += ["--metrics", "all", "--costly-n", "4", "--steps", "2", "--under", "contrast:2"]
    words += ["--under", "fgsm:eps=4/255", "--results", str(folder), "--quiet"]
    assert (
        main(
            [
                *words,
                "--table",
                str(folder.parent / "table" / "table"),
                "--out",
                str(folder / "sheet.png"),
            ]
        )
        == 0
    )
    return folder, words


# References that do not exist: chance of a number without a random counterpart, similarity of a
# constant map.
LACKING = {
    "concentration": {"chance"},
    "fidelity": {"chance"},
    "stability": {"uniform"},
}


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_table_has_every_group_with_chance_and_controls(measured):
    folder, _ = measured
    found = rows(folder.parent / "table" / "table.csv")
    groups = {row["group"] for row in found}
    assert groups == set(parse_groups("all"))
    origin = json.loads((folder.parent / "table" / "table.json").read_text())
    assert {one["model"] for one in origin} == {row["model"] for row in found}
    assert all(one["result_keys"] for one in origin)
    for row in found:
        if row["n"] != "0" and row["metric"] != "kept":
            lacking = {name for name in ("chance", "uniform", "centre", "mean") if not row[name]}
            assert lacking <= LACKING.get(row["group"], set()), row
        assert row["flags"].startswith("untrained")
    by = {(r["model"], r["map"], r["metric"], r["change"]): r for r in found}
    assert float(by[MODEL, "rate", "lift", ""]["uniform"]) == pytest.approx(1.0)
    assert by[MODEL, "rate", "lift", ""]["n"] == "10"
    assert by[MODEL, "rate", "insertion", ""]["n"] == "4"
    assert by[MODEL, "class", "grid_pointing", ""]["chance"] == "0.25"
    assert (MODEL, "rate", "grid_pointing", "") not in by
    assert (MODEL, "received", "lift", "") not in by
    assert (MODEL, "rate", "spearman, prediction kept", "contrast:2") in by
    text = (folder.parent / "table" / "table.md").read_text()
    assert "only linear attention compares tokens" in text
    assert "pass 2 of 2" in text
    samples = pd.read_parquet(folder.parent / "table" / "table_samples.parquet")
    mine = samples.query("model == @MODEL and map == 'rate' and measure == 'maps'")
    assert mine["lift"].mean() == pytest.approx(
        float(by[MODEL, "rate", "lift", ""]["value"]), rel=1e-5
    )
    paired = rows(folder.parent / "table" / "table_paired.csv")
    assert {(r["map"], r["model"], r["minus"]) for r in paired} == {
        ("rate", FEEDBACK, MODEL),
        ("class", FEEDBACK, MODEL),
    }
    assert {r["metric"] for r in paired} >= {"background_mass", "morf_lerf_gap", "grid_pointing"}


def test_stored_maps_are_those_of_the_model(measured, plugin):
    import torch

    from robustbench_snn import load_dataset, load_model
    from robustbench_snn.explain import attention_maps

    folder, _ = measured
    one = select(load(folder), FEEDBACK, "received")
    batch = load_dataset("digit-scenes").batch(range(10))
    found = attention_maps(load_model(FEEDBACK), torch.from_numpy(batch.x), ("received",))
    assert one.ids == batch.ids
    assert np.allclose(one.maps, found.values["received"].numpy(), atol=1e-5)
    assert one.predicted.tolist() == found.logits.argmax(1).tolist()
    assert np.allclose(one.confidence, found.logits.softmax(1).max(1).values, atol=1e-5)
    assert (one.masks == load_dataset("digit-scenes").masks(range(10))).all()
    with pytest.raises(UsageError, match="hold no map 'gate'"):
        select(load(folder), FEEDBACK, "gate")


def test_pictures_of_stored_maps(measured):
    folder, _ = measured
    for kind in ("rate", "class", "received"):
        origin = json.loads((folder / f"sheet-{kind}.json").read_text())
        assert "drawn at random (seed 0)" in origin["caption"]
        assert "Untrained weights, not a result" in origin["caption"]
        assert len(origin["samples"]) == 8
        assert (folder / f"sheet-{kind}.png").stat().st_size > 10_000
    assert origin["undefined"] == {MODEL: "only linear attention compares tokens with each other"}
    drawn = rows(folder / "sheet-received.csv")
    assert [row["column"] for row in drawn[:2]] == ["lively-sdt", "lively-spiliformer"]
    assert [row["flag"] for row in drawn] == ["not defined", ""] * 8


def test_the_same_command_computes_nothing_again(measured, capsys):
    folder, words = measured
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    assert len(files) > 20
    before = (folder.parent / "table" / "table.csv").read_text()
    gone = sorted(files)[3]
    gone.unlink()
    assert main([*words, "--table", str(folder.parent / "table" / "table")]) == 0
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    assert set(after) == set(files)
    assert {path for path in files if after[path] != files[path]} == {gone}
    assert (folder.parent / "table" / "table.csv").read_text() == before


def test_other_settings_are_other_results(measured, plugin, tmp_path, capsys):
    folder = shutil.copytree(measured[0], tmp_path / "copy")
    count = len(list(folder.rglob("*.parquet")))
    words = ["--dataset", "digit-scenes", "--n", "6", "--shard-size", "6", "--model", FEEDBACK]
    words += ["--plugin", plugin, "--metrics", "--results", str(folder), "--quiet"]
    assert main(words) == 0
    assert len(list(folder.rglob("*.parquet"))) == count
    assert main([*words, "--pass", "1"]) == 0
    assert len(list(folder.rglob("*.parquet"))) == count + 1
    assert "pass 1 of 2" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"2 versions of map 'rate'.*differ in pass_number"):
        select(load(folder), FEEDBACK, "rate")


def test_photographs_become_an_overlay(plugin, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (90, 60)), ("b.png", (33, 70))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    words = ["--image", str(tmp_path / "a.jpg"), "--image", str(tmp_path / "b.png")]
    words += ["--plugin", plugin, "--model", FEEDBACK, "--model", MODEL, "--map", "contribution"]
    assert main([*words, "--out", str(tmp_path / "over.png"), "--style", "paper"]) == 0
    origin = json.loads((tmp_path / "over.json").read_text())
    assert origin["images"] == ["a.jpg", "b.png"]
    assert "shorter side resized to 32 px" in origin["caption"]
    found = rows(tmp_path / "over.csv")
    assert [row["flag"] for row in found] == ["", "not defined"] * 2
    assert all(row["correct"] == "" for row in found)
    assert str(tmp_path) not in (tmp_path / "over.json").read_text()


def test_mistakes_are_one_sentence_and_exit_code_two(plugin, tmp_path, capsys):
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (8, 8)).save(clear)
    fine = tmp_path / "fine.png"
    Image.new("RGB", (8, 8)).save(fine)
    own = ["--plugin", plugin, "--model", MODEL]
    data = ["--dataset", "digit-scenes", "--results", str(tmp_path / "r")]
    cases = {
        (): "nothing to explain was named",
        ("--image", str(clear)): "is transparent in 64 of 64 pixels",
        ("--image", str(tmp_path)): "is a folder",
        (*data, "--show", "50", "--n", "8"): "--show 50 asks for more pictures than the 8 samples",
        ("--image", str(fine), "--metrics"): "leave out --dataset and --metrics",
        ("--image", str(fine), "--map", "heat"): "unknown map 'heat'",
        ("--image", str(fine), "--map", "deep_lift"): "is not offered",
        ("--image", str(fine), *own, "--map", "gate"): "gates channels, not tokens",
        ("--image", str(fine), *own, "--block", "stage7"): "no single block 'stage7'",
        ("--image", str(fine), *own, "--pass", "2"): "runs once",
        ("--image", str(fine), "--out", str(tmp_path / "x.bmp")): "must end in .png or .pdf",
        ("--image", str(fine), "--scale", "log"): "--scale 'log' is unknown",
        ("--image", str(fine), "--model", "sdt-2-256.cifar10-dvs"): "takes event frames",
        (
            *data,
            "--metrics",
            "locatoin",
        ): "unknown metric group 'locatoin': did you mean 'location'",
        (*data, "--metrics", "stability", "--under", "foggy"): "is no corruption",
        (*data, "--metrics", "--n", "banana"): "banana",
        (*data, *own, "--metrics", "--n", "5000"): "asks for more samples",
        (*data, "--boxes", str(tmp_path), *own, "--n", "2", "--metrics"): "masks of its own",
        ("--dataset", "digits"): "unknown data set 'digits'",
        ("--imag", "x"): "unrecognized arguments",
    }
    for words, message in cases.items():
        assert main(list(words)) == 2, words
        error = capsys.readouterr().err
        assert message in error, (words, error)
        assert error.count("\n") == 1
        assert error.startswith("error: ")


def test_changes_for_stability():
    assert parse_change("elastic_transform:4").geometric
    assert not parse_change("fog:1").geometric
    assert parse_change("pgd:steps=3,eps=4/255").attack.params["steps"] == 3
    for text, message in {
        "fog": "lacks a severity",
        "fog:9": "severities are 1",
        "pgd:stepz=3": "stepz",
        "fgsm:eps=banana": "banana",
    }.items():
        with pytest.raises(UsageError, match=message):
            parse_change(text)


@pytest.mark.parametrize("words", [["--help"], ["--list"]], ids=" ".join)
def test_help_is_light(words):
    code = f"""
import runpy, sys
sys.argv = ["explain", *{words!r}]
try:
    runpy.run_module("robustbench_snn.explain", run_name="__main__")
except SystemExit as exit:
    assert not exit.code, exit.code
print("LOADED", *sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "saliency" in done.stdout
    heavy = {"torch", "pandas", "seaborn", "cv2", "datasets", "pyarrow", "matplotlib", "captum"}
    assert not set(done.stdout.rpartition("LOADED")[2].split()) & heavy


def figure(name, folder, out):
    """Draw an experiment's figure from stored maps, in a process that must not need torch."""
    code = f"""
import runpy, sys
sys.path.insert(0, "experiments")
sys.argv = [{name!r}, "--render", {str(folder)!r}, "--figures", {str(out)!r}]
try:
    runpy.run_path(f"experiments/{name}.py", run_name="__main__")
except SystemExit as exit:
    assert not exit.code, exit.code
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return rows(out / f"{name}.csv"), json.loads((out / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "tiles", "rule"),
    [
        pytest.param("figure1a", 16, "drawn from the outcomes", marks=pytest.mark.slow),
        ("figure4", 18, "best, median and worst"),
        pytest.param("figure5", 16, "drawn at random", marks=pytest.mark.slow),
    ],
)
def test_figures_draw_what_is_stored_without_torch(measured, tmp_path, name, tiles, rule):
    found, origin = figure(name, measured[0], tmp_path)
    assert rule in origin["rule"]
    assert len(found) <= tiles
    assert len(found) == 2 * len(origin["samples"])
    assert {row["column"] for row in found} == {"lively-sdt", "lively-spiliformer"}
    assert all(len(one["result_keys"]) == 2 for one in origin["maps"])


def test_sheet_of_corrupted_images(measured):
    import torch

    from robustbench_snn import load_dataset, load_model
    from robustbench_snn.corruptions import corrupt_batch
    from robustbench_snn.explain.choose import choose
    from robustbench_snn.explain.sheet import Look
    from robustbench_snn.explain.sheets import changed_sheet

    stored = [one for one in load(measured[0]) if one.kind == "rate"]
    found = [one for one in stored if one.change == "contrast:2"]
    sheet = changed_sheet([found], choose(found, 2, "first"), Look())
    batch = load_dataset("digit-scenes").batch(range(2))
    x = corrupt_batch(batch.x, batch.ids, "contrast", 2, "cifar")
    assert np.array_equal(np.stack([row.image for row in sheet.rows]), x)
    with torch.no_grad():
        predicted = load_model(found[0].model)(torch.from_numpy(x)).argmax(1)
    assert [row.tiles[0].predicted for row in sheet.rows] == [str(int(p)) for p in predicted]
    assert all(row.note == "contrast:2" for row in sheet.rows)
    attacked = [one for one in stored if one.change.startswith("fgsm")]
    with pytest.raises(UsageError, match="only the attacked model can make them"):
        changed_sheet([attacked], choose(attacked, 1, "first"), Look())
