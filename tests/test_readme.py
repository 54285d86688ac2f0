"""What the README says is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The one code block of ``language`` with ``containing`` in it."""
    found = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.S) if containing in b]
    assert len(found) == 1
    return found[0]


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_the_plugin_of_the_readme_runs_as_printed(tmp_path: Path) -> None:
    text = block("python", "ModelAdapter")
    assert len(text.splitlines()) <= 30
    (tmp_path / "my_model.py").write_text(text)
    flags = ["--plugin", "my_model.py", "--model", "my-model.digit-scenes"]
    done = python(
        *["-m", "robustbench_snn.run", *flags, "--attack", "fgsm", "--n", "16"], cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "my-model.digit-scenes" in done.stdout
    assert "untrained" in done.stdout
    assert "Triton" not in done.stderr
    checked = python(
        *["-m", "robustbench_snn.check", "--plugin", "my_model.py", "--n", "8"], cwd=tmp_path
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "my-model.digit-scenes: 10 checks" in checked.stdout


def test_the_two_commands_are_one_line_each() -> None:
    for words in ("robustbench_snn.run", "pytest"):
        command = block("bash", f"venv/bin/python -m {words}")
        assert command.startswith("python3 -m venv venv && ")
        assert command.count("\n") == 1


def test_files_named_in_the_readme_exist() -> None:
    root = Path(__file__).parents[1]
    named = re.findall(r"`((?:experiments|docs|benchmarks|figures)/[\w./-]+\.\w+)`", README)
    assert named
    assert not [name for name in named if not (root / name).exists()]
