"""The comparison of two models from stored outcomes."""

import numpy as np
import pytest

from robustbench_snn.compare import COLUMNS, main, paired
from robustbench_snn.data.digit_scenes import scans_of
from robustbench_snn.run import main as run

PLUGIN = "tests/tiny_models.py"


def test_paired_line_by_hand():
    a = {f"s{i}": i < 60 for i in range(100)}
    b = {f"s{i}": i < 50 for i in range(5, 105)}
    line = paired("x", a, b)
    assert (line["n"], line["only A, only B"]) == ("95", "10, 0")
    assert line["p"] == f"{2 * 0.5**10:.4f}"
    assert line["A - B, points [95 % CI]"].startswith("+10.5 [")
    assert not any("bootstrap" in column for column in COLUMNS)


def test_scenes_of_one_scan_are_not_independent():
    ids = [f"test/{i:06d}" for i in range(1000)]
    rank = dict(zip(ids, np.unique(scans_of(ids), return_inverse=True)[1].tolist(), strict=True))
    a = {name: rank[name] < 60 for name in ids}
    b = {name: rank[name] < 47 for name in ids}
    alone, joint = paired("x", a, b), paired("x", a, b, "digit-scenes")
    interval = "A - B, points [95 % CI]"
    assert (alone["A %"], alone[interval][:4]) == (joint["A %"], joint[interval][:4])

    def width(line):
        low, high = line[interval].split(" [")[1].rstrip("]").split(", ")
        return float(high) - float(low)

    # Both scenes of each scan agree here, so the 1,000 are worth 500.
    assert width(joint) / width(alone) == pytest.approx(2**0.5, rel=0.1)
    assert float(joint["p"]) == pytest.approx(2 * 0.5**13, abs=1e-4)
    assert alone["p"] == "< 0.0001"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folders = [str(tmp_path_factory.mktemp(name)) for name in ("one", "two")]
    words = ["--plugin", PLUGIN, "--n", "48", "--attack", "pgd", "--steps", "2", "--quiet"]
    assert (
        run(["--model", "tiny-a.test", "--model", "tiny-b.test", *words, "--out", folders[0]]) == 0
    )
    assert run(["--model", "tiny-a.test", *words, "--eps", "4/255", "--out", folders[1]]) == 0
    return folders


def test_models_within_a_folder(results, capsys):
    assert main(["tiny-a.test", "tiny-b.test", "--results", results[0]]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "A = tiny-a.test, B = tiny-b.test" in out
    assert "| clean | 48 |" in out
    assert "pgd eps=8/255" in out


def test_folders(results, capsys):
    assert main([results[0], results[1], "--model", "tiny-a.test"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "| clean | 48 |" in out
    assert "| 0, 0 | 1.0000 |" in out
    assert "pgd" not in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tiny-c.test", "tiny-b.test"], "did you mean"),
        (["ONE", "TWO"], "choose with --model"),
        (["ONE", "tiny-b.test"], "two models or two folders"),
        (["tiny-a.test", "tiny-b.test", "--attack", "apgd"], "no attack and sample in common"),
    ],
)
def test_bad_input(results, capsys, words, sentence):
    named = {"ONE": results[0], "TWO": results[1]}
    words = [named.get(word, word) for word in words]
    assert main([*words, "--results", results[0]]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


def test_no_results(tmp_path, capsys):
    assert main(["a", "b", "--results", str(tmp_path)]) == 2
    assert "holds no results to compare" in capsys.readouterr().err
    assert main(["a", "b", "--results", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_options_are_documented():
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
