"""The final table of a run says what samples are worth that show the same object."""

import pytest

from robustbench_snn.data import sample_groups
from robustbench_snn.metrics import Accuracy
from robustbench_snn.run import main as run
from robustbench_snn.store import Results

PLUGIN = "tests/tiny_models.py"


def cell(line, column=3):
    return line.split("|")[column + 1].strip()


@pytest.mark.parametrize(("n", "repeats"), [(48, False), (560, True)])
def test_intervals_of_the_run_table(tmp_path, capsys, n, repeats):
    words = ["--plugin", PLUGIN, "--model", "tiny-a.test", "--attack", "fgsm", "--eps", "1/255"]
    words += ["--n", str(n), "--shard-size", "256", "--out", str(tmp_path), "--quiet"]
    assert run([*words, "--executor", "inline"]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("| tiny-a.test"))
    samples = Results.load(tmp_path).samples()
    groups = sample_groups("digit-scenes", list(samples["sample_ids"]))
    assert (groups is not None) == repeats
    assert (f"allowing for {n} samples that show 500 objects" in out) == repeats
    for at, column in ((3, "correct_clean"), (4, "correct_adv")):
        accuracy = Accuracy.of(samples[column].to_numpy(), groups)
        low, high = accuracy.interval
        assert cell(line, at) == f"{100 * accuracy.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def test_a_table_of_corruptions_counts_every_object_once(tmp_path, capsys):
    words = ["--plugin", PLUGIN, "--model", "tiny-a.test", "--corruption", "brightness"]
    words += ["--severity", "1", "--n", "520", "--out", str(tmp_path), "--quiet"]
    assert run([*words, "--executor", "inline"]) == 0
    assert "each of their 500 objects once" in capsys.readouterr().out
