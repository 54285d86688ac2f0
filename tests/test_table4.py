import csv
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from robustbench_snn.attacks import make_spec
from robustbench_snn.config import CLEAN, canonical_json, content_key
from robustbench_snn.errors import UsageError
from robustbench_snn.metrics import Accuracy, paired_difference
from robustbench_snn.report.columns import preset_columns
from robustbench_snn.report.curves import Curves
from robustbench_snn.report.table4 import Table4
from robustbench_snn.store import write_shard

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
PRESET = EXPERIMENTS / "presets" / "table4.toml"
REPORTED = EXPERIMENTS / "presets" / "table4_reported.toml"
HEADINGS = [
    *("clean", "FGSM 0.05", "FGSM 0.1", "FGSM 0.2", "FGSM 0.3"),
    *("PGD-5", "PGD-10", "PGD-30", "PGD-50"),
]
N, SHARD = 60, 25
MODELS = {"qkformer.tiny": 0.35, "spiliformer.tiny": 0.45, "sdt.tiny": 0.25}


def outcomes(model, heading, n=N):
    """Whether each of n samples is classified correctly: seeded, falling along the columns."""
    rng = np.random.default_rng([sum(model.encode()), HEADINGS.index(heading)])
    share = 0.9 if heading == "clean" else MODELS[model] - 0.03 * HEADINGS.index(heading)
    return rng.random(n) < share


def write(root, model, heading, spec, dataset="digit-scenes", n=N, **changed):
    labels = np.arange(n) % 10
    ids = [f"test/{i:06d}" for i in range(n)]
    clean = np.where(outcomes(model, "clean", n), labels, (labels + 1) % 10)
    adversarial = np.where(outcomes(model, heading, n), labels, (labels + 1) % 10)
    for start in range(0, n, SHARD):
        part = slice(start, min(start + SHARD, n))
        row = {
            "model": model,
            "model_config": "{}",
            "weights_sha256": "ab" * 32,
            "dataset": dataset,
            "dataset_source": "embedded",
            "dataset_revision": "1a2b",
            "split": "test",
            "attack": spec.name,
            "attack_params": canonical_json(dict(spec.params)),
            "eps_unit": "pixel",
            "clamp": "[0, 1]",
            "time_steps": 4,
            "surrogate": "sigmoid(alpha=4)",
            "ssa_proj_lif": "per_sample" if model.startswith("qk") else "",
            "seed": 0,
            "start": start,
            "stop": part.stop,
            "sample_ids": ids[part],
            "labels": labels[part].tolist(),
            "pred_clean": clean[part].tolist(),
            "pred_adv": adversarial[part].tolist(),
            "valid": [True] * (part.stop - start),
            "status": "ok",
            "n": part.stop - start,
        }
        row |= changed
        for name in ("loss_clean", "loss_adv", "margin_clean", "margin_adv", "linf"):
            row[name] = [0.0] * row["n"]
        write_shard(root, content_key({k: row[k] for k in sorted(row)} | {"h": heading}), row)


def fill(root, dataset="digit-scenes", models=MODELS, leave_out=()):
    for model in models:
        for heading, spec in preset_columns(PRESET).items():
            if spec != CLEAN and heading not in leave_out:
                write(root, model, heading, spec, dataset)


def table(root, dataset="digit-scenes"):
    return Table4.load(root, PRESET, REPORTED, dataset)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    fill(root)
    return root


def test_preset_has_the_settings_of_the_paper():
    columns = preset_columns(PRESET)
    assert list(columns) == HEADINGS
    assert columns["PGD-30"] == make_spec(
        "pgd", {"eps": "8/255", "step_size": "2/255", "steps": 30}
    )
    assert columns["FGSM 0.3"] == make_spec("fgsm", {"eps": 0.3})


def test_every_cell_is_the_accuracy_of_the_stored_samples(store):
    found = table(store)
    assert [o.model for o in found.outcomes] == ["qkformer.tiny", "sdt.tiny", "spiliformer.tiny"]
    for outcome in found.outcomes:
        for heading, spec in found.columns.items():
            expected = outcomes(outcome.model, heading)
            assert outcome.accuracy(spec) == Accuracy(int(expected.sum()), N)


def test_cells_show_percent_interval_and_n(store):
    row = table(store).rows()[0]
    accuracy = Accuracy(int(outcomes("qkformer.tiny", "PGD-10").sum()), N)
    low, high = accuracy.interval
    assert row["PGD-10"] == f"{100 * accuracy.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert (row["model"], row["T"], row["n"]) == ("qkformer.tiny", "4", "60")


def test_difference_is_spiliformer_minus_qkformer_paired(store):
    row = table(store).rows()[-1]
    assert row["model"] == "spiliformer.tiny − qkformer.tiny"
    assert row["n"] == "60"
    for heading in HEADINGS:
        value, low, high = paired_difference(
            outcomes("spiliformer.tiny", heading), outcomes("qkformer.tiny", heading)
        )
        assert row[heading] == f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def test_difference_uses_the_samples_both_have(tmp_path):
    spec = make_spec("fgsm", {"eps": 0.1})
    write(tmp_path, "qkformer.tiny", "FGSM 0.1", spec, n=60)
    write(tmp_path, "spiliformer.tiny", "FGSM 0.1", spec, n=40)
    rows = table(tmp_path).rows()
    assert [row["n"] for row in rows] == ["60", "40", "40"]
    expected = paired_difference(
        outcomes("spiliformer.tiny", "FGSM 0.1", 40), outcomes("qkformer.tiny", "FGSM 0.1")[:40]
    )
    assert rows[-1]["FGSM 0.1"].startswith(f"{100 * expected[0]:+.1f} ")


def test_attacks_that_were_not_run_are_dashes(tmp_path):
    fill(tmp_path, leave_out=("PGD-50",))
    rows = table(tmp_path).rows()
    assert {row["PGD-50"] for row in rows} == {"–"}
    assert "–" not in {row["PGD-30"] for row in rows}


def test_other_attacks_and_data_sets_stay_out(tmp_path):
    fill(tmp_path, models=["qkformer.tiny"])
    before = table(tmp_path).markdown()
    write(tmp_path, "sdt.tiny", "PGD-10", make_spec("pgd", {"steps": 10, "eps": "4/255"}))
    write(tmp_path, "sdt.tiny", "PGD-10", make_spec("pgd", {"steps": 10}), dataset="cifar10")
    assert table(tmp_path).markdown() == before


def test_two_sets_of_weights_are_two_rows(tmp_path):
    spec = make_spec("pgd", {"steps": 10})
    write(tmp_path, "sdt.tiny", "PGD-10", spec)
    write(tmp_path, "sdt.tiny", "PGD-10", spec, weights_sha256="cd" * 32)
    labels = [row["model"] for row in table(tmp_path).rows()]
    assert labels == [f"sdt.tiny weights_sha256={digits * 6}" for digits in ("ab", "cd")]


def test_two_configurations_are_told_apart_by_what_differs(tmp_path):
    spec = make_spec("pgd", {"steps": 10})
    for steps in (2, 4):
        config = canonical_json({"depth": 3, "time_steps": steps})
        write(tmp_path, "sdt.tiny", "PGD-10", spec, model_config=config, time_steps=steps)
    assert [(row["model"], row["T"]) for row in table(tmp_path).rows()] == [
        ("sdt.tiny time_steps=2", "2"),
        ("sdt.tiny time_steps=4", "4"),
    ]


def test_untrained_models_are_no_result(tmp_path):
    spec = make_spec("pgd", {"steps": 10})
    write(tmp_path, "sdt.tiny", "PGD-10", spec, weights_sha256="untrained:ff")
    assert table(tmp_path).rows()[0]["model"] == "sdt.tiny (untrained, no result)"


def test_caption_states_what_the_numbers_depend_on(store):
    caption = table(store).caption()
    for fact in (
        *("digit-scenes", "embedded", "1a2b", "pixel units", "[0, 1]", "random start on", "seed 0"),
        *("ε 8/255", "step 2/255", "sigmoid(alpha=4)", "T=4", "ssa_proj_lif per_sample"),
        *("clean errors included", "last iterate"),
    ):
        assert fact in caption


def test_reported_figures_stand_apart_and_unknown_ones_are_dashes(store):
    text = table(store).markdown()
    measured, reported = text.split("**Reported, not measured here: ")
    assert "96.63" not in measured
    assert "96.63" in reported
    assert "None of them is on digit-scenes" in reported
    assert "could not be transcribed" in reported
    assert {row["FGSM 0.3"] for row in table(store).reported_rows()} == {"–"}


def test_reported_figures_of_the_same_data_set_only(tmp_path):
    fill(tmp_path, "cifar100", ["qkformer.tiny"])
    rows = table(tmp_path, "cifar100").reported_rows()
    assert [row["clean"] for row in rows] == ["81.63", "81.15"]
    assert "no yardstick" not in table(tmp_path, "cifar100").markdown()


def test_empty_results_are_a_sentence(tmp_path, store):
    with pytest.raises(UsageError, match="none of the attacks of this experiment on 'cifar10'"):
        table(store, "cifar10")
    with pytest.raises(UsageError, match="does not exist"):
        table(tmp_path / "nowhere")


def run_script(name, *options):
    command = [sys.executable, "-X", "importtime", str(EXPERIMENTS / name), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True)


def imported(done):
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rsplit("|", 1)[1].strip() for line in lines}


def test_table_renders_without_torch(store, tmp_path):
    done = run_script("table4.py", "--render", store, "--figures", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pandas" in imported(done)
    assert not imported(done) & {"torch", "spikingjelly", "torchattacks", "matplotlib"}
    assert (tmp_path / "table4-digit-scenes.md").read_text(encoding="utf-8") in done.stdout
    latex = (tmp_path / "table4-digit-scenes.tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{table}") == 2
    assert "ε" not in latex
    records = list(csv.DictReader((tmp_path / "table4-digit-scenes.csv").open(encoding="utf-8")))
    kinds = [record["kind"] for record in records]
    assert kinds.count("measured") == 27
    assert kinds.count("difference") == 9
    first = records[0]
    assert int(first["correct"]) / int(first["n"]) == float(first["value"])
    origin = json.loads((tmp_path / "table4-digit-scenes.json").read_text(encoding="utf-8"))
    assert {record["model"] for record in records if record["kind"] == "measured"} == {
        model["model"] for model in origin["models"]
    }
    assert all(len(key) == 64 for model in origin["models"] for key in model["result_keys"])


def test_figure_renders_without_torch_and_the_same_each_time(store, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        done = run_script("figure3.py", "--render", store, "--figures", folder)
        assert done.returncode == 0, done.stderr[-2000:]
        assert not imported(done) & {"torch", "spikingjelly", "torchattacks"}
    for suffix in ("pdf", "png", "csv", "json"):
        first, second = [
            (folder / f"figure3-digit-scenes.{suffix}").read_bytes() for folder in folders
        ]
        assert len(first) > 200
        assert first == second


def test_figure_plots_the_table_and_names_its_results(store):
    curves = Curves(table(store))
    points = curves.points()
    assert len(points) == 3 * (5 + 5)
    at_zero = {p["accuracy"] for p in points if p["x"] == 0 and p["model"] == "sdt.tiny"}
    assert at_zero == {outcomes("sdt.tiny", "clean").mean()}
    for point in points:
        assert point["low"] <= point["accuracy"] <= point["high"]
    assert "n = 60" in curves.title()
    assert "step 2/255" in curves.title()
    models = json.loads(json.dumps(curves.provenance()))["models"]
    assert [len(model["result_keys"]) for model in models] == [24, 24, 24]
    assert models[0]["weights_sha256"] == "ab" * 32


def test_figure_marks_reported_values_on_their_own_data_set(tmp_path):
    fill(tmp_path, "cifar10", ["qkformer.tiny"])
    points = Curves(table(tmp_path, "cifar10")).points()
    reported = [p for p in points if p["kind"] == "reported" and p["panel"] == "pgd"]
    assert {(p["model"], p["x"], p["accuracy"]) for p in reported} >= {
        ("SpiLiFormer", 50.0, 0.1713),
        ("QKFormer", 0.0, 0.9618),
    }


@pytest.mark.parametrize(("code", "drawn"), [(0, 1), (3, 1), (2, 0), (4, 0)])
def test_without_render_the_preset_is_run_first(monkeypatch, tmp_path, code, drawn):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    from evaluation import command

    asked, rendered = [], []
    fake = types.SimpleNamespace(main=lambda argv: asked.append(argv) or code)
    monkeypatch.setitem(sys.modules, "robustbench_snn.run", fake)
    argv = ["--dataset", "cifar10", "--n", "8", "--out", str(tmp_path), "--model", "qk*"]
    assert command("", PRESET, lambda *given: rendered.append(given) or [], argv) == code
    preset = ["--preset", str(PRESET), "--dataset", "cifar10", "--out", str(tmp_path)]
    assert asked == [[*preset, "--n", "8", "--model", "qk*"]]
    assert [given[:2] for given in rendered] == [(tmp_path, "cifar10")] * drawn


def test_render_takes_no_options_of_the_run(store):
    done = run_script("table4.py", "--render", store, "--n", "5")
    assert done.returncode == 2
    assert "--render evaluates nothing, so it takes no --n" in done.stderr


def test_missing_results_are_one_sentence_and_exit_code_2(tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "table4.py"), "--render", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: results folder")
    assert "Traceback" not in done.stderr
