"""Training images per second of registered models, by time steps, image side and precision.

python benchmarks/training_speed.py [--model M ...] [--time-steps 1,2,4] [--sides 16,24,28,32]

Every figure stands beside its ratio to plain float32 training at the same T and side.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import arguments
import numpy as np
import torch

from robustbench_snn.adapter import load_model
from robustbench_snn.memory import keep_large_blocks
from robustbench_snn.models import neuron
from robustbench_snn.training.recipe import Recipe
from robustbench_snn.training.trainer import Pictures, Trainer, to_unit

SMALL = ["sdt-small.cifar10", "qkformer-small.cifar10", "spiliformer-small.cifar10"]
WAYS = {"float32": ("float32", "eager"), "--fast": ("bfloat16", "compiled")}
WARM, TIMED = 2, 6


def seconds_per_step(name: str, steps: int, side: int, way: str, batch: int) -> float:
    """Median seconds of one optimiser step on random images."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, 3, side, side), dtype=np.uint8)
    pictures = Pictures(pixels, rng.integers(0, 10, batch))
    precision, backend = WAYS[way]
    recipe = Recipe(epochs=1, batch_size=batch, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(load_model(name), recipe, pictures, pictures, Path(folder))
    trainer.model.time_steps = steps
    trainer.model.train()
    x = to_unit(pixels, trainer.device)
    y = torch.from_numpy(pictures.labels)
    neuron.use(backend)
    taken = []
    for _ in range(WARM + TIMED):
        started = time.perf_counter()
        trainer.step(x, y)
        taken.append(time.perf_counter() - started)
    neuron.use("eager")
    return float(np.median(taken[WARM:]))


def main() -> None:
    """Print one line per model, T and side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", action="append", type=arguments.model, help="default: the three small ones"
    )
    parser.add_argument("--time-steps", type=arguments.counts, default=[1, 2, 4], help="1,2,4")
    parser.add_argument(
        "--sides", type=arguments.counts, default=[16, 24, 28, 32], help="16,24,28,32"
    )
    parser.add_argument("--batch-size", type=arguments.count, default=64)
    parser.add_argument("--threads", type=arguments.count, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_large_blocks()
    batch = options.batch_size
    print("model T side float32 --fast ratio (images per second)")
    for name in options.model or SMALL:
        for steps in options.time_steps:
            for side in options.sides:
                taken = [seconds_per_step(name, steps, side, way, batch) for way in WAYS]
                plain, fast = (batch / seconds for seconds in taken)
                ratio = f"{fast / plain:.2f}"
                print(name, steps, side, f"{plain:.0f}", f"{fast:.0f}", ratio, flush=True)


if __name__ == "__main__":
    main()
