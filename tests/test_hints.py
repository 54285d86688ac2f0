"""Every command that is printed as the next one runs as printed."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from robustbench_snn.config import RunConfig
from robustbench_snn.report.summary import sibling_command
from robustbench_snn.run import main as run

TINY = str(Path(__file__).parent / "tiny_models.py")
MASKED = str(Path(__file__).parent / "masked_models.py")
SUITE = """
[[full]]
name = "pgd"
steps = 1
[[step]]
name = "pgd-worst"
steps = 1
[probes]
n = 0
"""


def follow(line: str, *more: str) -> int:
    """Run the command in ``line`` in this process; returns its exit code."""
    words = shlex.split(line)
    assert words[:2] == ["python", "-m"]
    main = importlib.import_module(words[2]).main
    return int(main([*words[3:], *more]))


def hint(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line that names the next command."""
    captured = capsys.readouterr()
    (found,) = re.findall(r"^next: (.*)$", captured.out, re.M)
    return str(found)


def test_next_commands_run_one_after_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--plugin", TINY, "--model", "tiny-a.test", "--n", "4", "--device", "cpu"]
    words += ["--batch-size", "2", "--executor", "inline", "--fast", "early-stop"]
    assert run([*words, "--attack", "fgsm", "--out", str(tmp_path)]) == 0
    for _ in range(3):
        next_one = hint(capsys)
        assert "--batch-size 2" in next_one
        assert "--suite" not in next_one
        assert follow(next_one) == 0
    # No spikes, so no suite about estimators; and suites take none of the options on executors.
    last = hint(capsys)
    assert "--suite standard" in last
    assert follow(last, "--print-config") == 0


def test_corruptions_are_left_out_of_a_suite() -> None:
    from robustbench_snn.attacks import make_spec
    from robustbench_snn.report.summary import next_command

    specs = tuple(make_spec("pgd", {"steps": 50, "eps": eps}) for eps in (0.1, 0.2))
    config = RunConfig(("m",), specs, corruptions=("fog",), fast="bf16", n=4)
    line = next_command(config, ["sdt-tiny.digit-scenes"])
    assert follow(line, "--print-config") == 0


@pytest.mark.parametrize("attack", ["clean", "pgd-worst --eot 10 --steps 1"])
def test_random_encoders_are_given_attacks_that_average(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], attack: str
) -> None:
    words = ["--plugin", MASKED, "--model", "random.test", "--n", "2", "--out", str(tmp_path)]
    assert run([*words, "--attack", *attack.split()]) == 0
    line = hint(capsys)
    assert "--eot 10" in line
    assert follow(line.replace("--steps 50", "--steps 1")) == 0


def test_the_command_after_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text(SUITE)
    words = ["--suite", str(tmp_path / "mine.toml"), "--plugin", MASKED, "--model", "control.test"]
    assert run([*words, "--n", "4", "--out", str(tmp_path / "a folder")]) == 0
    assert follow(hint(capsys)) == 0
    assert "agrees" in capsys.readouterr().out


def test_the_command_after_a_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").touch()
    monkeypatch.setenv("TINY_BREAK", str(tmp_path / "broken"))
    words = ["--plugin", TINY, "--model", "tiny-a.test", "--n", "4", "--out", str(tmp_path)]
    assert run([*words, "--attack", "fgsm"]) == 4
    said = capsys.readouterr().err
    (line,) = re.findall(r"`(python -m [^`]*)`", said)
    assert "tiny_models.py, line " in said
    assert '(raise RuntimeError("the test broke it"))' in said
    assert follow(line) == 1
    assert "cannot answer" in capsys.readouterr().out
    (tmp_path / "broken").unlink()
    assert follow(line) == 0


def test_what_a_model_needs_is_repeated() -> None:
    config = RunConfig(
        ("m",),
        (),
        plugins=("a b.py",),
        model_args={"x": 1},
        weights="w",
        data_dir="d",
        device="cpu",
    )
    line = sibling_command("check", config, "m")
    assert shlex.split(line)[3:] == [
        *["m", "--plugin", "a b.py", "--model-arg", "x=1"],
        *["--weights", "w", "--data-dir", "d", "--device", "cpu"],
    ]
    assert "--model-arg" not in sibling_command("verify", config, "r", model_args=False)


def test_the_command_on_a_training_card_repeats_every_plugin() -> None:
    from robustbench_snn.train import command_of, parser

    words = ["--model", "m", "--plugin", "a.py", "--plugin", "b.py", "--epochs", "3", "--fast"]
    args = parser().parse_args(words)
    again = parser().parse_args(shlex.split(command_of(args))[3:])
    assert vars(again) == vars(args)
