"""The queue of trainings: order, death, resumption, and what it reports and ships."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robustbench_snn.catalogue import MODELS
from robustbench_snn.errors import UsageError
from robustbench_snn.training.queue import Queue, own_checkout, ship
from robustbench_snn.training.zoo import expected_hours, progress, read_list

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "experiments" / "train_zoo.py"
TINY, ROBUST = "sdt-tiny.digit-scenes", "sdt-tiny-at8.digit-scenes"
LIST = f"""
[[entry]]
model = "{ROBUST}"
[entry.recipe]
start = "{TINY}"
epochs = 3
batch_size = 32
one_step = 0.7
augment = ["shift"]

[[entry]]
model = "qkformer-tiny-at8.digit-scenes"
gpu = true
[entry.recipe]
epochs = 2
"""


def words(out: Path, listed: Path) -> list[str]:
    return [sys.executable, str(SCRIPT), "--out", str(out), "--list", str(listed), "--here"]


def run(out: Path, listed: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*words(out, listed), "--threads", "1", "--device", "cpu", "--n", "96", *more]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=600, check=False
    )


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.toml"
    path.write_text(LIST)
    return path


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, listed: Path) -> None:
    entry = read_list(listed)[0]
    whole = run(tmp_path / "whole", listed)
    assert whole.returncode == 0, whole.stderr
    assert f"done: {ROBUST}" in whole.stdout
    assert "qkformer" not in whole.stdout  # it waits for a GPU

    out = tmp_path / "killed"
    folder = out / entry.folder_name
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        [*words(out, listed), "--threads", "1", "--device", "cpu", "--n", "96"],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    while not (folder / "log.csv").is_file():
        assert driver.poll() is None
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    done_before = len(list(csv.DictReader((folder / "log.csv").open())))
    assert not (folder / f"{ROBUST}.json").exists()
    resumed = run(out, listed)
    assert resumed.returncode == 0, resumed.stderr
    text = (folder / "output.txt").read_text()
    assert f"resuming {ROBUST}" in text
    assert done_before < entry.recipe.epochs
    a, b = (
        load_file(tmp_path / name / entry.folder_name / f"{ROBUST}.safetensors")
        for name in ("whole", "killed")
    )
    assert all(torch.equal(a[key], b[key]) for key in a)

    status = run(out, listed, "--status").stdout
    assert [line.split("|")[2].strip() for line in status.strip().splitlines()[2:]] == [
        "done",
        "needs a GPU",
    ]
    assert "3/3" in status
    shipped = tmp_path / "package"
    shipped.mkdir()
    states = [progress(one, out, shipped, gpu=False) for one in read_list(listed)]
    assert ship(states, out, shipped) == [ROBUST]
    assert ship(states, out, shipped) == []
    assert sorted(path.suffix for path in shipped.iterdir()) == [".csv", ".json", ".safetensors"]
    assert progress(entry, tmp_path / "elsewhere", shipped, gpu=False).state == "shipped"


def test_a_failed_training_is_told_and_the_next_one_runs(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(
        f'[[entry]]\nmodel = "{TINY}"\n[entry.recipe]\nepochs = 1\nbatch_size = 200\n'
        f'[[entry]]\nmodel = "{ROBUST}"\n[entry.recipe]\nepochs = 1\nbatch_size = 32\n'
    )
    found = run(tmp_path / "out", path)
    assert found.returncode == 3
    assert f"failed: {TINY}" in found.stdout
    assert f"done: {ROBUST}" in found.stdout
    status = run(tmp_path / "out", path, "--status").stdout
    assert "failed: error: batch size 200 is larger than the 96 training images" in status


def test_weights_to_start_from_come_first(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(
        f'[[entry]]\nmodel = "{ROBUST}"\n[entry.recipe]\nepochs = 1\nstart = "{TINY}"\n'
        f'[[entry]]\nmodel = "{TINY}"\n[entry.recipe]\nepochs = 1\n'
    )
    entries = read_list(path)
    queue = Queue(entries, tmp_path / "out", tmp_path, ROOT, path, {})
    assert queue.next_entry() == entries[1]
    folder = tmp_path / "out" / entries[1].folder_name
    folder.mkdir(parents=True)
    (folder / f"{TINY}.json").write_text(json.dumps({"recipe": entries[1].recipe.facts()}))
    (folder / f"{TINY}.safetensors").touch()
    assert queue.next_entry() == entries[0]
    assert queue.command(entries[0])[-2:] == ["--start-file", str(folder / f"{TINY}.safetensors")]


def test_the_committed_list_is_whole_and_knows_what_is_shipped() -> None:
    entries = read_list(ROOT / "experiments" / "zoo.toml")
    names = [entry.model for entry in entries]
    checkpoints = ROOT / "robustbench_snn" / "checkpoints"
    shipped = {path.stem for path in checkpoints.glob("*.json")}
    assert shipped <= set(names)
    for entry in entries:
        state = progress(entry, ROOT / "nowhere", checkpoints, gpu=False)
        assert (state.state == "shipped") == (entry.model in shipped), entry.model
        card = MODELS.get(entry.model).card
        attack = entry.recipe.adversarial
        assert card.trained_eps == pytest.approx(attack.eps if attack else 0.0)
        if entry.recipe.start:
            # What it starts from stands above it, or no prefix of the list would be useful.
            assert names.index(entry.recipe.start) < names.index(entry.model)


def test_expected_hours_follow_the_work_left(tmp_path: Path, listed: Path) -> None:
    entry = read_list(listed)[0]
    # Two of three epochs at T = 1 and one at T = 2.
    assert entry.work() == pytest.approx(10_000 * (1 + 1 + 2))
    attacked = '[entry.recipe.adversarial]\neps = "8/255"\n\n[[entry]]\nmodel = "qkformer'
    listed.write_text(LIST.replace('[[entry]]\nmodel = "qkformer', attacked))
    # One attack step, and the training pass.
    assert read_list(listed)[0].work() == pytest.approx(10_000 * 2 * (1 + 1 + 2))
    listed.write_text(LIST)
    folder = tmp_path / entry.folder_name
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text("epoch,seconds\n1,900\n")
    states = [progress(entry, tmp_path, tmp_path / "none", gpu=False)]
    assert states[0].state == "begun"
    assert expected_hours(states) == [pytest.approx(0.75)]


def test_a_setting_at_its_default_moves_no_folder(tmp_path: Path, listed: Path) -> None:
    first = read_list(listed)[0].folder_name
    listed.write_text(LIST.replace("epochs = 3", "epochs = 3\nmixup = 0.0"))
    assert read_list(listed)[0].folder_name == first
    listed.write_text(LIST.replace("epochs = 3", "epochs = 4"))
    assert read_list(listed)[0].folder_name != first


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["sdt-tiny"], "'sdt-tiny' is not in the list"),
        (["--data-dir", "cifar10=/nowhere/at/all"], "there is no folder"),
        (["--jobs", "-1"], "--jobs '-1' is not a whole number of at least 1"),
    ],
)
def test_wrong_uses(tmp_path: Path, listed: Path, more: list[str], said: str) -> None:
    found = run(tmp_path / "out", listed, *more)
    assert found.returncode == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must list trainings"),
        ('[[entry]]\nmodel = "sdt-tinny.digit-scenes"', "did you mean"),
        (f'[[entry]]\nmodel = "{TINY}"\n' * 2, "each model once"),
        (f'[[entry]]\nmodel = "{TINY}"\ncolour = 1', "unknown setting 'colour'"),
    ],
)
def test_wrong_lists(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "list.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_list(path)


def test_trainings_have_a_checkout_of_their_own(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", "-C", str(root), *name, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    root = tmp_path / "tree"
    root.mkdir()
    git("init", "-q")
    (root / "code.py").write_text("one")
    git("add", "."), git("commit", "-qm", "one")
    code = own_checkout(root, tmp_path / "out" / "code")
    (root / "code.py").write_text("being edited")
    assert (code / "code.py").read_text() == "one"
    (root / "code.py").write_text("two")
    git("commit", "-qam", "two")
    assert (own_checkout(root, code) / "code.py").read_text() == "two"
    with pytest.raises(UsageError, match="use --here"):
        own_checkout(tmp_path / "out", tmp_path / "other")
