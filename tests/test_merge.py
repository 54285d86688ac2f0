"""Runs cut in parts, put together again; and what a run says it will cost."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from robustbench_snn import RunConfig, cost, make_spec, runner
from robustbench_snn.config import CLEAN
from robustbench_snn.errors import UsageError
from robustbench_snn.merge import main
from robustbench_snn.run import main as run
from robustbench_snn.store import Results, folder_name, read_row, shard_path, write_shard
from robustbench_snn.suites.layouts import STEPS
from robustbench_snn.worker import Worker

PLUGIN = str(Path(__file__).parent / "tiny_models.py")


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        models=("tiny-a.test", "tiny-b.test"),
        attacks=(CLEAN, *(make_spec("pgd", {"steps": steps}) for steps in (1, 3))),
        n=40,
        batch_size=8,
        shard_size=16,
        out=str(tmp_path / "whole"),
        plugins=(PLUGIN,),
        device="cpu",
    )


def names(folder):
    return {path.relative_to(folder) for path in Path(folder).rglob("*.parquet")}


def table(out):
    frame = Results.load(out).frame().sort_values("key")
    told = ["key", "sample_ids", "pred_clean", "pred_adv", "loss_adv"]
    return [[list(v) if hasattr(v, "__len__") else v for v in row] for row in frame[told].values]


def test_parts_merged_equal_the_whole_run(config, tmp_path, capsys):
    runner.run(config)
    folders = [str(tmp_path / f"part{i}") for i in (1, 2, 3, 4)]
    sizes = [
        len(runner.run(replace(config, shard=f"{i}/4", out=out)))
        for i, out in enumerate(folders, start=1)
    ]
    assert sizes == [6, 6, 3, 3]  # six tasks of three rows each
    merged = str(tmp_path / "merged")
    assert main([merged, *folders]) == 0
    assert "18 results copied, 0 there already, 0 failed, 0 skipped" in capsys.readouterr().out
    assert names(merged) == names(config.out)
    assert table(merged) == table(config.out)
    stamps = {path: path.stat().st_mtime_ns for path in Path(merged).rglob("*.parquet")}
    assert main([merged, *folders]) == 0
    assert "0 results copied, 18 there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert runner.run(replace(config, out=merged))[0]["status"] == "ok"
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_more_parts_than_shards_are_refused(config):
    with pytest.raises(UsageError, match=r"--shard 7/7 cuts the run in 7 parts, .* only 6 shards"):
        runner.run(replace(config, shard="7/7"))


def altered(config, folder, **changes):
    """A results folder whose first row of ``config.out`` is changed."""
    source = sorted(Path(config.out).rglob("*pgd*/*.parquet"))[0]
    row = read_row(source)
    return write_shard(folder, row["key"], row | changes)


def test_failed_results_give_way_to_finished_ones(config, tmp_path, capsys):
    runner.run(config)
    failed, merged = str(tmp_path / "failed"), str(tmp_path / "merged")
    altered(config, failed, status="failed", error="lost")
    assert main([merged, failed]) == 3
    assert len(Results.load(merged).failed()) == 1
    other = str(tmp_path / "other")
    assert main([other, failed, config.out]) == 0
    assert len(Results.load(other).failed()) == 0
    assert main([merged, config.out]) == 0
    assert len(Results.load(merged).failed()) == 0
    assert main([merged, failed]) == 0
    assert len(Results.load(merged).failed()) == 0
    capsys.readouterr()


def test_contradicting_results_and_missing_folders_are_one_sentence(config, tmp_path, capsys):
    runner.run(config)
    other, merged = str(tmp_path / "other"), str(tmp_path / "merged")
    altered(config, other, pred_adv=[0] * 16)
    assert main([merged, config.out, other]) == 2
    assert "are results of the same question and differ" in capsys.readouterr().err
    assert main([merged, str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_torn_files_are_noted(config, tmp_path, capsys):
    runner.run(replace(config, models=("tiny-a.test",), n=16))
    victim = sorted(Path(config.out).rglob("*.parquet"))[0]
    victim.write_bytes(victim.read_bytes()[:80])
    assert main([str(tmp_path / "merged"), config.out]) == 0
    captured = capsys.readouterr()
    assert "2 results copied, 0 there already, 0 failed, 1 skipped" in captured.out
    assert "not a whole results file" in captured.err


def test_the_plan_counts_what_is_left(config):
    runner.run(replace(config, n=16))
    first, second = cost.estimate(config).splitlines()[2:4]
    # 24 of 40 samples left in shards of 16 and 8: three batches of 8, three gradients each.
    cells = [word.strip() for word in first.split("|")]
    assert cells[1:7] == ["tiny-a.test", "3", "2", "9", "72", "96"]
    assert second.split("|")[1].strip() == "tiny-b.test"


def test_the_plan_of_a_finished_run_is_empty(config, capsys):
    one = replace(config, models=("tiny-a.test",), n=8)
    runner.run(one)
    before = names(one.out)
    words = ["--plugin", PLUGIN, "--model", "tiny-a.test", "--n", "8", "--shard-size", "16"]
    attacks = ["--attack", "clean", "--attack", "pgd", "--steps", "1,3"]
    assert run([*words, *attacks, "--device", "cpu", "--out", one.out, "--plan"]) == 0
    out = capsys.readouterr().out
    assert "| tiny-a.test |      1 |     0 |" in out
    assert "0 s in one process" in out
    assert names(one.out) == before


def test_the_estimate_adds_up(config, monkeypatch):
    monkeypatch.setattr(cost, "seconds_per_forward", lambda worker, task: 2.0)
    worker = Worker(config, "test")
    tasks = runner.survey(config, worker, "test").todo
    # Forward passes a sample: one for clean, 3 gradients of three, two predictions.
    assert cost.seconds_left(tasks[:1], worker) == 2.0 * 16 * (1 + 9 + 2)
    assert cost.seconds_left(tasks, worker) == 2.0 * 80 * 12


def with_images(folder, place, content=b"pictures", sha256=None):
    """A results folder with one row of a suite's step that speaks of images at ``place``."""
    row = {"rows_of": "survivors", "model": "m", "dataset": "d", "step": "pgd", "status": "ok"}
    digest = sha256 or hashlib.sha256(content).hexdigest()
    row |= {"start": 0, "stop": 1, "images": place, "images_sha256": digest}
    write_shard(folder, "ab" * 32, row, STEPS)
    return folder


GOOD = "adversarial/m/d/0-1-k.safetensors"


def test_images_go_along_with_their_row(tmp_path):
    source = with_images(tmp_path / "in", GOOD)
    (source / GOOD).parent.mkdir(parents=True)
    (source / GOOD).write_bytes(b"pictures")
    assert main([str(tmp_path / "out"), str(source)]) == 0
    assert (tmp_path / "out" / GOOD).read_bytes() == b"pictures"


@pytest.mark.parametrize(
    "place",
    [
        "../evil.sh",
        "adversarial/../../evil.sh",
        "adversarial/../evil.safetensors",
        "ABSOLUTE",
        "m/d/evil.parquet",
        "adversarial/evil.sh",
        "adversarial/link/evil.safetensors",
    ],
)
def test_nothing_is_written_outside_the_folder_of_images(tmp_path, capsys, place):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    place = str(outside / "evil.safetensors") if place == "ABSOLUTE" else place
    source = with_images(tmp_path / "box" / "in", place)
    for root in (source, tmp_path / "box" / "out"):
        (root / "adversarial").mkdir(parents=True)
        (root / "adversarial" / "link").symlink_to(outside)
    for name in ("evil.sh", "evil.safetensors"):
        for folder in (tmp_path / "box", source / "adversarial", outside):
            (folder / name).write_bytes(b"pictures")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main([str(tmp_path / "box" / "out"), str(source)]) == 0
    out, err = capsys.readouterr()
    assert "1 skipped" in out
    assert "its images" in err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("content", [b"others!!", None])
def test_images_that_are_not_those_of_the_row_are_skipped_with_it(tmp_path, capsys, content):
    source = with_images(tmp_path / "in", GOOD)
    if content is not None:
        (source / GOOD).parent.mkdir(parents=True)
        (source / GOOD).write_bytes(content)
    assert main([str(tmp_path / "out"), str(source)]) == 0
    out, err = capsys.readouterr()
    assert "0 results copied" in out
    assert GOOD in err
    assert not list((tmp_path / "out").rglob("*.*"))


def test_links_among_the_rows_are_not_followed(config, tmp_path, capsys):
    runner.run(replace(config, models=("tiny-a.test",), n=8))
    source = tmp_path / "in"
    source.mkdir()
    (source / "tiny-a.test").symlink_to(Path(config.out) / "tiny-a.test")
    real = sorted(Path(config.out).rglob("*.parquet"))[0]
    (source / "file.parquet").symlink_to(real)
    target = tmp_path / "out"
    assert main([str(target), str(source)]) == 0
    assert "0 results copied, 0 there already, 0 failed, 1 skipped" in capsys.readouterr().out
    # Nor is a link within OUT written through.
    outside = tmp_path / "outside"
    outside.mkdir()
    (target / "tiny-a.test").symlink_to(outside)
    assert main([str(target), config.out]) == 0
    assert "3 skipped" in capsys.readouterr().out
    assert not list(outside.iterdir())


def test_names_of_folders_never_lead_upwards():
    assert [folder_name(text) for text in ("..", "../x", ".hidden", "a/b", "m.d")] == [
        "--",
        "---x",
        "-hidden",
        "a-b",
        "m.d",
    ]
    row = {"model": "..", "dataset": "d", "attack": "pgd", "start": 0, "stop": 1, "key": "k" * 64}
    assert shard_path("out", row).parts[:2] == ("out", "--")


def test_a_folder_without_results_is_no_source(config, tmp_path, capsys):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("nothing of ours")
    assert main([str(tmp_path / "merged"), str(tmp_path / "foreign")]) == 2
    assert "no results file lies below" in capsys.readouterr().err


def test_times_are_told_in_the_unit_that_suits_them():
    said = [cost.duration(seconds) for seconds in (0.04, 7.26, 25, 119, 120, 4000, 7200, 4e5)]
    assert said == ["0.04 s", "7.3 s", "25 s", "119 s", "2 min", "67 min", "2 hours", "111 hours"]


def test_the_plan_does_not_cost_like_the_run(config, monkeypatch):
    seen = []
    own = cost.cross_entropy_gradient
    monkeypatch.setattr(
        cost, "cross_entropy_gradient", lambda m, x, y: seen.append(len(x)) or own(m, x, y)
    )
    cost.estimate(replace(config, models=("tiny-a.test",), batch_size=40, shard_size=40))
    # A whole batch is never tried: once to warm up, once timed, once for memory.
    assert seen == [2, 16, 2]
