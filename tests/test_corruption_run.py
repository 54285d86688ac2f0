"""Runs on common corruptions: data cells, keys, resumption, official files, tables, mistakes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corruption_files import clean_pictures, write_cifar_c, write_imagenet_tree

from robustbench_snn import RunConfig, make_spec, runner
from robustbench_snn.catalogue import load_plugin, model_card
from robustbench_snn.config import CLEAN, Corruption
from robustbench_snn.corruptions import corrupt_batch
from robustbench_snn.corruptions.dataset import open_corrupted
from robustbench_snn.corruptions.names import COMMON
from robustbench_snn.data import load_dataset
from robustbench_snn.errors import UsageError
from robustbench_snn.options import read_arguments
from robustbench_snn.presets import read_preset, to_toml
from robustbench_snn.report.corruption_table import CorruptionTable
from robustbench_snn.report.corruptions import Cells, missing_note, records
from robustbench_snn.report.severity_curves import points, write_curves
from robustbench_snn.resolve import resolve
from robustbench_snn.run import main
from robustbench_snn.store import Results

HERE = Path(__file__).parent
TINY, FORMATS = str(HERE / "tiny_models.py"), str(HERE / "tiny_formats.py")
load_plugin(TINY)
load_plugin(FORMATS)

FGSM = make_spec("fgsm", {"eps": "2/255"})


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        models=("tiny-a.test",),
        attacks=(CLEAN,),
        n=16,
        batch_size=8,
        shard_size=16,
        out=str(tmp_path / "out"),
        plugins=(TINY, FORMATS),
        device="cpu",
        corruptions=("gaussian_noise", "frost"),
        severities=(1, 5),
    )


def opened(config, corruption, name="tiny-a.test"):
    clean = load_dataset(config.dataset)
    return open_corrupted(config, model_card(name), corruption, lambda: clean)


def words_for(out, *more):
    words = ["--plugin", TINY, "--model", "tiny-a.test", "--n", "16", "--device", "cpu"]
    return [*words, "--out", str(out), *more]


def official_words(out, folder, *more):
    words = ["--plugin", FORMATS, "--model", "tiny-c.test", "--corruptions-dir", str(folder)]
    return [*words, "--device", "cpu", "--out", str(out), *more]


def cifar_c(folder, names=("fog",), count=10):
    pictures = clean_pictures(count)
    levels = np.concatenate([pictures // step for step in (1, 2, 3, 4, 5)])
    labels = np.arange(count, dtype=np.uint8) % 10
    write_cifar_c(folder, {name: levels for name in names}, labels)
    return levels


def test_each_corruption_and_severity_is_a_cell_with_its_columns(config):
    rows = runner.run(config)
    cells = [(row["corruption"], row["severity"]) for row in rows]
    assert cells == [(name, s) for name in ("gaussian_noise", "frost") for s in (1, 5)]
    assert {row["corruption_source"] for row in rows} == {"generated"}
    assert rows[0]["corruption_settings"] == "cifar constants"
    assert rows[2]["corruption_settings"] == "cifar constants, frost from synthetic texture"
    assert len({row["dataset_revision"] for row in rows}) == 4
    assert {row["n"] for row in rows} == {16}


def test_images_are_the_generated_ones_and_keep_their_ids(config):
    found = opened(config, Corruption("gaussian_noise", 5)).batch([3, 7])
    clean = load_dataset("digit-scenes").batch([3, 7])
    assert found.ids == clean.ids
    assert (found.y == clean.y).all()
    expected = corrupt_batch(clean.x, clean.ids, "gaussian_noise", 5, "cifar", seed=0)
    np.testing.assert_array_equal(found.x, expected)
    assert not np.array_equal(found.x, clean.x)


def test_the_revision_covers_all_that_changes_the_images(config, tmp_path):
    noise = Corruption("gaussian_noise", 5)
    base = opened(config, noise).revision
    others = [
        opened(config, Corruption("gaussian_noise", 4)),
        opened(config, Corruption("shot_noise", 5)),
        opened(replace(config, seed=1), noise),
        opened(replace(config, corruption_preset="imagenet"), noise),
    ]
    assert len({base, *(images.revision for images in others)}) == 5
    assert opened(config, noise).revision == base
    assert base.startswith(load_dataset("digit-scenes").revision + "+")


def test_clean_results_keep_keys_of_their_own(config):
    clean = {row["key"] for row in runner.run(replace(config, corruptions=()))}
    corrupted = {row["key"] for row in runner.run(config)}
    assert len(clean) == 1
    assert not clean & corrupted


def test_an_attack_starts_from_the_corrupted_image(config):
    rows = runner.run(replace(config, attacks=(FGSM,), corruptions=("contrast",), severities=(5,)))
    (row,) = rows
    assert 0 < row["linf_max"] <= 2 / 255 + 1e-6
    assert row["norm_ok"]
    plain = runner.run(replace(config, corruptions=("contrast",), severities=(5,)))
    assert row["correct_clean"] == plain[0]["correct_clean"]


def test_finished_cells_are_not_computed_again(config):
    first = runner.run(replace(config, severities=(1,)))
    both = runner.run(config)
    before = {row["key"]: row["started_at"] for row in first}
    again = {row["key"]: row["started_at"] for row in both if row["key"] in before}
    assert again == before
    assert len(both) == 2 * len(first)


def test_official_files_are_used_where_they_are(config, tmp_path):
    levels = cifar_c(tmp_path / "c" / "CIFAR-10-C")
    config = replace(config, dataset="cifar10", models=("tiny-c.test",), corruptions=("fog",))
    config = replace(config, corruptions_dir=str(tmp_path / "c"), n=None)
    rows = runner.run(config)
    assert [row["corruption_source"] for row in rows] == ["official", "official"]
    assert [row["n"] for row in rows] == [10, 10]
    images = open_corrupted(config, model_card("tiny-c.test"), Corruption("fog", 5), load_clean)
    expected = levels[40:].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(images.batch(range(10)).x, expected)
    assert rows[0]["dataset_revision"] != rows[1]["dataset_revision"]


def load_clean():
    raise AssertionError("clean images are not needed where official files are")


def test_imagenet_folders_are_used_in_both_nestings(config, tmp_path):
    write_imagenet_tree(tmp_path / "snow" / "1")
    write_imagenet_tree(tmp_path / "digital" / "contrast" / "1")
    config = replace(config, dataset="imagenet", models=("tiny-i.test",), severities=(1,), n=6)
    config = replace(config, corruptions=("snow", "contrast"), corruptions_dir=str(tmp_path))
    rows = runner.run(config)
    assert [(row["corruption_source"], row["n"]) for row in rows] == [("official", 6)] * 2


def test_without_an_attack_the_command_only_classifies(tmp_path, capsys):
    words = words_for(
        tmp_path, "--corruption", "blur,fog", "--corruption", "fog", "--severity", "1,3"
    )
    assert main(words) == 0
    frame = Results.load(tmp_path).frame()
    assert set(frame["attack"]) == {"clean"}
    assert len(frame) == 5 * 2
    out = capsys.readouterr().out
    assert "zoom_blur" in out
    assert "no mean of the 15: 10 of them were not evaluated" in out
    assert "corrupted images generated (cifar constants)" in out
    assert "| mean of the 15" in out
    mean = next(line for line in out.splitlines() if line.startswith("| mean of the 15"))
    assert "%" not in mean
    assert "–" in mean


def test_with_an_attack_there_is_a_table_for_each(tmp_path, capsys):
    more = ("--corruption", "fog", "--severity", "2", "--attack", "fgsm", "--eps", "2/255")
    assert main(words_for(tmp_path, *more)) == 0
    out = capsys.readouterr().out
    assert out.count("| fog ") == 2
    assert "under fgsm ε=2/255 px" in out
    assert "ε from the corrupted image" in out


def test_the_resolved_run_is_a_preset(tmp_path):
    given = ["--corruption", "all", "--severity", "2-4", "--corruption-preset", "imagenet"]
    config, _ = resolve(read_arguments([*given, "--model", "sdt-tiny.digit-scenes"]).settings)
    assert len(config.corruptions) == 19
    path = tmp_path / "again.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert resolve(read_preset(path))[0] == config


BAD = [
    ("--corruption fogg", "unknown corruption 'fogg': did you mean 'fog'"),
    ("--corruption nois", "did you mean 'noise'"),
    ("--corruption fog --severity 6", "1 (weakest) to 5 (strongest)"),
    ("--corruption fog --severity high", "is not of the form '3', '1,3,5' or '1-5'"),
    ("--severity 3", "--severity belongs to corruptions, and none was named"),
    ("--corruptions-dir x", "--corruptions-dir belongs to corruptions"),
    ("--corruption fog --corruption-preset cifer", "did you mean 'cifar'"),
    ("--corruption fog --corruptions-dir .", "no official corruption files for 'digit-scenes'"),
    ("--corruption frost --frost-dir no-such", "'no-such/frost1.png' is missing"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words for words, _ in BAD])
def test_mistakes_are_one_sentence_and_code_2(tmp_path, capsys, words, message):
    assert main(words_for(tmp_path, *words.split())) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def truncate(folder):
    path = folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:-100])


def reshape(folder):
    np.save(folder / "fog.npy", np.zeros((50, 3, 32, 32), dtype=np.uint8))


def cut_labels(folder):
    np.save(folder / "labels.npy", np.zeros(49, dtype=np.uint8))


def web_page(folder):
    (folder / "fog.npy").write_text("<!DOCTYPE html><html>not found</html>")


DAMAGE = [
    (truncate, "truncated or damaged"),
    (reshape, "array of shape (50, 3, 32, 32)"),
    (cut_labels, "need 50 whole-number labels"),
    (web_page, "is a web page, not data"),
]


@pytest.mark.parametrize(
    ("damage", "message"), DAMAGE, ids=lambda part: getattr(part, "__name__", "")
)
def test_damaged_files_stop_the_run_before_anything_is_evaluated(tmp_path, capsys, damage, message):
    cifar_c(tmp_path / "c", ("gaussian_noise", "fog"))
    damage(tmp_path / "c")
    out = tmp_path / "out"
    assert main(official_words(out, tmp_path / "c", "--corruption", "gaussian_noise,fog")) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line
    assert captured.out == ""
    assert list(out.iterdir()) == []


def test_a_missing_severity_folder_stops_the_run(tmp_path, capsys):
    write_imagenet_tree(tmp_path / "c" / "snow" / "1")
    words = ["--plugin", FORMATS, "--model", "tiny-i.test", "--corruption", "snow"]
    words += ["--corruptions-dir", str(tmp_path / "c"), "--out", str(tmp_path / "out")]
    assert main([*words, "--device", "cpu"]) == 2
    assert "no severity 2 of snow" in capsys.readouterr().err


def test_corruptions_of_different_length_are_not_averaged(config, tmp_path):
    write_imagenet_tree(tmp_path / "snow" / "1")
    write_imagenet_tree(tmp_path / "contrast" / "1")
    next((tmp_path / "snow" / "1").rglob("*.JPEG")).unlink()
    short = replace(config, dataset="imagenet", models=("tiny-i.test",), severities=(1,), n=None)
    short = replace(short, corruptions=("snow", "contrast"), corruptions_dir=str(tmp_path))
    with pytest.raises(UsageError, match=r"5 images under snow at severity 1 .* and 6 elsewhere"):
        runner.run(short)


def full_cells(source="generated"):
    cells = Cells("m")
    for i, name in enumerate(COMMON):
        for severity in (1, 2):
            cells.add(row(name, severity, right=i + severity, source=source), "correct_clean")
    return cells


def row(name, severity, right=5, n=20, source="generated", status="ok"):
    return {
        "corruption": name,
        "severity": severity,
        "corruption_source": source,
        "correct_clean": right,
        "n": n,
        "status": status,
        "flags": [],
    }


def mean_line(cells):
    return next(line for line in records(cells) if line["corruption"] == "mean of the 15")


def test_the_mean_is_over_the_fifteen_and_leaves_out_the_extra_four():
    cells = full_cells()
    mean = mean_line(cells)
    assert mean["accuracy %"] == f"{100 * (7 + 1.5) / 20:.1f}"
    assert mean["s1"] == f"{100 * (1 - (7 + 1) / 20):.1f}"
    for severity in (1, 2):
        cells.add(row("spatter", severity, right=20), "correct_clean")
    assert mean_line(cells) == mean
    assert records(cells)[-1]["corruption"] == "mean of the extra 4"
    assert records(cells)[-1]["accuracy %"] == "–"


def test_sources_are_never_mixed_in_a_mean():
    cells = full_cells()
    cells.source["fog"] = "official"
    assert mean_line(cells)["error % [95 % CI]"] == "–"
    assert "official and generated images are never averaged" in missing_note(cells)


def test_half_evaluated_cells_enter_no_mean():
    failed = full_cells()
    failed.add(row("fog", 1, status="failed"), "correct_clean")
    assert mean_line(failed)["accuracy %"] == "–"
    assert "1 cells have failed parts" in missing_note(failed)
    unequal = full_cells()
    unequal.add(row("fog", 1, n=5), "correct_clean")
    assert mean_line(unequal)["accuracy %"] == "–"


def test_tables_and_curves_come_from_the_store(config, tmp_path):
    runner.run(replace(config, corruptions=()))
    runner.run(replace(config, corruptions=("fog", "snow")))
    table = CorruptionTable.load(Path(config.out), "digit-scenes")
    (model,) = table.models
    assert model.clean is not None
    assert model.cells.n == {(name, s): 16 for name in ("fog", "snow") for s in (1, 5)}
    (line,) = table.summary()
    assert line["15 corruptions"] == "–"
    assert [row["corruption"] for row in table.by_corruption()] == ["snow", "fog"]
    panel = [p for p in points(table) if p["panel"] == "15 corruptions"]
    assert [(p["severity"], p["n"]) for p in panel] == [(0, 16)]
    written = [*table.write(tmp_path / "t"), *write_curves(table, tmp_path / "t", "severity")]
    assert all(path.stat().st_size for path in written)
    assert len({path.name for path in written}) == 8
    assert (tmp_path / "t" / "corruptions.json").read_text() == table.provenance()


def test_two_versions_of_a_corruption_in_one_folder_are_refused(config):
    fog = replace(config, corruptions=("fog",))
    runner.run(fog)
    runner.run(replace(fog, corruption_preset="imagenet"))
    with pytest.raises(UsageError, match="in two versions"):
        CorruptionTable.load(Path(config.out), "digit-scenes")


def test_clean_results_alone_make_no_table(config):
    runner.run(replace(config, corruptions=()))
    with pytest.raises(UsageError, match="hold no corrupted images of 'digit-scenes'"):
        CorruptionTable.load(Path(config.out), "digit-scenes")
