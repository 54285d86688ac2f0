"""Where cross-entropy is saturated, only what follows its gradient is refused, with the cause."""

from pathlib import Path

import pytest

from robustbench_snn.attacks import make_spec
from robustbench_snn.attacks.specs import climbed
from robustbench_snn.config import CLEAN
from robustbench_snn.run import main as run
from robustbench_snn.suites.stored import suite_rows
from robustbench_snn.suites.tables import findings

PLUGIN = str(Path(__file__).parent / "confident_models.py")


@pytest.mark.parametrize(
    ("name", "options", "losses"),
    [
        ("pgd", {}, ("ce",)),
        ("apgd", {"loss": "dlr"}, ("margin",)),
        ("apgd", {"loss": "dlr-targeted"}, ("margin",)),
        ("pgd-worst", {"loss": "margin"}, ("margin",)),
        ("square", {}, ()),
        ("noise", {}, ()),
        ("transfer", {}, ()),
        ("torchattacks:PGD", {}, ("ce",)),
        ("torchattacks:Square", {}, ()),
        ("torchattacks:CW", {}, ("margin",)),
        ("torchattacks:APGD", {"loss": "dlr"}, ("margin",)),
    ],
)
def test_which_gradient_an_attack_follows(name, options, losses):
    assert climbed([CLEAN, make_spec(name, options)]) == losses


@pytest.fixture
def words(tmp_path):
    where = ["--plugin", PLUGIN, "--n", "16", "--out", str(tmp_path), "--quiet"]
    return ["--model", "confident.test", *where]


def test_a_run_goes_on_without_cross_entropy(words, capsys):
    inline = ["--executor", "inline"]
    for asked in (["clean"], ["square", "--queries", "2"], ["apgd", "--loss", "dlr", "--steps=2"]):
        assert run([*words, "--attack", *asked, *inline]) == 0
    capsys.readouterr()
    assert run([*words, "--attack", "pgd", *inline]) == 4
    told = capsys.readouterr().err
    assert "cross-entropy is saturated" in told
    assert "--loss dlr or margin, or square" in told
    assert "wrong crop" not in told


def test_a_suite_goes_on_with_the_other_losses_and_flags_it(words, tmp_path):
    suite = tmp_path / "two.toml"
    suite.write_text(
        'suite = "two"\n[probes]\nn = 8\nqueries = 2\n[[full]]\nname = "pgd"\nsteps = 2\n'
        '[[step]]\nname = "apgd"\nloss = "dlr"\nsteps = 10\n'
    )
    assert run(["--suite", str(suite), *words]) == 0
    row = suite_rows(tmp_path, "two")[0]
    assert sum(row["plain"]) > sum(row["robust"]) == 0
    assert {"D10!", "D14"} <= set(row["flags"])
    assert {f["id"] for f in findings(row)} >= {"D10", "D14"}


def test_a_suite_of_cross_entropy_alone_is_refused(words, tmp_path, capsys):
    suite = tmp_path / "one.toml"
    suite.write_text('suite = "one"\n[probes]\nn = 0\n[[step]]\nname = "apgd"\nsteps = 2\n')
    assert run(["--suite", str(suite), *words]) == 4
    assert "cross-entropy is saturated" in capsys.readouterr().err
