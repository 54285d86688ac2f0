"""Wherever tasks are evaluated, results are the same; dead workers cost time and nothing else."""

import signal
import subprocess
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import pytest
from run_process import PLUGIN, start

from robustbench_snn import RunConfig, make_spec, runner
from robustbench_snn.config import CLEAN
from robustbench_snn.errors import UsageError
from robustbench_snn.executors import choose
from robustbench_snn.executors.cluster import on_ray
from robustbench_snn.executors.processes import processes
from robustbench_snn.store import Results
from robustbench_snn.worker import Worker

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
PROCESSES = pytest.param(partial(processes, workers=2), id="processes")
RAY = partial(on_ray, workers=2)
SPREAD = [PROCESSES, pytest.param(RAY, id="ray", marks=needs_ray)]
SPREAD_SLOWLY = [PROCESSES, pytest.param(RAY, id="ray", marks=(needs_ray, pytest.mark.slow))]


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        models=("tiny-a.test", "tiny-b.test"),
        attacks=(CLEAN, *(make_spec("pgd", {"steps": steps}) for steps in (1, 3))),
        n=48,
        batch_size=8,
        shard_size=16,
        out=str(tmp_path / "out"),
        plugins=(str(PLUGIN),),
        device="cpu",
    )


def table(out):
    """All that a run says of its samples, under its content keys; not when or where it ran."""
    frame = Results.load(out).frame().sort_values("key")
    told = ["key", "sample_ids", "pred_clean", "pred_adv", "loss_adv", "margin_adv", "linf"]
    return [[list(v) if hasattr(v, "__len__") else v for v in row] for row in frame[told].values]


@pytest.mark.parametrize("executor", SPREAD)
def test_two_workers_equal_one_process_even_if_one_is_killed(
    config, tmp_path, monkeypatch, executor
):
    runner.run(config)
    die = tmp_path / "die"
    monkeypatch.setenv("TINY_DIE", str(die))
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: die.touch() or [])
    spread = replace(config, out=str(tmp_path / "spread"))
    rows = runner.run(spread, executor=executor)
    assert not die.exists()
    assert {row["status"] for row in rows} == {"ok"}
    retried = {(row["model"], row["start"]) for row in rows if row["worker_retries"]}
    assert len(retried) == 1
    assert len({row["run_id"] for row in rows}) == 1
    assert table(spread.out) == table(config.out)
    again = runner.run(spread, executor=executor)
    assert [row["started_at"] for row in again] == [row["started_at"] for row in rows]


@pytest.mark.parametrize("executor", SPREAD_SLOWLY)
def test_a_task_that_kills_every_worker_is_a_failed_shard(config, tmp_path, monkeypatch, executor):
    deadly = tmp_path / "deadly"
    monkeypatch.setenv("TINY_DEADLY", str(deadly))
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: deadly.touch() or [])
    one = replace(config, models=("tiny-a.test",), n=16, attacks=(CLEAN,))
    (row,) = runner.run(one, executor=partial(executor.func, workers=1))
    assert row["status"] == "failed"
    assert "3 workers died at it" in row["error"]
    assert row["worker_retries"] == 2


@pytest.mark.parametrize("executor", SPREAD_SLOWLY)
def test_mistakes_in_the_request_come_through(config, monkeypatch, executor):
    monkeypatch.setattr(runner, "check_models", lambda config, worker, todo: [])
    worker = Worker(config, "test")
    tasks = runner.prepare(config, worker, "test").todo
    worker.config = replace(config, dataset="no-such-data")
    with pytest.raises(UsageError, match="no-such-data"):
        list(executor(tasks, worker, lambda cells, done: None))


@pytest.mark.slow
def test_peak_memory_is_that_of_the_process_alone(config):
    ballast = bytearray(b"x" * 700_000_000)
    one = replace(config, models=("tiny-a.test",), attacks=(CLEAN,), n=16)
    (row,) = runner.run(one, executor=partial(processes, workers=1))
    assert 50_000_000 < row["peak_memory_bytes"] < len(ballast)


@pytest.mark.slow
def test_ticks_reach_the_driver(config):
    heard = []

    class Listener(runner.Silent):
        def tick(self, cells, done):
            heard.append((cells[0].key, done))

    one = replace(config, models=("tiny-a.test",), attacks=(make_spec("fgsm", {}),), n=32)
    rows = runner.run(one, Listener(), partial(processes, workers=2))
    assert sorted(heard) == sorted((row["key"], done) for row in rows for done in (0, 8, 16))


def test_processes_are_chosen_where_they_pay(config, monkeypatch):
    chosen = []
    monkeypatch.setattr(choose, "cores", lambda: 2)
    for name in ("inline", "processes"):
        monkeypatch.setattr(choose, name, lambda *given, name=name: chosen.append(name) or iter(()))
    worker = Worker(config, "test")
    tasks = runner.prepare(config, worker, "test").todo
    for seconds in (1.0, 1000.0):
        monkeypatch.setattr(choose, "seconds_left", lambda tasks, worker, s=seconds: s)
        choose.automatic(tasks, worker, lambda cells, done: None)
        choose.automatic(tasks[:1], worker, lambda cells, done: None)
    assert chosen == ["inline", "inline", "processes", "inline"]


def children(parent):
    done = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True
    )
    return [int(word) for word in done.stdout.split()]


def alive(pid):
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip()[:1] not in ("", "Z")


POLITE = [pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("number", [signal.SIGKILL, *POLITE])
def test_no_worker_outlives_the_run(tmp_path, number):
    words = ["--model", "tiny-a.test", "--n", "64", "--shard-size", "8", "--device", "cpu"]
    words += ["--attack", "pgd", "--steps", "3", "--out", tmp_path / "out"]
    run = start([*words, "--executor", "processes", "--workers", "2"], delay=0.2)
    while not list(tmp_path.rglob("*.parquet")):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    started = children(run.pid)
    assert len(started) >= 2
    run.send_signal(number)
    _, stderr = run.communicate(timeout=600)
    assert run.returncode == (-number if number == signal.SIGKILL else 130)
    assert "Traceback" not in stderr
    deadline = time.monotonic() + 300
    while any(alive(pid) for pid in started):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.05)


BAD = [
    ("--executor rey", "did you mean 'ray'"),
    ("--workers 0", "--workers"),
    ("--executor inline --workers 2", "belongs to --executor processes or ray"),
    ("--ray-address auto", "belongs to --executor ray"),
    ("--shard 5/4", "--shard '5/4' is not I/N"),
    ("--shard 1", "is not I/N"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words for words, _ in BAD])
def test_bad_input_is_one_sentence_and_code_2(tmp_path, capsys, words, message):
    from robustbench_snn.run import main

    assert main([*words.split(), "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_ray_that_is_not_installed_is_one_sentence(tmp_path, capsys, monkeypatch):
    from robustbench_snn import resolve
    from robustbench_snn.run import main

    monkeypatch.setattr(resolve, "find_spec", lambda name: None)
    assert main(["--executor", "ray", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Ray is not installed: pip install 'robustbench-snn[ray]'" in line


@needs_ray
def test_no_cluster_at_the_address_is_one_sentence(config, monkeypatch):
    import ray

    def refuse(**settings):
        raise ConnectionError("nobody is there")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UsageError, match=r"no Ray cluster answers at 'auto' \(nobody is there\)"):
        runner.run(config, executor=partial(on_ray, address="auto"))
