"""Faster gradients: named, flagged, kept apart from exact results, and judged in float32."""

import io
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustbench_snn import RunConfig, make_spec, runner
from robustbench_snn.adapter import load_model
from robustbench_snn.attacks import build
from robustbench_snn.attacks.base import cross_entropy_gradient
from robustbench_snn.config import CLEAN
from robustbench_snn.data import load_dataset
from robustbench_snn.models import neuron
from robustbench_snn.models.fast import narrow
from robustbench_snn.report.screen import print_table
from robustbench_snn.report.summary import caption, lines
from robustbench_snn.store import Results

PGD = make_spec("pgd", {"steps": 2})
SHIPPED = ["qkformer-tiny.digit-scenes", "sdt-tiny.digit-scenes", "spiliformer-tiny.digit-scenes"]


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        models=SHIPPED[:1],
        attacks=(CLEAN, PGD),
        n=12,
        batch_size=6,
        shard_size=8,
        out=str(tmp_path / "out"),
        device="cpu",
        fast="bf16",
    )


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("kind", ["eager", "native"])
def test_gradients_point_where_the_exact_ones_do(name, kind):
    found = load_dataset("digit-scenes").batch(range(16))
    x, y = torch.from_numpy(found.x), torch.from_numpy(found.y)
    neuron.use(kind)
    try:
        exact, model = load_model(name), narrow(load_model(name))
        with torch.no_grad():
            assert (exact(x).argmax(1) == model(x).argmax(1)).sum() >= 14
        a, b = (cross_entropy_gradient(m, x, y).flatten(1) for m in (exact, model))
    finally:
        neuron.use("eager")
    assert b.dtype == torch.float32
    # Spikes near the threshold flip, so that the direction is kept and the value is not.
    assert torch.cosine_similarity(a, b).median() > 0.5
    assert not torch.equal(a, b)


def test_fast_rows_have_keys_of_their_own_and_clean_accuracy_does_not(config, monkeypatch):
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: [])
    exact = runner.run(replace(config, fast="none"))
    rows = runner.run(config)
    pairs = list(zip(exact, rows, strict=True))
    assert [(a["attack"], a["key"] == b["key"]) for a, b in pairs] == 2 * [
        ("clean", True),
        ("pgd", False),
    ]
    fast = [row for row in rows if row["attack"] == "pgd"]
    assert {row["precision"] for row in fast} == {"bfloat16 gradients"}
    assert [row["fast_checked"] for row in fast] == [8, 4]
    assert all(0 < row["fast_agree"] <= row["fast_checked"] for row in fast)
    assert all("fast" in row["flags"] for row in fast)
    assert not any("fast" in row["flags"] for row in exact)
    samples = Results.load(config.out).samples()
    assert len(samples) == 24
    assert set(samples["precision"]) == {"float32"}


def test_predictions_are_those_of_the_exact_model(config, monkeypatch):
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: [])

    def silent(model):
        for parameter in model.parameters():
            parameter.zero_()
        return model

    monkeypatch.setattr("robustbench_snn.worker.narrow", silent)
    rows = runner.run(config)
    # The network attacked answers nothing, so the attack fails and the exact one stays right.
    assert [row["correct_adv"] >= row["correct_clean"] - 2 for row in rows] == [True] * 4


def test_the_table_says_what_was_fast_and_how_far_it_agrees(config, monkeypatch):
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: [])
    rows = runner.run(config)
    shown = io.StringIO()
    with redirect_stdout(shown):
        print_table(lines(rows), config, caption(config, rows))
    agree = sum(row.get("fast_agree", 0) for row in rows)
    assert f"{100 * agree / 12:.1f} % of 12" in shown.getvalue()
    assert "bfloat16 gradients: attacks follow gradients of lower precision" in shown.getvalue()
    exact = runner.run(replace(config, fast="none"))
    shown = io.StringIO()
    with redirect_stdout(shown):
        print_table(lines(exact), config, caption(config, exact))
    assert "agreement" not in shown.getvalue()


def images(count):
    found = load_dataset("digit-scenes").batch(range(count))
    return torch.from_numpy(found.x), torch.from_numpy(found.y), list(found.ids)


def test_samples_stay_at_their_first_wrong_answer():
    model, (x, y, ids) = load_model(SHIPPED[0]), images(12)
    specs = [make_spec("pgd", {"steps": steps, "eps": 4 / 255}) for steps in range(1, 8)]
    exact, attack = build("pgd"), build("pgd")
    attack.early_stop = True
    full, stopped = exact.run(model, x, y, ids, specs), attack.run(model, x, y, ids, specs)
    with torch.no_grad():
        start = attack.start(x, ids, 4 / 255, (0.0, 1.0))
        wrong = [model(point).argmax(1) != y for point in [start, *(each.x for each in full)]]
    gradients, live = 0, torch.ones(len(x), dtype=torch.bool)
    last = start
    for step, found in enumerate(stopped):
        gradients += int(live.sum())
        live &= ~wrong[step]
        assert torch.equal(found.x[live], full[step].x[live])
        assert torch.equal(found.x[~live], last[~live])
        assert found.health.gradients == gradients
        last = found.x
    assert 0 < live.sum() < len(x)
    assert full[-1].health.gradients == 7 * len(x) > gradients


@pytest.mark.parametrize("mixed", [True, False])
def test_nothing_stops_early_where_a_sample_cannot_be_judged_alone(mixed):
    model, (x, y, ids) = load_model(SHIPPED[0]), images(6)
    if mixed:
        model = load_model(SHIPPED[0], model_args={"ssa_proj_lif": "official"})
    else:
        model.stochastic = True
    attack = build("pgd")
    attack.early_stop = True
    (found,) = attack.run(model, x, y, ids, [make_spec("pgd", {"steps": 5})])
    assert found.health.gradients == 30


def test_early_stop_is_named_and_kept_apart_for_pgd_alone(config, monkeypatch):
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: [])
    attacks = (make_spec("fgsm"), make_spec("pgd", {"steps": 4}))
    config = replace(config, attacks=attacks, fast="early-stop", shard_size=12)
    exact, rows = runner.run(replace(config, fast="none")), runner.run(config)
    assert [a["key"] == b["key"] for a, b in zip(exact, rows, strict=True)] == [True, False]
    assert [row["precision"] for row in rows] == ["float32", "float32, early stop"]
    assert "fast" in rows[1]["flags"]
    assert "fast" not in rows[0]["flags"]
    assert rows[1]["gradients"] < exact[1]["gradients"]
    shown = io.StringIO()
    with redirect_stdout(shown):
        print_table(lines(rows), config, caption(config, rows))
    assert "float32, early stop: pgd leaves a sample at its first" in shown.getvalue()


@pytest.mark.parametrize("option", ["--fast", "--executor", "--workers", "--shard"])
def test_suites_are_exact_and_in_one_process(tmp_path, capsys, option):
    from robustbench_snn.run import main

    assert main(["--suite", "paper", option, "2", "--out", str(tmp_path)]) == 2
    assert f"{option} and --suite exclude each other" in capsys.readouterr().err


def test_an_unknown_level_is_one_sentence(tmp_path: Path, capsys):
    from robustbench_snn.run import main

    assert main(["--fast", "bf17", "--out", str(tmp_path)]) == 2
    assert "unknown level 'bf17' of --fast: did you mean 'bf16'" in capsys.readouterr().err
