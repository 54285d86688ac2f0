"""Suites and strong attacks asked for what cannot be: one sentence each, nothing written."""

from pathlib import Path

import pytest

from robustbench_snn.run import main as run

PLUGIN = str(Path(__file__).parent / "masked_models.py")

BAD = {
    "--suite reliabel": "did you mean 'reliable'",
    "--suite nowhere.toml": "cannot be read",
    "--suite reliable --attack pgd": "exclude each other",
    "--suite reliable --eps 300/255": "whose values lie in [0, 1].",
    "--suite reliable --eps 8": "8 grey levels are written 8/255",
    "--suite reliable --steps 3": "--steps and --suite exclude each other",
    "--suite reliable --shard 1/2": "a suite decides after each attack",
    "--suite reliable --plan": "depend on who is left",
    "--suite reliable --eps": "--eps needs a value: a decimal such as 0.03",
    "--suite": "--suite needs a value: paper, standard, reliable",
    "--suite reliable --eps 0": "leaves nothing to attack",
    "--suite reliable --model plain.test": "has no spiking units: use --suite standard",
    "--suite reliable --model random.test": "encodes images at random",
    "--suite reliable --corruption fog": "leave --corruption out",
    "--attack transfer --source qkformer-4-384.cifar10 --model control.test": "other classes",
    "--attack apgd --model random.test": "--eot 10 or more",
    "--attack fgsm --model random.test": "--eot 10 or more",
    "--attack apgd --estimator rga --model plain.test": "no spiking units",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_sentence(line, capsys, tmp_path):
    given = [*line.split(), "--plugin", PLUGIN, "--n", "8", "--out", str(tmp_path)]
    assert run(given) == 2
    err = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(err) == 1
    assert BAD[line] in err[0]
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_source_of_another_data_set_is_told_before_a_suite_begins(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('[[step]]\nname = "transfer"\nsource = "qkformer-4-384.cifar10"\n')
    given = ["--suite", str(path), "--model", "control.test", "--plugin", PLUGIN, "--n", "8"]
    assert run([*given, "--out", str(tmp_path), "--quiet"]) == 2
    assert "name a source of that data set" in capsys.readouterr().err


NOTHING = {
    "nothing at all": "",
    "clean alone": '[[full]]\nname = "clean"\n',
    "beyond its eps": '[[step]]\nname = "pgd-worst"\neps = "16/255"\n',
    "at eps 0": '[[full]]\nname = "pgd"\neps = 0\n',
    "other models of one": '[[step]]\nname = "transfer"\nsource = "others"\n',
    "no estimator": '[[step]]\nname = "apgd"\nestimator = "screen:1"\n',
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_suite_that_attacks_nothing_is_refused(name, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(NOTHING[name])
    given = ["--suite", str(path), "--model", "control.test", "--plugin", PLUGIN, "--n", "8"]
    assert run([*given, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "runs no attack within its eps of 8/255 on 'control.test'" in said
    assert not (tmp_path / "out").exists()


def test_a_suite_none_of_whose_attacks_apply_is_refused(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('[[step]]\nname = "apgd"\nestimator = "rga"\nsteps = 1\n[probes]\nn = 0\n')
    given = ["--suite", str(path), "--model", "plain.test", "--plugin", PLUGIN, "--n", "8"]
    assert run([*given, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "would be clean accuracy: gradient estimator 'rga" in capsys.readouterr().err


def test_an_attack_in_another_norm_needs_its_own_eps_in_a_suite(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('[[step]]\nname = "square"\nnorm = "l2"\n')
    given = ["--suite", str(path), "--model", "control.test", "--plugin", PLUGIN, "--n", "8"]
    assert run([*given, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "bounded in l2, and the suite's eps of 8/255 is meant in linf" in capsys.readouterr().err
