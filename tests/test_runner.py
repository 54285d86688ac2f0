import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_snn import AttackSpec, RunConfig, make_spec, runner
from robustbench_snn.attacks.base import Attack, Perturbed
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.specs import ATTACKS, AttackType, FGSMParams
from robustbench_snn.batching import fitting
from robustbench_snn.catalogue import load_plugin
from robustbench_snn.config import CLEAN
from robustbench_snn.errors import PreflightRefused, UsageError
from robustbench_snn.loading import open_model
from robustbench_snn.memory import bytes_free, bytes_used
from robustbench_snn.store import Results
from robustbench_snn.worker import Worker

PLUGIN = str(Path(__file__).parent / "tiny_models.py")
load_plugin(PLUGIN)

FGSM = make_spec("fgsm", {"eps": "2/255"})
PGD = [make_spec("pgd", {"eps": "2/255", "steps": steps}) for steps in (1, 3)]


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        models=("tiny-a.test",),
        attacks=(CLEAN, FGSM, *PGD),
        n=48,
        batch_size=16,
        shard_size=32,
        out=str(tmp_path / "out"),
        plugins=(PLUGIN,),
        device="cpu",
    )


def rows_of(config):
    return Results.load(config.out).frame().set_index(["attack_label", "start"])


def test_one_row_per_model_attack_and_shard(config):
    config = replace(config, models=("tiny-a.test", "tiny-b.test"))
    rows = runner.run(config)
    assert len(rows) == 2 * 4 * 2
    assert {row["status"] for row in rows} == {"ok"}
    frame = Results.load(config.out).frame()
    assert len(frame) == len(rows)
    assert frame.groupby(["model", "attack_label"])["n"].sum().unique().tolist() == [48]
    assert not frame.isna().drop(columns=gradient_columns(frame)).any(axis=None)


def gradient_columns(frame):
    """Columns a row on clean images, without gradients or without a checkout has no value for."""
    known = {"zero_grad_frac", "nonfinite_grad_frac", "zero_pixel_frac", "error", "severity"}
    kinds = ("git_", "corruption", "fast_")
    return [name for name in frame.columns if name in known or name.startswith(kinds)]


def test_outcomes_are_those_of_the_model_on_the_same_images(config):
    runner.run(config)
    frame = rows_of(config)
    worker = Worker(config, "check")
    model = worker.model("tiny-a.test")
    batch = worker.data(model.card).batch(range(32))
    x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
    row = frame.loc[(FGSM.label(), 0)]
    assert row["sample_ids"].tolist() == batch.ids
    assert row["labels"].tolist() == batch.y.tolist()
    with torch.no_grad():
        assert row["pred_clean"].tolist() == model(x).argmax(1).tolist()
    point = x.clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(point), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, point)
    with torch.no_grad():
        expected = model((x + 2 / 255 * gradient.sign()).clamp(0, 1)).argmax(1)
    assert row["pred_adv"].tolist() == expected.tolist()
    assert row["correct_adv"] == int((expected == y).sum())
    assert row["linf_max"] == pytest.approx(2 / 255, abs=1e-6)
    assert row["norm_ok"]
    assert row["range_ok"]


def test_attacks_share_work_and_say_so(config):
    runner.run(config)
    frame = rows_of(config)
    row = frame.loc[(PGD[1].label(), 0)]
    assert row["cost_shared_by"] == 2
    # Two batches: three gradients each, and each predicted once more.
    assert (row["forward_calls"], row["backward_calls"], row["gradients"]) == (8, 6, 96)
    assert frame.loc[(CLEAN.label(), 0)]["forward_calls"] == 2
    assert row["zero_grad_frac"] == 0.0
    assert row["repeat_logit_diff"] < 1e-4


def outcomes(config):
    samples = Results.load(config.out).samples()
    samples = samples.sort_values(["model", "attack_label", "sample_ids"])
    return samples[["attack_label", "sample_ids", "pred_clean", "pred_adv"]].to_numpy().tolist()


def test_neither_batch_nor_shard_nor_company_changes_outcomes(config, tmp_path):
    runner.run(config)
    other = replace(config, batch_size=7, shard_size=48, out=str(tmp_path / "other"))
    runner.run(other)
    assert outcomes(config) == outcomes(other)
    alone = replace(config, attacks=(PGD[0],), out=str(tmp_path / "alone"))
    runner.run(alone)
    label = PGD[0].label()
    assert outcomes(alone) == [row for row in outcomes(config) if row[0] == label]


def test_eps_zero_is_clean_accuracy(config):
    zero = tuple(make_spec(name, {"eps": 0}) for name in ("fgsm", "pgd"))
    runner.run(replace(config, attacks=zero))
    for row in Results.load(config.out).frame().to_dict("records"):
        assert row["pred_adv"].tolist() == row["pred_clean"].tolist()
        assert row["linf_max"] == 0.0


def test_finished_rows_are_not_computed_again(config):
    first = runner.run(config)
    stamps = {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*.parquet")}
    again = runner.run(replace(config, batch_size=5))
    assert [row["started_at"] for row in again] == [row["started_at"] for row in first]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    longer = runner.run(replace(config, n=64))
    kept = {row["key"] for row in first if row["stop"] == 32}
    assert kept < {row["key"] for row in longer}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_failed_shards_are_recorded_and_tried_again(config, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    monkeypatch.setenv("TINY_BREAK", str(broken))
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: broken.touch() or [])
    rows = runner.run(config)
    assert {row["status"] for row in rows} == {"failed"}
    assert {row["error"] for row in rows} == {"RuntimeError: the test broke it"}
    assert len(Results.load(config.out).failed()) == len(rows) == 8
    broken.unlink()
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: [])
    assert {row["status"] for row in runner.run(config)} == {"ok"}
    assert len(Results.load(config.out).failed()) == 0


def test_out_of_memory_halves_the_batch_and_is_recorded(config, tmp_path, monkeypatch):
    runner.run(config)
    small = replace(config, out=str(tmp_path / "small"))
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: [])
    monkeypatch.setenv("TINY_MEMORY", "8")
    rows = runner.run(replace(small, batch_size=32))
    assert {(row["batch_size"], row["oom_retries"]) for row in rows} == {(8, 2)}
    assert outcomes(small) == outcomes(config)


def test_the_batch_is_what_fits_into_free_memory(config, tmp_path, monkeypatch):
    small = replace(config, out=str(tmp_path / "small"), batch_size=32)
    monkeypatch.setattr("robustbench_snn.batching.bytes_used", lambda compute, device: 2000)
    monkeypatch.setattr("robustbench_snn.batching.bytes_free", lambda device: 10_000)
    rows = runner.run(small)
    assert {(row["batch_size"], row["oom_retries"]) for row in rows} == {(7, 0)}
    runner.run(config)
    assert outcomes(small) == outcomes(config)
    monkeypatch.setattr("robustbench_snn.batching.bytes_free", lambda device: None)
    unknown = runner.run(replace(small, out=str(tmp_path / "unknown")))
    assert {row["batch_size"] for row in unknown} == {32}


@pytest.mark.parametrize(
    ("used", "free", "share", "size"),
    [(200, 100_000, 1, 64), (2_000, 20_000, 1, 14), (2_000, 20_000, 2, 7), (9e9, 1, 1, 1)],
)
def test_a_batch_fills_seven_tenths_of_its_share_of_memory(used, free, share, size):
    assert fitting(64, int(used), 2, free, share) == size


@pytest.mark.parametrize(("used", "free"), [(None, 5), (5, None), (0, 5), (-3, 5)])
def test_without_a_measurement_the_batch_is_what_was_asked_for(used, free):
    assert fitting(64, used, 2, free) == 64


def test_what_a_computation_needs_is_measured_where_the_system_tells():
    work = [lambda size=size: torch.zeros(size << 20).add_(1) for size in (8, 64)]
    used = [bytes_used(compute, torch.device("cpu")) for compute in work]
    if None not in used:
        assert used[0] < used[1]
        assert used[1] > 200 << 20
    free = bytes_free(torch.device("cpu"))
    assert free is None or free > 0


def test_untrained_rows_are_flagged(config):
    rows = runner.run(config)
    assert all("untrained" in row["flags"] for row in rows)
    assert all(row["weights_sha256"].startswith("untrained:") for row in rows)


class Cheat(Attack):
    """Claims eps and returns black images."""

    def _run(self, model, x, y, ids, specs):
        return [Perturbed(torch.zeros_like(x), AttackHealth()) for _ in specs]


class Clumsy(Attack):
    """Returns images out of range."""

    def _run(self, model, x, y, ids, specs):
        return [Perturbed(x + float(spec.params["eps"]), AttackHealth()) for spec in specs]


for kind in (Cheat, Clumsy):
    ATTACKS.add(kind.__name__, AttackType(kind.__name__, FGSMParams, kind))


@pytest.mark.parametrize(("name", "flag"), [("Cheat", "norm"), ("Clumsy", "range")])
def test_broken_promises_are_flagged_and_gain_nothing(config, name, flag):
    rows = runner.run(replace(config, attacks=(AttackSpec(name, {"eps": 0.2}),)))
    assert all(flag in row["flags"] for row in rows)
    for row in Results.load(config.out).frame().to_dict("records"):
        invalid = ~row["valid"]
        assert invalid.any()
        assert np.array_equal(row["pred_adv"][invalid], row["pred_clean"][invalid])
        assert not row[f"{flag}_ok"]


def test_parameters_get_no_gradient_and_the_model_stays_in_eval_mode(config):
    worker = Worker(config, "check")
    session = runner.prepare(config, worker, "check")
    for task in session.todo:
        assert list(worker.run(task, lambda cells, done: None))
    model = worker.model("tiny-a.test")
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())


def test_a_refused_model_stops_everything(config, monkeypatch):
    def refuse(model, x, y, compare, losses):
        raise PreflightRefused(f"{model.card.name} forgets to reset")

    monkeypatch.setattr(runner, "preflight", refuse)
    both = replace(config, models=("tiny-a.test", "tiny-b.test"))
    with pytest.raises(PreflightRefused, match=r"tiny-a.test forgets.*\n.*tiny-b.test forgets"):
        runner.run(both)
    assert list(Path(config.out).rglob("*.parquet")) == []


def test_a_model_that_raises_at_once_is_refused(config, tmp_path, monkeypatch):
    (tmp_path / "broken").touch()
    monkeypatch.setenv("TINY_BREAK", str(tmp_path / "broken"))
    with pytest.raises(PreflightRefused, match=r"cannot answer .* the test broke it"):
        runner.run(config)


def test_preflight_fits_into_memory_too(config, monkeypatch):
    monkeypatch.setenv("TINY_MEMORY", "16")
    rows = runner.run(config)
    assert {row["status"] for row in rows} == {"ok"}


def test_mistakes_in_the_request_are_not_failed_shards(config, monkeypatch):
    def refuse(self, model, task):
        raise UsageError("the folder is gone: bring it back")

    monkeypatch.setattr(Worker, "_clean_pass", refuse)
    with pytest.raises(UsageError, match="bring it back"):
        runner.run(config)


def test_progress_hears_of_every_row(config):
    runner.run(replace(config, n=32))

    class Listener(runner.Silent):
        def __init__(self):
            self.rows, self.ticks, self.stopped = [], [], 0

        def start(self, session):
            self.session = session

        def tick(self, cells, done):
            self.ticks.append(done)

        def row(self, row):
            self.rows.append(row)

        def stop(self):
            self.stopped += 1

    listener = Listener()
    rows = runner.run(config, listener)
    assert sorted(r["key"] for r in listener.rows) == sorted(r["key"] for r in rows)
    assert (len(listener.session.tasks), len(listener.session.todo)) == (2, 1)
    assert listener.ticks == [16, 0, 16, 0, 16]
    assert listener.stopped == 1
    assert "sample_ids" not in rows[0]


def test_untrained_weights_are_the_same_every_time(config):
    first = open_model(config, "tiny-a.test", torch.device("cpu")).state_dict()
    second = open_model(config, "tiny-a.test", torch.device("cpu")).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def peak_memory(config):
    tracemalloc.start()
    runner.run(config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_n(config, tmp_path):
    small = replace(config, attacks=(FGSM,), n=64, out=str(tmp_path / "small"))
    large = replace(small, n=512, out=str(tmp_path / "large"))
    runner.run(small)
    # Eight times the samples may cost the few kilobytes that sixteen rows of scalars take.
    assert peak_memory(large) < peak_memory(replace(small, seed=1)) + 200_000
