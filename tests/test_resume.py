"""A run that is killed goes on where it was, and ends as if nothing had happened."""

import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from run_process import PLUGIN, start

from robustbench_snn.run import main

N_FILES = 16  # 2 models x 4 shards x 2 attacks


def words(out):
    named = ["--model", "tiny-a.test", "--model", "tiny-b.test", "--n", "32", "--shard-size", "8"]
    attacks = ["--attack", "fgsm", "--attack", "pgd", "--steps", "3"]
    return [*named, *attacks, "--device", "cpu", "--out", str(out)]


def files(out):
    return {path for path in Path(out).rglob("*.parquet") if not path.name.startswith(".")}


def wait_for_files(process, out, count):
    while len(files(out)) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def started_at(path):
    return pq.read_table(path).column("started_at")[0].as_py()


def table(stdout):
    return [line for line in stdout.splitlines() if line.startswith("|")]


def interrupt(out, number, count):
    """Start a slow run, send ``number`` when ``count`` files are there; its outputs."""
    process = start(words(out), delay=0.1)
    wait_for_files(process, out, count)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=600)
    assert count <= len(files(out)) < N_FILES
    return process.returncode, stdout, stderr


@pytest.fixture
def finish(capsys):
    """Runs the same to its end in this process: its outputs."""

    def run(out):
        assert main(["--plugin", str(PLUGIN), *words(out)]) == 0
        return capsys.readouterr()

    return run


def test_kill_9_loses_only_the_shard_in_flight(tmp_path, finish):
    code, stdout, _ = interrupt(tmp_path / "killed", signal.SIGKILL, 3)
    assert code == -signal.SIGKILL
    assert table(stdout) == []
    done = {
        path: (started_at(path), path.stat().st_mtime_ns) for path in files(tmp_path / "killed")
    }
    resumed, stderr = finish(tmp_path / "killed")
    assert f"{len(done)} of {N_FILES} results are on disk already" in stderr
    assert {p: (started_at(p), p.stat().st_mtime_ns) for p in done} == done
    assert len(files(tmp_path / "killed")) == N_FILES
    whole, _ = finish(tmp_path / "whole")
    assert len(table(whole)) == 6
    assert table(resumed) == table(whole)
    names = {path.relative_to(tmp_path / "whole") for path in files(tmp_path / "whole")}
    assert {path.relative_to(tmp_path / "killed") for path in files(tmp_path / "killed")} == names


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_interrupt_says_how_to_go_on(tmp_path, number):
    out = tmp_path / number.name
    code, stdout, stderr = interrupt(out, number, 1)
    assert code == 130
    assert table(stdout) == []
    assert "Traceback" not in stderr
    assert "the same command goes on: python -m robustbench_snn.run --plugin" in stderr
    leftovers = [p for p in out.rglob("*") if p.is_file() and p.suffix != ".parquet"]
    assert leftovers == []


def test_a_torn_file_is_computed_again(tmp_path, finish):
    whole, _ = finish(tmp_path)
    victim = sorted(files(tmp_path))[0]
    victim.write_bytes(victim.read_bytes()[:100])
    again, stderr = finish(tmp_path)
    assert "is computed again" in stderr
    assert f"{N_FILES - 1} of {N_FILES} results" in stderr
    assert table(again) == table(whole)
