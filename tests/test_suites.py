"""Suites from the command line to the tables, on a masked network and an honest twin."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustbench_snn.run import main as run
from robustbench_snn.suites.command import read_command
from robustbench_snn.suites.curves import eps50
from robustbench_snn.suites.spec import BUILT_IN, attack_at, read_suite, resolved
from robustbench_snn.suites.standing import Standing, short_label
from robustbench_snn.suites.stored import suite_rows
from robustbench_snn.suites.tables import findings, halves, times_table, winners
from robustbench_snn.verify import main as verify

PLUGIN = str(Path(__file__).parent / "masked_models.py")
N = 48

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
steps = 20
estimator = ["training", "screen:1"]

[[step]]
name = "sapgd"
steps = 30
estimator = ["assg", "pdsg", "rga", "hart:1"]

[[step]]
name = "apgd"
loss = "dlr"
steps = 30
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
n = 48
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
    assert sorted(status_of(control), key=lambda id: int(id[1:])) == [f"D{i}" for i in range(1, 21)]


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
        records = winners(row)
        left = int(np.sum(row["clean"]))
        for record in records:
            if record["given"] == "0":
                continue
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
    assert fifty["worst case"] < fifty["pgd-20"]


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
    assert len(texts) == 4
    assert not any(str(out) in text for text in texts)
    assert "worst case" in texts[0] + texts[1] + texts[2] + texts[3]


def test_the_figure_reads_the_store_without_torch(finished, tmp_path):
    code = f"""
import sys
sys.path.insert(0, "experiments")
from epsilon_curve import main
words = ["--render", {str(finished[0])!r}, "--figures", {str(tmp_path)!r}]
assert main([*words, "--suite", "small.toml"]) == 0
assert "torch" not in sys.modules
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    names = {path.suffix for path in tmp_path.glob("epsilon_curve_digit-scenes*")}
    assert names == {".pdf", ".png", ".csv", ".json"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_printed_suites_read_back_to_themselves(name, capsys, tmp_path):
    assert run(["--suite", name, "--print-config"]) == 0
    printed = capsys.readouterr().out
    path = tmp_path / f"{name}.toml"
    path.write_text(printed)
    assert run(["--suite", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == printed


def test_paper_is_table_4_to_the_letter():
    full = [attack_at(table, 8 / 255) for table in read_suite("paper").full]
    assert [spec.params["eps"] for spec in full if spec.name == "fgsm"] == [0.05, 0.1, 0.2, 0.3]
    pgd = [spec.params for spec in full if spec.name == "pgd"]
    assert [params["steps"] for params in pgd] == [5, 10, 30, 50]
    assert all(
        (params["eps"], params["step_size"], params["random_start"]) == (8 / 255, 2 / 255, True)
        for params in pgd
    )


def test_reliable_holds_what_its_description_says():
    suite = read_suite("reliable")
    assert suite.screen.n == 512
    steps = [
        attack_at(t, suite.eps)
        for t in resolved(suite.step, ["atan:2"] * 4, ["sdt-tiny.digit-scenes"])
    ]
    labels = " ".join(short_label(spec) for spec in steps)
    for part in (
        "assg:target=0.38",
        "pdsg",
        "bptr",
        "rga",
        "hart",
        "apgd dlr",
        "dlr-targeted",
        "square",
        "transfer from sdt-tiny",
        "noise",
    ):
        assert part in labels
    targeted = next(spec for spec in steps if spec.params.get("loss") == "dlr-targeted")
    assert (targeted.params["targets"], targeted.params["steps"]) == (9, 100)
    assert steps[-1].params["queries"] == 5000


def test_eps_moves_what_was_at_the_suites_own():
    suite, _, _, _ = read_command(["--suite", "paper", "--eps", "4/255"])
    assert suite.eps == 4 / 255
    full = [attack_at(table, suite.eps) for table in suite.full]
    assert [spec.params["eps"] for spec in full if spec.name == "fgsm"] == [0.05, 0.1, 0.2, 0.3]
    assert all(spec.params["eps"] == 4 / 255 for spec in full if spec.name == "pgd")
    assert all(spec.params["step_size"] == 1 / 255 for spec in full if spec.name == "pgd")


def test_a_sample_broken_at_a_small_eps_is_broken_at_every_larger_one():
    standing = Standing(["a", "b", "c"], np.zeros(3, dtype=np.int64), np.array([True, True, False]))
    spec = attack_at(("apgd", {}), 2 / 255)
    row = {"sample_ids": ["a", "b"], "pred_adv": [1, 0], "labels": [0, 0]}
    assert standing.take(spec, row | {"images": "x", "images_sha256": "y", "norm": "linf"}) == 1
    assert standing.survivors(1 / 255, range(3)) == [0, 1]
    assert standing.survivors(8 / 255, range(3)) == [1]
    assert standing.robust(2 / 255).tolist() == [False, True, False]


def test_eps50_between_points():
    def curve(*accuracy):
        return [
            {"eps": eps, "correct": correct, "n": 100}
            for eps, correct in zip((0, 0.01, 0.02), accuracy, strict=True)
        ]

    assert eps50(curve(80, 60, 20)) == pytest.approx(0.015)
    assert eps50(curve(80, 40, 20)) == pytest.approx(0.01)
    assert eps50(curve(80, 70, 60)) == float("inf")


def test_a_random_encoder_is_attacked_with_averaged_gradients_and_judged_by_vote(tmp_path):
    path = tmp_path / "random.toml"
    path.write_text(
        'suite = "random"\neps = "8/255"\n[probes]\nn = 4\nqueries = 5\n[[step]]\nname = "apgd"\n'
        "steps = 5\neot = 10\n"
    )
    assert run(words(path, tmp_path, "random.test", n=16)) == 0
    row = suite_rows(tmp_path, "random")[0]
    assert (status_of(row)["D1"], status_of(row)["D19"]) == ("skipped", "info")
    assert share(row, "robust") < share(row, "clean")


def test_a_network_without_spikes_goes_through_suites_that_do_not_need_them(tmp_path):
    path = tmp_path / "any.toml"
    path.write_text(
        'suite = "any"\n[screen]\nn = 8\nestimators = ["training", "atan"]\n'
        "[probes]\nn = 8\nqueries = 5\n"
        '[[step]]\nname = "apgd"\nsteps = 5\n'
        '[[step]]\nname = "sapgd"\nsteps = 5\nestimator = "assg"\n'
    )
    assert run(words(path, tmp_path, "plain.test", n=16)) == 0
    row = suite_rows(tmp_path, "any")[0]
    assert status_of(row)["D12"] == "skipped"
    assert "no spiking units" in winners(row)[1]["note"] or winners(row)[1]["given"] == "0"
    assert json.loads(row["gradient_health"]) == []


def test_a_failing_step_is_stored_as_failed_and_does_not_count(
    small, tmp_path, monkeypatch, capsys
):
    from robustbench_snn.suites.worker import SuiteWorker

    def broken(self, *_):
        raise RuntimeError("the test broke it")

    path = tmp_path / "one.toml"
    path.write_text('suite = "one"\n[probes]\nn = 0\n[[step]]\nname = "apgd"\nsteps = 3\n')
    monkeypatch.setattr(SuiteWorker, "_attacked", broken)
    assert run(words(path, tmp_path, "control.test", n=16)) == 3
    assert "failed on" in capsys.readouterr().out
    monkeypatch.undo()
    assert run(words(path, tmp_path, "control.test", n=16)) == 0
