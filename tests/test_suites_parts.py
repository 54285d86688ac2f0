"""Parts of suites: the built-in files, eps, who is standing, and models that are special."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robustbench_snn.metrics import wilson
from robustbench_snn.run import main as run
from robustbench_snn.suites.command import read_command
from robustbench_snn.suites.curves import eps50, eps50_band
from robustbench_snn.suites.reevaluate import counted
from robustbench_snn.suites.screen import best_of
from robustbench_snn.suites.spec import BUILT_IN, attack_at, parse_search, read_suite, resolved
from robustbench_snn.suites.standing import Standing, short_label
from robustbench_snn.suites.stored import suite_rows
from robustbench_snn.suites.summary import check_order
from robustbench_snn.suites.tables import _half, findings, idle, winners
from robustbench_snn.verify import main as verify

PLUGIN = str(Path(__file__).parent / "masked_models.py")


def words(suite, out, model):
    where = ["--plugin", PLUGIN, "--n", "16", "--shard-size", "32", "--out", str(out), "--quiet"]
    return ["--suite", str(suite), "--model", model, *where]


def status_of(row):
    return {record["id"]: record["status"] for record in findings(row)}


@pytest.mark.parametrize("name", BUILT_IN)
def test_printed_suites_read_back_to_themselves(name, capsys, tmp_path):
    assert run(["--suite", name, "--print-config"]) == 0
    printed = capsys.readouterr().out
    path = tmp_path / f"{name}.toml"
    path.write_text(printed)
    assert run(["--suite", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == printed


def test_a_printed_suite_keeps_every_digit(capsys, tmp_path):
    path = tmp_path / "thirds.toml"
    path.write_text(
        'eps = 0.0123456789\n[curve]\nn = 8\neps = ["1/510", "1/255", 0.3]\n'
        '[[step]]\nname = "noise"\n'
    )
    assert run(["--suite", str(path), "--print-config"]) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    first, second = read_suite(str(path)), read_suite(str(printed))
    assert (first.eps, first.curve.eps) == (second.eps, second.curve.eps)


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
        "sapgd ce training from 10 starts",
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
            | {"low": correct / 100 - 0.1, "high": correct / 100 + 0.1}
            for eps, correct in zip((0, 0.01, 0.02), accuracy, strict=True)
        ]

    assert eps50(curve(80, 60, 20)) == pytest.approx(0.015)
    assert eps50(curve(80, 40, 20)) == pytest.approx(0.01)
    assert eps50(curve(80, 70, 60)) == float("inf")
    assert eps50_band(curve(80, 60, 20)) == pytest.approx((0.0125, 0.0175))
    assert eps50_band(curve(80, 60, 40)) == (pytest.approx(0.015), float("inf"))


def test_eps50_of_few_samples_keeps_its_order_and_says_what_is_not_resolved():
    def row(*counts, n=8):
        points = []
        for eps, correct in zip((0, 1 / 255, 2 / 255, 8 / 255), counts, strict=True):
            low, high = wilson(correct, n)
            point = {"curve": "worst case", "eps": eps, "correct": correct, "n": n}
            points.append(point | {"low": low, "high": high})
        return points

    for counts in itertools.product(range(1, 9), repeat=4):
        if list(counts) == sorted(counts, reverse=True):
            points = row(*counts)
            low, high = eps50_band(points)
            assert 0 <= low <= eps50(points) <= high, counts
    # The lower end of the band is below half of clean at once.
    assert eps50_band(row(1, 1, 1, 1))[0] == 0.0
    assert _half(row(1, 1, 1, 1)) == "beyond [< 1.00, beyond]"
    # Between clean and the smallest eps nothing was measured.
    assert _half(row(80, 1, 0, 0, n=100)) == "< 1.00"
    assert _half(row(8, 8, 2, 0)).startswith("1.67 [")
    assert _half([]) == ""


def test_a_random_encoder_is_attacked_with_averaged_gradients_and_judged_by_vote(tmp_path):
    path = tmp_path / "random.toml"
    path.write_text(
        'suite = "random"\neps = "8/255"\n[probes]\nn = 4\nqueries = 5\n[[step]]\nname = "apgd"\n'
        "steps = 5\neot = 10\n"
    )
    assert run(words(path, tmp_path, "random.test")) == 0
    row = suite_rows(tmp_path, "random")[0]
    assert (status_of(row)["D1"], status_of(row)["D19"]) == ("skipped", "info")
    assert sum(row["robust"]) < sum(row["clean"])


def test_a_network_without_spikes_goes_through_suites_that_do_not_need_them(tmp_path):
    path = tmp_path / "any.toml"
    path.write_text(
        'suite = "any"\n[screen]\nn = 8\nestimators = ["training", "atan"]\n'
        "[probes]\nn = 8\nqueries = 5\n"
        '[[step]]\nname = "apgd"\nsteps = 5\n'
        '[[step]]\nname = "sapgd"\nsteps = 5\nestimator = "assg"\n'
    )
    assert run(words(path, tmp_path, "plain.test")) == 0
    row = suite_rows(tmp_path, "any")[0]
    assert status_of(row)["D12"] == "skipped"
    notes = [record["note"] for record in winners(row)]
    assert any("no spiking units" in note for note in notes) or len(idle(row)) == 1
    assert json.loads(row["gradient_health"]) == []


def test_a_failing_step_is_stored_as_failed_and_does_not_count(tmp_path, monkeypatch, capsys):
    from robustbench_snn.suites.worker import SuiteWorker

    def broken(self, *_):
        raise RuntimeError("the test broke it")

    path = tmp_path / "one.toml"
    path.write_text('suite = "one"\n[probes]\nn = 0\n[[step]]\nname = "apgd"\nsteps = 3\n')
    monkeypatch.setattr(SuiteWorker, "_attacked", broken)
    assert run(words(path, tmp_path, "control.test")) == 3
    assert "failed on" in capsys.readouterr().out
    monkeypatch.undo()
    assert run(words(path, tmp_path, "control.test")) == 0


def test_worst_case_holds_what_attacks_on_all_samples_and_diagnostics_found(tmp_path, capsys):
    path = tmp_path / "weak.toml"
    path.write_text(
        'suite = "weak"\neps = "4/255"\n[[full]]\nname = "pgd"\nsteps = 10\n'
        '[[full]]\nname = "pgd"\nsteps = 10\neps = "2/255"\n'
        '[[step]]\nname = "noise"\ndraws = 1\n[probes]\nn = 0\n'
        '[curve]\nn = 16\neps = ["2/255", "4/255"]\n[[curve.full]]\nname = "fgsm"\n'
    )
    assert run(words(path, tmp_path / "r", "control.test")) == 0
    row = suite_rows(tmp_path / "r", "weak")[0]
    clean, plain, robust = (np.array(row[name]) for name in ("clean", "plain", "robust"))
    assert clean.sum() > plain.sum()
    assert not (robust & ~plain).any()
    assert not (plain & ~clean).any()
    # The images that fooled are kept, and a reviewer finds the same.
    assert all(at >= 0 for at, won in zip(row["image"], row["winner"], strict=True) if won)
    assert "pgd" in row["winner"]
    assert verify([str(tmp_path / "r"), "--plugin", PLUGIN]) == 0
    assert "agrees" in capsys.readouterr().out
    points = {(p["curve"], p["eps"]): p["correct"] for p in json.loads(row["curves"])}
    assert all(points["worst case", eps] <= points["fgsm", eps] for eps in (2 / 255, 4 / 255))
    small = np.array(row["broken_eps"]) == 2 / 255
    assert small.any(), "an attack on all samples at a smaller eps counts there"


def test_a_sample_lost_without_an_image_counts_and_keeps_its_smallest_eps():
    standing = Standing(["a", "b", "c"], np.zeros(3, dtype=np.int64), np.array([True, True, False]))
    standing.lose("pgd", 4 / 255, [0, 2])
    standing.lose("apgd", 2 / 255, [0])
    assert standing.broken_eps.tolist() == [2 / 255, np.inf, 0.0]
    assert standing.winner == ["pgd", "", ""]
    claimed, image = standing.robust(4 / 255), [-1, -1, -1]
    right = np.array([True, True, True])
    assert counted(right, standing.clean, claimed, image).tolist() == [False, True, False]
    assert counted(right, standing.clean, claimed, [0, -1, -1]).tolist() == [True, True, False]


def test_an_order_that_cannot_be_is_a_defect():
    yes, no = np.array([True]), np.array([False])
    with pytest.raises(RuntimeError, match="worst case <= plain <= clean"):
        check_order(yes, no, yes)
    check_order(yes, yes, no)


def test_search_finds_the_value_that_fools_most():
    asked = []

    def run_at(names):
        asked.extend(names)
        value = float(names[0].split("target=")[1].split(":")[0])
        # Accuracy in whole samples, so that margins must decide between neighbours.
        accuracy = round(20 * abs(value - 0.43)) / 20
        margin = np.array([abs(value - 0.43)])
        return {names[0]: SimpleNamespace(accuracy=accuracy, margin=margin)}

    search, spent = parse_search("assg:target=0.35..0.49"), []
    best = best_of(search, run_at, spent)
    assert abs(float(best.split("target=")[1].split(":")[0]) - 0.43) < 0.015
    assert len(asked) == len(set(asked)) == len(spent) <= 9


@pytest.mark.parametrize(
    "text",
    ["assg", "assg:target", "assg:target=0.3", "assg:target=0.4..0.3", "assg:target=0.4..0.6"],
)
def test_searches_that_cannot_be_are_told(text, tmp_path, capsys):
    path = tmp_path / "bad.toml"
    path.write_text(f'[screen]\nsearch = ["{text}"]\n')
    assert run(["--suite", str(path), "--print-config"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_suite_tunes_an_estimator_and_attacks_with_it(tmp_path):
    path = tmp_path / "tuned.toml"
    path.write_text(
        'suite = "tuned"\neps = "2/255"\n[screen]\nn = 8\nsteps = 1\nkeep = 1\n'
        'estimators = ["training"]\nsearch = ["hart:gamma=0.25..2"]\n[probes]\nn = 0\n'
        '[[step]]\nname = "sapgd"\nsteps = 2\nestimator = "search:1"\n'
    )
    assert run(["--suite", str(path), "--print-config"]) == 0
    assert run(words(path, tmp_path / "r", "control.test")) == 0
    row = suite_rows(tmp_path / "r", "tuned")[0]
    tried = json.loads(row["screen"])
    (tuned,) = [name for name in tried if name.startswith("hart")]
    assert set(tried) == {"training", tuned}
    assert tuned in winners(row)[0]["step"]
