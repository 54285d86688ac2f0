"""Suites from the command line to the tables, on a masked network and an honest twin."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustbench_snn.compare import main as compare
from robustbench_snn.run import main as run
from robustbench_snn.suites.stored import suite_rows
from robustbench_snn.suites.tables import findings, halves, times_table, winners
from robustbench_snn.verify import main as verify

PLUGIN = str(Path(__file__).parent / "masked_models.py")
N = 48
AGAIN = "fooled by it among attacks on all samples"

SMALL = """
suite = "small"
eps = "4/255"
needs_spikes = true

[[full]]
name = "pgd"
steps = 20

[screen]
n = 48
steps = 10
keep = 2
estimators = ["training", "atan:2", "triangle:1", "ste"]

[[step]]
name = "pgd-worst"
steps = 10
estimator = ["training", "screen:1"]

[[step]]
name = "sapgd"
steps = 15
estimator = ["assg", "rga"]

[[step]]
name = "apgd"
loss = "dlr"
steps = 20
estimator = "screen:1"

[[step]]
name = "transfer"
source = "others"
steps = 20

[[step]]
name = "square"
queries = 100

[curve]
n = 32
eps = ["1/255", "4/255", "16/255"]

[[curve.full]]
name = "pgd"
steps = 20

[[curve.step]]
name = "apgd"
steps = 20
estimator = "screen:1"

[probes]
n = 32
queries = 400

[times]
n = 32
steps = 10
"""


def words(suite, out, *models, n=N):
    named = [word for model in models for word in ("--model", model)]
    where = ["--plugin", PLUGIN, "--n", str(n), "--shard-size", "32", "--out", str(out)]
    return ["--suite", str(suite), *named, *where, "--quiet"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """Both networks through the small suite."""
    out = tmp_path_factory.mktemp("results")
    assert run(words(small, out, "control.test", "masked.test")) == 0
    rows = {row["model"]: row for row in suite_rows(out, "small")}
    return out, rows["control.test"], rows["masked.test"]


def share(row, column):
    return float(np.mean(row[column]))


def status_of(row):
    return {record["id"]: record["status"] for record in findings(row)}


def test_plain_pgd_overrates_the_masked_network_and_the_suite_does_not(finished):
    _, control, masked = finished
    assert share(control, "clean") == share(masked, "clean") > 0.5, "the same network"
    assert share(masked, "plain") > share(control, "plain") + 0.2
    assert abs(share(masked, "robust") - share(control, "robust")) < 0.05
    assert share(masked, "robust") < share(masked, "plain") - 0.2


def test_the_masked_network_is_flagged_with_the_right_ids(finished):
    _, _, masked = finished
    status = status_of(masked)
    assert status["D8"] == "fail", "random search finds what gradients miss"
    assert status["D9"] == "fail", "its twin's gradients fit it better than its own"
    assert status["D12"] == "warn", "another surrogate does far better"
    assert status["D18"] == "warn", "an undefended network cannot be that robust"
    assert {"D8!", "D9!", "D12", "D18"} <= set(masked["flags"])
    assert all(status[id] == "pass" for id in ("D15", "D16", "D17"))


def test_the_control_is_not_flagged(finished):
    _, control, _ = finished
    raised = {id for id, status in status_of(control).items() if status in ("warn", "fail")}
    assert raised == set()
    assert sorted(status_of(control), key=lambda id: int(id[1:])) == [f"D{i}" for i in range(1, 22)]


def test_every_threshold_is_documented(finished):
    text = Path(__file__).parent.parent.joinpath("docs", "flags.md").read_text()
    for record in findings(finished[1]):
        section = text.partition(f"## {record['id']} {record['title']}\n")[2]
        said = section.partition("- Threshold:")[2].partition("\n- ")[0]
        numbers = re.findall(r"\d[\d.]*(?:e-\d+)?", record["threshold"])
        computed = record["id"] == "D3"
        spelt = said.replace("two standard", "2 standard")
        assert computed or all(number in spelt for number in numbers), record
        assert ("report" in record["threshold"]) == said.strip().startswith("none"), record


def test_the_headline_is_the_worst_case_of_each_sample(finished):
    for row in finished[1:]:
        clean, robust = np.array(row["clean"]), np.array(row["robust"])
        winner = np.array(row["winner"])
        assert not (robust & ~clean).any()
        assert np.array_equal(robust, clean & (winner == "")), "images fool in the clean pass too"
        assert np.array_equal(robust, np.array(row["claimed"]))
        assert not (robust & ~np.array(row["plain"])).any()
        taken = [int(record["fooled"]) for record in winners(row)]
        assert sum(taken) == int((clean & ~robust).sum())


def test_only_survivors_go_on(finished):
    for row in finished[1:]:
        records = [record for record in winners(row) if AGAIN not in record["note"]]
        left = int(np.sum(row["clean"]))
        for record in records:
            assert int(record["given"]) == left, record["step"]
            left -= int(record["fooled"])


def test_the_clean_pass_used_another_batch_size_and_rounded_images_are_reported(finished):
    for row in finished[1:]:
        assert row["verified_batch_size"] != row["batch_size"]
        assert share(row, "robust_8bit") >= share(row, "robust") - 0.05
        assert row["gradients_per_sample"] > 20
        assert row["seconds"] > 0


def test_curves_fall_and_have_a_half(finished):
    _, control, masked = finished
    for row in (control, masked):
        points = [p for p in json.loads(row["curves"]) if p["curve"] == "worst case"]
        counts = [p["correct"] for p in sorted(points, key=lambda p: p["eps"])]
        assert counts == sorted(counts, reverse=True)
        assert all(p["low"] <= p["correct"] / p["n"] <= p["high"] for p in points)
    fifty = halves(masked)
    assert fifty["worst case"][0] < fifty["pgd-20"][0]
    assert all(low <= value <= high for value, low, high in fifty.values())


def test_time_matrix(finished):
    for row in finished[1:]:
        columns, records = times_table(row)
        assert columns == ["attacked at", "T = 1", "T = 2", "T = 4"]
        assert [record["attacked at"] for record in records] == ["not", "T = 1", "T = 2", "T = 4"]
    made_at = {record["attacked at"]: record for record in times_table(finished[1])[1]}
    assert float(made_at["T = 2"]["T = 2"]) < float(made_at["not"]["T = 2"])


def test_gradient_health_shows_where_the_mask_sits(finished):
    tables = [json.loads(row["gradient_health"]) for row in finished[1:]]
    assert {(unit["name"], unit["step"]) for unit in tables[0]} == {
        (name, t) for name in ("lif1", "lif2", "lif3") for t in (0, 1)
    }
    alive, masked = (np.mean([unit["zero_share"] for unit in table]) for table in tables)
    assert masked > alive + 0.2
    assert all(0 <= unit["rate"] <= 1 for unit in tables[0])


def test_a_second_run_computes_nothing_and_finds_the_same(small, finished, monkeypatch):
    from robustbench_snn.suites import engine, worker

    out, control, _ = finished
    monkeypatch.setattr(worker, "build", lambda *_: pytest.fail("an attack was run again"))
    asked = words(small, out, "control.test", "masked.test")
    with monkeypatch.context() as patch:
        patch.setattr(engine, "diagnose", lambda _: pytest.fail("a diagnosis was made again"))
        assert run(asked) == 0
    assert len(suite_rows(out, "small")) == 2
    row = Path(next(Path(out, "small").rglob("*control.test*/**/*.parquet")))
    row.unlink()
    assert run(asked) == 0
    again = {row["model"]: row for row in suite_rows(out, "small")}["control.test"]
    for column in ("key", "robust", "robust_8bit", "winner", "broken_eps", "steps", "curves"):
        assert again[column] == control[column], column


def test_a_reviewer_gets_the_same_and_sees_tampering(finished, capsys):
    out, control, _ = finished
    assert verify([str(out), "--plugin", PLUGIN]) == 0
    text = capsys.readouterr().out
    assert text.count("agrees") == 2
    file = Path(out, json.loads(control["image_files"][0])["path"])
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + b"\0\0\0\0")
    assert verify([str(out), "--plugin", PLUGIN]) == 2
    assert "sha256 differs" in capsys.readouterr().err
    file.write_bytes(whole)


def test_tables_are_written_without_absolute_paths(finished):
    out = finished[0]
    texts = [path.read_text() for path in Path(out).glob("suite_small_digit-scenes*")]
    assert len(texts) == 5
    assert json.loads(Path(out, "suite_small_digit-scenes.json").read_text())["results"]
    assert not any(str(out) in text for text in texts)
    whole = "".join(texts)
    assert "worst case" in whole
    assert "on the first 32 samples, attacked with one number of time steps" in whole
    assert "Nobody was left for 1 others" not in whole


@pytest.mark.slow
def test_figure_and_tables_are_rendered_without_torch_and_again_from_their_own_rows(
    small, finished, tmp_path
):
    kept = tmp_path / "one" / "small-digit-scenes"
    for results, folder in ((finished[0], tmp_path / "one"), (kept, tmp_path / "two")):
        code = f"""
import sys
sys.path.insert(0, "experiments")
from epsilon_curve import main
words = ["--render", {str(results)!r}, "--figures", {str(folder)!r}]
assert main([*words, "--suite", {str(small)!r}]) == 0
assert "torch" not in sys.modules
"""
        root = Path(__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=root
        )
        assert done.returncode == 0, done.stderr
    names = {path.suffix for path in (tmp_path / "one").glob("epsilon_curve_digit-scenes*")}
    assert names == {".pdf", ".png", ".csv", ".json"}
    for name in (
        "small-digit-scenes.md",
        "small-digit-scenes_paired.md",
        "epsilon_curve_digit-scenes.csv",
    ):
        first, second = ((tmp_path / at / name).read_bytes() for at in ("one", "two"))
        assert first == second


def test_suites_are_compared_at_every_eps_of_their_curves(finished, capsys):
    out, control, _ = finished
    assert compare(["control.test", "masked.test", "--results", str(out)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for eps, n in (("1", 32), ("4", N), ("16", 32)):
        assert f"| suite small, eps {eps}/255, worst case | {n} |" in text
    assert f"| suite small, eps 4/255, plain | {N} | {100 * share(control, 'plain'):.1f} |" in text
