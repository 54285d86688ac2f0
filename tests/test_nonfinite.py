"""A network that answers NaN or infinity away from its clean images is not robust to anything."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from attack_nets import conv_net, images
from torch import nn

from robustbench_snn.attacks import ATTACKS, build, make_spec
from robustbench_snn.attacks.losses import answers, margin, wrong
from robustbench_snn.measure import Budget, measure, score
from robustbench_snn.run import main as run
from robustbench_snn.store import Results
from robustbench_snn.suites.stored import suite_rows
from robustbench_snn.suites.tables import findings

PLUGIN = str(Path(__file__).parent / "odd_models.py")


class Lost(nn.Module):
    """Another network's logits on ``known`` images, ``value`` in one class everywhere else."""

    def __init__(self, net, known, value):
        super().__init__()
        self.net, self.known, self.value = net, known, value

    def forward(self, x):
        logits = self.net(x)
        near = (x[:, None] - self.known[None]).abs().flatten(2).amax(2) < 1e-6
        lost = torch.full_like(logits, self.value)
        changed = torch.where(torch.arange(logits.shape[1]) == 2, lost, logits)
        return torch.where(near.any(1)[:, None], logits, changed + 0 * logits)


def test_an_answer_that_is_not_finite_is_no_class_and_the_worst_margin():
    logits = torch.tensor([[3.0, 1.0], [math.nan, 1.0], [math.inf, 0.0], [0.0, -math.inf]])
    y = torch.zeros(4, dtype=torch.int64)
    assert answers(logits).tolist() == [0, -1, -1, -1]
    assert wrong(logits, y).tolist() == [False, True, True, True]
    assert margin(logits, y).tolist() == [2.0, -math.inf, -math.inf, -math.inf]
    scores = score(logits, y)
    assert scores.predicted.tolist() == [0, -1, -1, -1]
    assert np.isinf(scores.loss[1:]).all()


NAMES = [name for name in ATTACKS.names() if name not in ("clean", "transfer")]
NAMES += ["torchattacks:PGD", "torchattacks:FGSM"]
OPTIONS = {"steps": 3, "queries": 4, "draws": 2}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_every_attack_counts_it_as_wrong(name, value):
    x, _, ids = images(6)
    net = conv_net()
    y, model = net(x).argmax(1), Lost(net, x, value)
    known = make_spec(name).params
    spec = make_spec(name, {key: v for key, v in OPTIONS.items() if key in known} | {"eps": 0.01})
    found = build(name, 0).run(model, x, y, ids, [spec])[0]
    assert found.x.isfinite().all()
    measured = measure(model, x, found.x, y, Budget("linf", 0.01, 1.0))
    assert measured.within.all()
    assert (measured.scores.predicted == -1).all(), measured.scores.predicted
    early = build("pgd", 0)
    early.early_stop = True
    stopped = early.run(model, x, y, ids, [make_spec("pgd", {"steps": 3, "eps": 0.01})])[0]
    assert wrong(model(stopped.x), y).all()


@pytest.fixture
def words(tmp_path):
    where = ["--plugin", PLUGIN, "--out", str(tmp_path / "r"), "--n", "16", "--quiet"]
    return ["--model", "odd.test", *where]


def test_a_run_counts_and_flags_it(words, tmp_path, capsys):
    asked = ["--attack", "square", "--queries", "3", "--eps", "0.01", "--attack", "clean"]
    assert run([*words, *asked, "--executor", "inline"]) == 0
    frame = Results.load(tmp_path / "r").frame().set_index("attack")
    assert frame.loc["square", "correct_adv"] == 0
    assert frame.loc["square", "nonfinite_answers"] == frame.loc["clean", "correct_clean"] > 8
    assert frame.loc["clean", "nonfinite_answers"] == 0
    assert "nonfinite-answer" in frame.loc["square", "flags"]
    assert "nonfinite-answer" not in frame.loc["clean", "flags"]
    assert "nonfinite-answer" in capsys.readouterr().out


def test_a_suite_names_it(words, tmp_path):
    suite = tmp_path / "odd.toml"
    suite.write_text(
        'suite = "odd"\neps = "2/255"\n[probes]\nn = 8\nqueries = 3\n'
        '[[step]]\nname = "noise"\ndraws = 1\n'
    )
    assert run(["--suite", str(suite), *words]) == 0
    row = suite_rows(tmp_path / "r")[0]
    assert sum(row["robust"]) == 0
    assert {"D21!", "nonfinite-answer"} <= set(row["flags"])
    finding = next(record for record in findings(row) if record["id"] == "D21")
    assert "samples under" in finding["figure"]
