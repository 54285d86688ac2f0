"""Results of different versions of one model are never joined; what is compared is said."""

import numpy as np
import pandas as pd
import pytest

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.compare import main, outcomes
from robustbench_snn.errors import UsageError
from robustbench_snn.explain import columns as maps
from robustbench_snn.report.outcomes import collect
from robustbench_snn.store import Results, write_shard
from robustbench_snn.suites.layouts import SUITES
from robustbench_snn.suites.stored import suite_rows

FACTS = {
    "model_config": "{}",
    "model_source_sha256": "",
    "weights_sha256": "aa11" * 16,
    "dataset": "d",
    "dataset_source": "embedded",
    "dataset_revision": "r1r1r1",
    "split": "test",
    "surrogate": "sigmoid(alpha=4)",
    "ssa_proj_lif": "",
    "time_steps": 2,
    "seed": 0,
    "device": "cpu",
    "eps_unit": "pixel",
    "clamp": "[0, 1]",
    "code_sha256": "c" * 64,
    "precision": "float32",
    "batch_size": 64,
    "flags": [],
    "status": "ok",
    "start": 0,
}
SIXTEEN = np.arange(16)


def row(model="m", right=SIXTEEN < 8, attack="fgsm", **changes):
    n = len(right)
    label = "clean" if attack == "clean" else f"{attack} eps=8/255"
    return FACTS | {
        "model": model,
        "attack": attack,
        "attack_params": "{}",
        "attack_label": label,
        "stop": n,
        "sample_ids": [f"test/{i}" for i in range(n)],
        "labels": [1] * n,
        "pred_clean": [1] * n,
        "pred_adv": [int(hit) for hit in right],
        "n": n,
        "correct_clean": n,
        "correct_adv": int(np.sum(right)),
        **{name: [0.0] * n for name in ("loss_clean", "loss_adv", "linf")},
        **{name: [0.0] * n for name in ("margin_clean", "margin_adv")},
        "valid": [True] * n,
        **changes,
    }


def store(folder, *rows):
    for i, one in enumerate(rows):
        write_shard(folder, f"{i:02d}" * 32, one)
    return str(folder)


@pytest.fixture
def told(capsys):
    def run(*words):
        code = main(list(words))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, " ".join(captured.out.split()), captured.err

    return run


OTHERS = {
    "weights": {"weights_sha256": "bb22" * 16},
    "seed": {"seed": 1},
    "config": {"model_config": '{"T":4}'},
    "source": {"model_source_sha256": "ff" * 32},
    "revision": {"dataset_revision": "r2r2r2"},
    "surrogate": {"surrogate": "atan(alpha=2)"},
    "ssa": {"ssa_proj_lif": "official"},
    "steps": {"time_steps": 4},
    "device": {"device": "cuda"},
}


@pytest.mark.parametrize(("fact", "changes"), OTHERS.items(), ids=list(OTHERS))
def test_several_versions_are_refused_and_a_flag_chooses(tmp_path, told, fact, changes):
    first, second = row(right=SIXTEEN < 8), row(right=SIXTEEN < 4, **changes)
    folder = store(tmp_path, first, second, row("other", SIXTEEN < 2))
    code, _, err = told("m", "other", "--results", folder)
    assert code == 2
    assert "model 'm' has 2 versions" in err
    assert f"choose one with --a {fact}=" in err
    (column,) = changes
    for number, shown in ((first, "50.0"), (second, "25.0")):
        value = str(number[column])[:6] if fact in ("weights", "source") else str(number[column])
        if fact == "source" and not value:
            continue  # written as --a source= with nothing behind it
        if fact == "revision" and value == "r2r2r2":
            continue  # the other model is on the first
        code, out, err = told("m", "other", "--results", folder, "--a", f"{fact}={value}")
        assert code == 0, err
        assert f"| fgsm eps=8/255 | 16 | {shown} | 12.5 |" in out
    code, _, err = told("m", "other", "--results", folder, "--a", f"{fact}=nothing")
    assert code == 2
    assert "has no results with" in err


def test_an_empty_fact_can_be_chosen(tmp_path, told):
    folder = store(tmp_path, row(), row(right=SIXTEEN < 4, model_source_sha256="ff" * 32))
    code, out, _ = told("m", "m", "--results", folder, "--a", "source=", "--b", "source=ff")
    assert code == 0
    assert "A = m (source=), B = m (source=ff)" in out
    assert "| fgsm eps=8/255 | 16 | 50.0 | 25.0 |" in out


def test_two_weight_files_under_two_layers_and_seeds(tmp_path, told):
    rows = [row(weights_sha256=w * 32, seed=s) for w in ("aa", "bb") for s in (0, 1)]
    folder = store(tmp_path, *rows, row("other"))
    code, _, err = told("m", "other", "--results", folder)
    assert code == 2
    assert "has 4 versions" in err
    assert "or likewise by seed" in err
    words = ["--a", "weights=aa", "--a", "seed=1"]
    assert told("m", "other", "--results", folder, *words)[0] == 0


@pytest.mark.parametrize("text", ["weights", "weight=aa", "=1"])
def test_an_unreadable_choice_is_one_sentence(tmp_path, told, text):
    folder = store(tmp_path, row(), row("other"))
    code, _, err = told("m", "other", "--results", folder, "--b", text)
    assert code == 2
    assert "is not FACT=VALUE" in err


def test_samples_that_only_one_side_has_are_told(tmp_path, told):
    folder = store(tmp_path, row(), row("other", (SIXTEEN < 2)[:12]))
    code, out, _ = told("m", "other", "--results", folder)
    assert code == 0
    assert "A has 16 samples, B has 12, and the 12 they share are compared: everywhere." in out


def test_skipped_and_failed_files_are_told(tmp_path, told):
    folder = store(tmp_path, row(), row("other"), row("other", start=16, stop=32, status="failed"))
    victim = tmp_path / "m" / "d" / "fgsm" / "torn.parquet"
    victim.write_bytes(b"PAR1")
    code, _, err = told("m", "other", "--results", folder)
    assert code == 0
    assert f"note: skipped '{victim}'" in err
    assert "1 results in" in err
    assert "are recorded as failed" in err


def test_other_images_under_equal_ids_are_refused(tmp_path, told):
    folder = store(tmp_path, row(), row("other", dataset_revision="r2r2r2"))
    code, _, err = told("m", "other", "--results", folder)
    assert code == 2
    assert "revision r1r1r1 of the data, B on r2r2r2" in err
    older = store(tmp_path / "o", row(), row("other", dataset_revision="r2", code_sha256=None))
    code, _, err = told("m", "other", "--results", older)
    assert code == 0
    assert "formed revisions otherwise" in err


def test_rows_that_contradict_each_other_are_refused(tmp_path, told):
    folder = store(tmp_path, row(), row(right=SIXTEEN < 4), row("other"))
    code, _, err = told("m", "other", "--results", folder)
    assert code == 2
    assert "contradict each other on sample test/4" in err


def test_precisions_and_batches_of_coupled_attacks_stand_apart(tmp_path, told):
    fast = {"precision": "bfloat16 gradients"}
    bridge = {"attack": "torchattacks:CW", "right": SIXTEEN < 3}
    folder = store(
        tmp_path,
        row(),
        row(right=SIXTEEN < 4, **fast),
        row(batch_size=64, **bridge),
        row(**(bridge | {"batch_size": 32, "right": SIXTEEN < 5})),
    )
    code, out, _ = told("m", "m", "--results", folder)
    assert code == 0
    assert "fgsm eps=8/255 (bfloat16 gradients) | 16 | 25.0" in out
    assert "torchattacks:CW eps=8/255 (batch 64) | 16 | 18.8" in out
    assert "torchattacks:CW eps=8/255 (batch 32) | 16 | 31.2" in out


def test_exact_and_faster_rows_are_never_one_accuracy(tmp_path):
    exact = row(right=(SIXTEEN < 8)[:4])
    store(tmp_path, exact, row(right=SIXTEEN < 8, precision="bfloat16 gradients"))
    samples = Results.load(tmp_path).samples()
    assert len(samples) == 4
    assert set(samples["precision"]) == {"float32"}


def test_tables_keep_sources_and_devices_apart(tmp_path):
    store(tmp_path, row(), row(model_source_sha256="ff" * 32), row(device="cuda"))
    found = collect(Results.load(tmp_path), [AttackSpec("fgsm", {})], "d")
    assert sorted((o.facts["model_source_sha256"][:2], o.facts["device"]) for o in found) == [
        ("", "cpu"),
        ("", "cuda"),
        ("ff", "cpu"),
    ]


def suite(**changes):
    about = {name: value for name, value in FACTS.items() if name in SUITES.columns}
    return about | {"suite": "s", "model": "m", "n": 16, "stop": 16, "eps": 0.1, **changes}


def test_suites_of_two_weight_files_are_refused_in_one_table(tmp_path):
    for i, changes in enumerate(({}, {"weights_sha256": "bb" * 32})):
        write_shard(tmp_path, f"{i:02d}" * 32, suite(started_at=str(i), **changes), SUITES)
    with pytest.raises(UsageError, match=r"2 versions of suite 's' .* differ in weights_sha256"):
        suite_rows(tmp_path)
    assert len(suite_rows(tmp_path, every=True)) == 2
    again = tmp_path / "again"
    for i in range(2):
        write_shard(again, f"{i:02d}" * 32, suite(started_at=str(i)), SUITES)
    assert [found["started_at"] for found in suite_rows(again)] == ["1"]


def test_maps_of_two_plugin_sources_stay_apart():
    from robustbench_snn.explain.stored import SAME

    assert {"model_source_sha256", "weights_sha256", "surrogate", "seed"} <= set(SAME)
    assert set(SAME) <= set(maps.LAYOUT.columns)


def test_models_of_one_version_are_all_given(tmp_path):
    store(tmp_path, row(), row("other"))
    assert list(outcomes(tmp_path)) == ["m", "other"]
    assert pd.Series(outcomes(tmp_path)["m"]["fgsm eps=8/255"]).sum() == 8
    store(tmp_path, row(), row("other"), row(seed=3))
    with pytest.raises(UsageError, match="use a results folder with one of them"):
        outcomes(tmp_path)
