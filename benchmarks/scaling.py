"""Cost against samples, T, image size, steps and workers, each around one middle setting.

    python benchmarks/scaling.py [--model qkformer-tiny.digit-scenes] [--seconds 2]

Seconds of an input gradient per image on one thread (processor time), on noise; with random
weights where T or the image size differ from the trained ones, which costs the same. Workers:
wall time of a whole run through the executor, start included.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from functools import partial

import arguments
import torch

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.attacks import build
from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.config import RunConfig
from robustbench_snn.executors.processes import cores, processes
from robustbench_snn.memory import keep_large_blocks
from robustbench_snn.models import neuron
from robustbench_snn.runner import inline, run


def seconds(model: ModelAdapter, n: int, side: int, steps: int, batch: int, budget: float) -> float:
    """Processor time of PGD on ``n`` images of ``side`` pixels; the least within ``budget``."""
    x = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(n, dtype=torch.int64)
    spec, attack = make_spec("pgd", {"steps": steps}), build("pgd")
    best, end = float("inf"), time.process_time() + budget
    while time.process_time() < end or best == float("inf"):
        begun = time.process_time()
        for at in range(0, n, batch):
            piece = slice(at, at + batch)
            attack.run(model, x[piece], y[piece], [str(i) for i in range(n)][piece], [spec])
        best = min(best, time.process_time() - begun)
    return best


def show(name: str, value: int, spent: float, n: int, steps: int) -> None:
    """One line: seconds in all, and milliseconds per image and gradient."""
    print(f"{name:>10s} {value:5d} {spent:9.2f} s {1e3 * spent / n / steps:8.2f} ms/gradient")


def curves(name: str, budget: float) -> None:
    """One quantity at a time; the others stay in the middle."""
    model = load_model(name)
    middle = {"n": 16, "side": 32, "steps": 2, "batch": 16}
    model_steps = model.time_steps
    for key, values in (
        ("n", (8, 16, 32, 64)),
        ("batch", (1, 4, 16, 64)),
        ("side", (16, 32, 64)),
        ("steps", (1, 2, 4, 8)),
        ("T", (1, 2, 4, 8)),
    ):
        for value in values:
            given = middle | ({key: value} if key != "T" else {})
            given["n"] = max(given["n"], given["batch"])
            model.time_steps = value if key == "T" else model_steps
            spent = seconds(model, **given, budget=budget)
            show(key, value, spent, given["n"], given["steps"])
    model.time_steps = model_steps
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {memory:.0f} MiB")


def workers(name: str, n: int) -> None:
    """A whole run in this process and in one to ``cores()`` others."""
    config = RunConfig((name,), (make_spec("pgd", {"steps": 5}),), n=n, shard_size=32, device="cpu")
    executors = [("inline", inline)]
    executors += [(f"{k} processes", partial(processes, workers=k)) for k in range(1, cores() + 1)]
    for label, executor in executors:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            run(replace(config, out=folder), executor=executor)
            print(f"{label:>16s} {time.perf_counter() - begun:9.1f} s for {n} images, PGD-5")


def main() -> None:
    """Print all curves of one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=arguments.model, default="qkformer-tiny.digit-scenes")
    parser.add_argument(
        "--seconds", type=arguments.seconds, default=2.0, help="budget of a measurement (2)"
    )
    parser.add_argument(
        "--n", type=arguments.count, default=256, help="images of the runs with workers (256)"
    )
    given = parser.parse_args()
    keep_large_blocks()
    neuron.use("native")
    torch.set_num_threads(1)
    print(f"{given.model}, one thread")
    curves(given.model, given.seconds)
    torch.set_num_threads(cores())
    workers(given.model, given.n)


if __name__ == "__main__":
    main()
