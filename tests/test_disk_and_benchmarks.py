"""A full disk, a web page for a file, wrong arguments of benchmarks: a sentence and a code."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustbench_snn.check import main as check
from robustbench_snn.explain.command import main as explain
from robustbench_snn.run import main as run
from robustbench_snn.store import Results

ROOT = Path(__file__).resolve().parent.parent
TINY = str(ROOT / "tests" / "tiny_models.py")
MASKED = str(ROOT / "tests" / "masked_models.py")
SPACE = os.strerror(errno.ENOSPC)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let all but the first ``after`` files fail where they are made safe on disk."""
    own, made = os.fsync, [0]

    def fsync(handle: int) -> None:
        made[0] += stat.S_ISREG(os.fstat(handle).st_mode)
        if made[0] > after:
            raise OSError(errno.ENOSPC, SPACE)
        own(handle)

    monkeypatch.setattr("robustbench_snn.row_files.os.fsync", fsync)


def test_a_full_disk_ends_a_run_in_one_sentence_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--plugin", TINY, "--model", "tiny-a.test", "--n", "8", "--shard-size", "4"]
    words += ["--attack", "fgsm", "--executor", "inline", "--quiet", "--out", str(tmp_path)]
    with monkeypatch.context() as full:
        fill_the_disk(full, after=1)
        assert run(words) == 3
    *_, said = capsys.readouterr().err.splitlines()
    assert SPACE in said
    assert "what is finished is kept" in said
    assert len(Results.load(tmp_path)) == 1
    assert list(tmp_path.rglob(".*.tmp")) == []
    assert run(words) == 0
    assert len(Results.load(tmp_path)) == 2


def test_a_full_disk_while_a_suite_stores_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text('[[step]]\nname = "pgd-worst"\nsteps = 2\n[probes]\nn = 0\n')
    words = ["--suite", str(suite), "--plugin", MASKED, "--model", "control.test", "--n", "4"]
    out = tmp_path / "out"
    fill_the_disk(monkeypatch, after=1)
    assert run([*words, "--quiet", "--out", str(out)]) == 3
    *_, said = capsys.readouterr().err.splitlines()
    assert SPACE in said


def test_a_full_disk_ends_explain_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--dataset", "digit-scenes", "--model", "sdt-tiny.digit-scenes", "--n", "2", "--quiet"]
    words += ["--out", str(tmp_path / "a.png"), "--show", "1", "--results", str(tmp_path / "maps")]
    with monkeypatch.context() as full:
        fill_the_disk(full, after=0)
        assert explain(words) == 3
    *_, said = capsys.readouterr().err.splitlines()
    assert SPACE in said
    assert not (tmp_path / "a.png").exists()


def test_a_file_where_a_folder_should_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny-a.test").write_text("not a folder")
    words = ["--plugin", TINY, "--model", "tiny-a.test", "--n", "4", "--attack", "fgsm"]
    assert run([*words, "--quiet", "--out", str(tmp_path)]) == 3
    *_, said = capsys.readouterr().err.splitlines()
    assert "tiny-a.test" in said
    assert "mend the folder" in said


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>", b"", b"hello world", b"(x", b"G", b"404 not found"]
)
def test_what_is_no_golden_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "golden.pt"
    path.write_bytes(content)
    assert check(["--golden", str(path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "golden file" in said
    assert ("HTML page" in said) == content.startswith(b"<")
    words = ["--model", "sdt-tiny.digit-scenes", "--weights", str(path), "--n", "4", "--quiet"]
    assert run([*words, "--out", str(tmp_path / "out")]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert str(path) in said


def test_a_golden_file_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"family": "qk_cifar"}, tmp_path / "golden.pt")
    assert check(["--golden", str(tmp_path / "golden.pt")]) == 2
    assert "it lacks config" in capsys.readouterr().err


WRONG = [
    ("table4_cost.py", ["sdt-tinny.digit-scenes"], "did you mean 'sdt-tiny.digit-scenes'"),
    ("table4_cost.py", ["--batch", "0"], "at least 1"),
    ("time_profile.py", ["nothing"], "unknown model 'nothing'"),
    ("time_profile.py", ["--batch", "0"], "at least 1"),
    ("scaling.py", ["--model", "nothing"], "unknown model"),
    ("scaling.py", ["--n", "0"], "at least 1"),
    ("scaling.py", ["--seconds", "nan"], "seconds above 0"),
    ("training_speed.py", ["--model", "nothing"], "unknown model"),
    ("training_speed.py", ["--batch-size", "0"], "at least 1"),
    ("training_speed.py", ["--sides", "16,x"], "not a number"),
    ("fast_agreement.py", ["--n", "0"], "at least 1"),
    ("corruption_throughput.py", ["--seconds", "0"], "seconds above 0"),
]


def test_benchmarks_refuse_what_cannot_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for script, words, said in WRONG:
        spec = importlib.util.spec_from_file_location(
            f"benchmark_{script[:-3]}", ROOT / "benchmarks" / script
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(SystemExit) as stopped:
            module.main()
        assert stopped.value.code == 2, script
        assert said in capsys.readouterr().err, (script, words)


def test_a_benchmark_whose_process_fails_ends() -> None:
    words = ["sdt-tiny.digit-scenes", "--n", "1", "--data-dir", "/no/such/folder"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "table4_cost.py"), *words, "--cores", "1"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert re.search(r"error: a process of Obvious failed", done.stderr)
