"""Where the experiment scripts write: a user's trial never replaces the project's own files."""

import argparse
import hashlib
import sys
from pathlib import Path

import pytest

from robustbench_snn.errors import UsageError

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "experiments"
STORE = EXPERIMENTS / "results" / "table4-cifar10"


@pytest.fixture
def scripts(monkeypatch):
    """The folder of scripts as one to import from."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    yield
    for name in ("evaluation", "table4", "figure3", "training_curves"):
        sys.modules.pop(name, None)


def committed():
    files = [*(ROOT / "figures").rglob("*"), *(EXPERIMENTS / "results").rglob("*")]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


def options(**given):
    return argparse.Namespace(**({"figures": None, "publish": False} | given))


def test_files_go_where_out_says_and_the_committed_ones_stay(scripts, tmp_path, capsys):
    import evaluation
    import figure3
    import table4

    before = committed()
    words = ["--dataset", "cifar10", "--render", str(STORE), "--out", str(tmp_path)]
    for script in (table4, figure3):
        assert evaluation.command("", table4.PRESET, script.render, words) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"table4-cifar10{suffix}" for suffix in (".md", ".tex", ".csv", ".json")),
        *(f"figure3-cifar10{suffix}" for suffix in (".pdf", ".png", ".csv", ".json")),
    }
    assert str(tmp_path) in capsys.readouterr().out
    assert committed() == before


def test_only_publish_names_the_committed_places(scripts, tmp_path):
    import evaluation

    assert evaluation.place_of(options(), tmp_path) == tmp_path
    assert evaluation.place_of(options(figures=tmp_path / "f"), tmp_path) == tmp_path / "f"
    published = evaluation.place_of(options(publish=True), tmp_path)
    assert published == evaluation.FIGURES == ROOT / "figures"
    assert evaluation.tables_beside(published) == evaluation.TABLES == EXPERIMENTS / "results"
    for folder in (ROOT / "figures", EXPERIMENTS / "results", ROOT / "tests" / ".." / "figures"):
        with pytest.raises(UsageError, match="--publish replaces them"):
            evaluation.place_of(options(figures=folder), tmp_path)
        with pytest.raises(UsageError, match="--publish replaces them"):
            evaluation.place_of(options(), folder)
    with pytest.raises(UsageError, match="two places"):
        evaluation.place_of(options(publish=True, figures=tmp_path), tmp_path)


def test_publishing_keeps_the_rows_behind_a_table(scripts, tmp_path, monkeypatch):
    import evaluation
    import table4

    monkeypatch.setattr(evaluation, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(evaluation, "TABLES", tmp_path / "tables")
    words = ["--dataset", "cifar10", "--render", str(STORE), "--publish"]
    assert evaluation.command("", table4.PRESET, table4.render, words) == 0
    assert (tmp_path / "tables" / "table4-cifar10" / "rows.parquet").is_file()
    assert (tmp_path / "tables" / "table4-cifar10.md").read_text() == (
        EXPERIMENTS / "results" / "table4-cifar10.md"
    ).read_text()


def test_training_curves_go_elsewhere_too(scripts, tmp_path, monkeypatch):
    import training_curves

    before = committed()
    monkeypatch.chdir(tmp_path)
    assert training_curves.main([]) == 0
    assert (tmp_path / "results" / "training-digit-scenes.png").is_file()
    assert training_curves.main(["--figures", str(ROOT / "figures")]) == 2
    assert committed() == before


def test_every_script_has_the_flag():
    for path in sorted(EXPERIMENTS.glob("*.py")):
        text = path.read_text()
        if "__main__" in text and path.stem != "train_zoo":
            shared = "import command" in text or "evaluation import" in text
            assert shared or "import add_places" in text or "explanation import" in text, path
        if path.stem != "evaluation":
            assert '/ "figures"' not in text, path
            assert '/ "results"' not in text, path
