"""Full disks, polite kills and stopped workers: one sentence, nothing lost, the documented code."""

import errno
import os
import signal
import time
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from robustbench_snn import RunConfig, make_spec, row_files, runner
from robustbench_snn.config import CLEAN
from robustbench_snn.endings import ended_politely, storage_sentence
from robustbench_snn.errors import StorageError
from robustbench_snn.executors import processes as module
from robustbench_snn.memory import group_free
from robustbench_snn.run import main as run
from robustbench_snn.store import Results, check_writable, write_shard

PLUGIN = str(Path(__file__).parent / "tiny_models.py")
WORDS = ["--plugin", PLUGIN, "--model", "tiny-a.test", "--n", "16", "--shard-size", "8"]
WORDS += ["--attack", "clean", "--device", "cpu", "--executor", "inline"]
COMMANDS = ("run", "train", "check", "compare", "verify", "merge", "explain.command")
COMMANDS += ("corruptions.fetch", "corruptions.verify")


def fill_after(monkeypatch, count, number=errno.ENOSPC):
    """Every file after the first ``count`` finds no room, as on a full disk."""
    sync, seen = os.fsync, []

    def fsync(handle):
        seen.append(handle)
        if len(seen) > count:
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(row_files.os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fills_up_costs_nothing_that_was_done(tmp_path, capsys, monkeypatch, number):
    # Each row syncs its file and its folder.
    fill_after(monkeypatch, 2, number)
    assert run([*WORDS, "--out", str(tmp_path)]) == 3
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert f"cannot be written ({os.strerror(number)})" in line
    assert "the same command goes on" in line
    (kept,) = tmp_path.rglob("*.parquet")
    assert not list(tmp_path.rglob("*.tmp"))
    before = kept.stat().st_mtime_ns
    monkeypatch.undo()
    assert run([*WORDS, "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert kept.stat().st_mtime_ns == before


def test_a_file_where_a_folder_should_be_is_one_sentence(tmp_path, capsys):
    (tmp_path / "tiny-a.test").write_text("in the way")
    assert run([*WORDS, "--out", str(tmp_path)]) == 3
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "tiny-a.test" in err
    assert "cannot be written" in err
    assert (tmp_path / "tiny-a.test").read_text() == "in the way"


def test_images_that_find_no_room_stop_the_suite(tmp_path, monkeypatch):
    from robustbench_snn.suites.images import write_images

    fill_after(monkeypatch, 0)
    row = {"model": "m", "dataset": "d", "attack": "a", "start": 0, "stop": 1}
    with pytest.raises(StorageError, match="cannot be written"):
        write_images(tmp_path, "adversarial/a.safetensors", [], np.zeros((0,)), False)
    with pytest.raises(StorageError, match="cannot be written"):
        write_shard(tmp_path, "a" * 64, row)
    check_writable(tmp_path)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "weights"), True),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), True),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/1"), True),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), False),
        (RuntimeError("shapes differ"), False),
        (KeyError("a"), False),
    ],
)
def test_what_counts_as_a_disk_that_takes_no_more(error, told):
    assert (storage_sentence(error) is not None) == told

    @ended_politely
    def main(argv=None):
        raise error

    if told:
        assert main() == 3
    else:
        with pytest.raises(type(error)):
            main()


def test_a_polite_kill_is_an_interrupt_and_leaves_the_handler_as_it_was(capsys):
    before = signal.getsignal(signal.SIGTERM)

    @ended_politely
    def main(argv=None):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return 0

    assert main() == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_so(name):
    assert hasattr(import_module(f"robustbench_snn.{name}").main, "__wrapped__")


@pytest.mark.parametrize("name", ["train", "check"])
def test_a_kill_in_the_first_seconds_is_an_interrupt(name, monkeypatch, capsys):
    command = import_module(f"robustbench_snn.{name}")

    def begin(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(command, "train" if name == "train" else "check_models", begin)
    assert command.main(["--model", "m"] if name == "train" else ["m"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_stopped_worker_is_replaced_and_its_shard_done_again(tmp_path, monkeypatch):
    stop = tmp_path / "stop"
    monkeypatch.setenv("TINY_STOP", str(stop))
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: stop.touch() or [])
    for name, seconds in {"_BEAT": 0.2, "_ROUND": 0.2, "_SILENCE": 8.0}.items():
        monkeypatch.setattr(module, name, seconds)
    config = RunConfig(
        models=("tiny-a.test",),
        attacks=(CLEAN, make_spec("fgsm", {})),
        n=16,
        batch_size=8,
        shard_size=8,
        out=str(tmp_path / "out"),
        plugins=(PLUGIN,),
        device="cpu",
    )
    rows = runner.run(config, executor=partial(module.processes, workers=1))
    assert not stop.exists()
    assert {row["status"] for row in rows} == {"ok"}
    assert sum(row["worker_retries"] for row in rows) >= 2  # both rows of the shard
    monkeypatch.undo()
    fresh = runner.run(replace(config, out=str(tmp_path / "fresh")))
    assert [r["mean_loss_adv"] for r in rows] == [r["mean_loss_adv"] for r in fresh]
    assert len(Results.load(config.out)) == 4


GIB = 1 << 30


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")


def test_the_limit_of_a_control_group_bounds_the_memory(tmp_path):
    listing, mount = tmp_path / "cgroup", tmp_path / "fs"
    listing.write_text("0::/outer/inner\n")
    group(mount / "outer", memory_max=2 * GIB, memory_current=GIB, memory_stat="anon 1")
    group(mount / "outer/inner", memory_max="max", memory_current=GIB // 2)
    assert group_free(listing, mount) == GIB
    group(mount / "outer/inner", memory_max=GIB, memory_stat=f"anon 5\ninactive_file {GIB // 4}")
    assert group_free(listing, mount) == GIB - GIB // 4
    listing.write_text("0::/of/the/host\n")
    assert group_free(listing, mount) is None
    group(mount, memory_max=3 * GIB, memory_current=GIB)
    assert group_free(listing, mount) == 2 * GIB


def test_the_limit_of_an_older_control_group_too(tmp_path):
    listing, mount = tmp_path / "cgroup", tmp_path / "fs"
    listing.write_text("5:cpu,cpuacct:/x\n4:memory:/docker/a\n")
    place = mount / "memory" / "docker" / "a"
    place.mkdir(parents=True)
    (place / "memory.limit_in_bytes").write_text(str(GIB))
    (place / "memory.usage_in_bytes").write_text(str(GIB // 2))
    (place / "memory.stat").write_text("total_inactive_file 0\n")
    assert group_free(listing, mount) == GIB // 2
    assert group_free(tmp_path / "none", mount) is None
