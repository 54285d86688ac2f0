"""Cost of Table 4 the obvious way and ours, side by side on the same weights and images.

    python benchmarks/table4_cost.py [MODEL ...] [--n 16] [--batch 16] [--fast none,early-stop]

The obvious way: torchattacks, four FGSM and four PGD runs, spikingjelly's own neuron, the image
repeated T times, memory as the C library hands it out, one process with a thread per core. Ours:
what `robustbench_snn.run` does for the same attacks, one process per core with one thread. Pieces
alternate, so that other load on the machine meets both. Both get the same random starts. Several
levels of --fast are compared with one run of the obvious way. Seconds are wall time; on a machine
with other work, --cores 1 and its processor time are steadier. Memory is the peak of a side's
processes together. Images are those of the model's data set, or noise where it is not at hand.

Outcomes are compared one by one: each image under each attack, predicted right or wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import arguments
import torch
import torchattacks
from spikingjelly.activation_based import neuron as spikingjelly
from torch import Tensor

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.attacks import build
from robustbench_snn.attacks.base import uniform_noise
from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.config import FAST
from robustbench_snn.data import load_dataset
from robustbench_snn.errors import UsageError
from robustbench_snn.executors.processes import cores
from robustbench_snn.memory import keep_large_blocks
from robustbench_snn.models import neuron
from robustbench_snn.models.fast import narrow
from robustbench_snn.models.neuron import LIF

SHIPPED = ("qkformer-tiny.digit-scenes", "sdt-tiny.digit-scenes", "spiliformer-tiny.digit-scenes")
FGSM_EPS = (0.05, 0.1, 0.2, 0.3)
PGD_EPS, PGD_STEP, PGD_STEPS = 8 / 255, 2 / 255, (5, 10, 30, 50)


@dataclass
class Piece:
    """What one side did with one batch.

    Attributes:
        seconds, processor: wall time and processor time.
        gradients: input gradients of single images.
        predicted: int64 [9, B], on clean images and after each attack.
        labels: int64 [B].
        memory: peak of the process so far, bytes.
    """

    seconds: float
    processor: float
    gradients: int
    predicted: Tensor
    labels: Tensor
    memory: int


def images(model: ModelAdapter, n: int, data_dir: str | None) -> tuple[Tensor, Tensor, list[str]]:
    """The first ``n`` images, labels and ids of the model's data set, or noise."""
    card = model.card
    if card.dataset == "digit-scenes" or data_dir:
        folder = Path(data_dir) if data_dir else None
        batch = load_dataset(card.dataset, "test", folder, card.preprocess).batch(range(n))
        return torch.from_numpy(batch.x), torch.from_numpy(batch.y), list(batch.ids)
    ids = [f"noise/{i}" for i in range(n)]
    x = uniform_noise(0, ids, card.input_shape).add(1).div(2)
    with torch.no_grad():
        return x, model(x).argmax(1), ids


def load(name: str) -> ModelAdapter:
    """The model; where it has no trained weights, the same random ones every time.

    Batch norms of random weights take their statistics from noise: else no neuron would fire.
    """
    torch.manual_seed(0)
    model = load_model(name)
    if model.card.checkpoint:
        return model
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    noise = torch.rand(4, *model.card.input_shape, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    # The statistics must not depend on how many threads a side has.
    torch.set_num_threads(1)
    with torch.no_grad():
        model.train()(noise)
    torch.set_num_threads(threads)
    return model.eval()


class Obvious:
    """torchattacks on spikingjelly's neurons, one run per number of the table."""

    def __init__(self, name: str, fast: str) -> None:
        self.model = load(name)
        self.model.requires_grad_(True)
        for unit in self.model.modules():
            if type(unit) is LIF:
                unit.__class__ = spikingjelly.LIFNode
        steps = self.model.time_steps
        if len(self.model.card.input_shape) == 3:
            self.model.encode = lambda x: x.unsqueeze(0).repeat(steps, 1, 1, 1, 1)

    def __call__(self, x: Tensor, y: Tensor, ids: Sequence[str]) -> tuple[int, list[Tensor]]:
        attacks = [torchattacks.FGSM(self.model, eps=eps) for eps in FGSM_EPS]
        attacks += [
            torchattacks.PGD(self.model, eps=PGD_EPS, alpha=PGD_STEP, steps=steps)
            for steps in PGD_STEPS
        ]
        start = PGD_EPS * uniform_noise(0, ids, x.shape[1:])
        found = [self.predict(x)]
        with mock.patch.object(Tensor, "uniform_", lambda empty, low, high: empty.copy_(start)):
            found += [self.predict(attack(x, y)) for attack in attacks]
        return len(x) * (len(FGSM_EPS) + sum(PGD_STEPS)), found

    def predict(self, x: Tensor) -> Tensor:
        """Classes [B]."""
        with torch.no_grad():
            return self.model(x).argmax(1)


class Ours:
    """One gradient for all of FGSM, one trajectory for all of PGD, compiled neurons."""

    def __init__(self, name: str, fast: str) -> None:
        keep_large_blocks()
        neuron.use("native")
        self.model = load(name)
        self.attacked = narrow(load(name)) if fast == "bf16" else self.model
        self.early_stop = fast == "early-stop"
        step = {"eps": PGD_EPS, "step_size": PGD_STEP}
        self.groups = [
            [make_spec("fgsm", {"eps": eps}) for eps in FGSM_EPS],
            [make_spec("pgd", {**step, "steps": steps}) for steps in PGD_STEPS],
        ]

    def __call__(self, x: Tensor, y: Tensor, ids: Sequence[str]) -> tuple[int, list[Tensor]]:
        found, gradients = [self.predict(x)], 0
        for specs in self.groups:
            attack = build(specs[0].name)
            attack.early_stop = self.early_stop
            results = attack.run(self.attacked, x, y, ids, specs)
            gradients += results[-1].health.gradients
            found += [self.predict(result.x) for result in results]
        return gradients, found

    def predict(self, x: Tensor) -> Tensor:
        """Classes [B]."""
        with torch.no_grad():
            return self.model(x).argmax(1)


def serve(pipe: Connection, kind: type[Obvious | Ours], options: dict[str, Any]) -> None:
    """One side: answer each (first, last) with a Piece."""
    torch.set_num_threads(options["threads"])
    side = kind(options["model"], options["fast"])
    x, y, ids = images(load(options["model"]), options["n"], options["data_dir"])
    pipe.send("ready")
    while (place := pipe.recv()) is not None:
        piece = slice(*place)
        begun = time.perf_counter(), time.process_time()
        gradients, predicted = side(x[piece], y[piece], ids[piece])
        spent = time.perf_counter() - begun[0], time.process_time() - begun[1]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pipe.send(Piece(*spent, gradients, torch.stack(predicted), y[piece], memory))


class Side:
    """Processes that share each piece of the work.

    Args:
        kind, options: what each does.
        count: how many.
        threads: of each.
    """

    def __init__(
        self, kind: type[Obvious | Ours], options: dict[str, Any], count: int, threads: int
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes = []
        for _ in range(count):
            pipe, theirs = context.Pipe()
            given = {**options, "threads": threads}
            context.Process(target=serve, args=(theirs, kind, given), daemon=True).start()
            # Held open here, it would keep the end of a process that failed from being seen.
            theirs.close()
            self.pipes.append(pipe)
        try:
            for pipe in self.pipes:
                pipe.recv()
        except EOFError:
            raise UsageError(f"a process of {kind.__name__} failed, as it says above.") from None

    def run(self, start: int, stop: int) -> Piece:
        """Images ``start`` to ``stop - 1``, an equal part in each process."""
        count = len(self.pipes)
        edges = [start + (stop - start) * i // count for i in range(count + 1)]
        begun = time.perf_counter()
        for pipe, first, last in zip(self.pipes, edges[:-1], edges[1:], strict=True):
            pipe.send((first, last))
        parts: list[Piece] = [pipe.recv() for pipe in self.pipes]
        return Piece(
            time.perf_counter() - begun,
            sum(part.processor for part in parts),
            sum(part.gradients for part in parts),
            torch.cat([part.predicted for part in parts], 1),
            torch.cat([part.labels for part in parts]),
            sum(part.memory for part in parts),
        )

    def stop(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            pipe.send(None)


def compare(options: dict[str, Any], levels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Run both sides on one model: for each level the ratios of the obvious way to ours."""
    count = options["cores"]
    sides = [Side(Obvious, {**options, "fast": "none"}, 1, count)]
    sides += [Side(Ours, {**options, "fast": level}, count, 1) for level in levels]
    pieces: list[list[Piece]] = [[] for _ in sides]
    for i, start in enumerate(range(0, options["n"], options["batch"])):
        for side in range(len(sides))[:: -1 if i % 2 else 1]:
            stop = min(start + options["batch"], options["n"])
            pieces[side].append(sides[side].run(start, stop))
    for ended in sides:
        ended.stop()
    return {
        level: ratios({**options, "fast": level}, pieces[0], ours)
        for level, ours in zip(levels, pieces[1:], strict=True)
    }


def ratios(options: dict[str, Any], obvious: list[Piece], ours: list[Piece]) -> dict[str, float]:
    """Print both sides of one model; the figures of the last line."""
    seconds, processor, gradients, memory = (
        [sum(p.seconds for p in side) for side in (obvious, ours)],
        [sum(p.processor for p in side) for side in (obvious, ours)],
        [sum(p.gradients for p in side) for side in (obvious, ours)],
        [max(p.memory for p in side) for side in (obvious, ours)],
    )
    classes = [torch.cat([p.predicted for p in side], 1) for side in (obvious, ours)]
    labels = torch.cat([p.labels for p in obvious])
    right = [found == labels for found in classes]
    print(
        f"\n{options['model']}: n={options['n']}, batch {options['batch']}, fast {options['fast']}"
    )
    for name, side in (("obvious", 0), ("ours", 1)):
        each = [f"{100 * v:.1f}" for v in right[side].float().mean(1).tolist()]
        print(
            f"  {name:8s}{seconds[side]:9.1f} s, {processor[side]:.1f} s of processor "
            f"{gradients[side]:7d} gradients "
            f"{memory[side] / 2**20:7.0f} MiB  accuracies % {' '.join(each)}"
        )
    print(f"  ratio of processor time {processor[0] / processor[1]:.4g}")
    same = (classes[0] == classes[1]).float().mean().item()
    print(f"  the same class predicted in {100 * same:.2f} % of {classes[0].numel()} answers")
    found = {
        "time_ratio": seconds[0] / seconds[1],
        "gradient_ratio": gradients[0] / gradients[1],
        "memory_ratio": memory[0] / memory[1],
        "agreement": (right[0] == right[1]).float().mean().item(),
    }
    print("  " + line(found), flush=True)
    return found


def main() -> None:
    """Compare both ways on every model; the last line holds the worst of each figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=arguments.model, default=SHIPPED, metavar="MODEL")
    parser.add_argument("--n", type=arguments.count, default=16, help="images (16)")
    parser.add_argument(
        "--batch", type=arguments.count, default=16, help="images at a time, both ways (16)"
    )
    parser.add_argument("--fast", default="none", help="levels of ours, with commas (none)")
    parser.add_argument(
        "--cores", type=arguments.count, default=cores(), help="each side may use (all)"
    )
    parser.add_argument("--data-dir", help="folder with the models' data set")
    given = vars(parser.parse_args())
    levels = given.pop("fast").split(",")
    if unknown := set(levels) - set(FAST):
        parser.error(f"unknown level {', '.join(sorted(unknown))}: use {', '.join(FAST)}")
    found = []
    for name in given.pop("models"):
        try:
            found.append(compare({**given, "model": name}, levels))
        except UsageError as error:
            parser.error(str(error))
    for level in levels:
        figures = [one[level] for one in found]
        print(f"\nworst of {len(found)} models, fast {level}:")
        print(line({key: min(one[key] for one in figures) for key in figures[0]}), flush=True)


def line(figures: dict[str, float]) -> str:
    """``time_ratio=… gradient_ratio=… memory_ratio=… agreement=…``"""
    return " ".join(f"{key}={value:.4g}" for key, value in figures.items())


if __name__ == "__main__":
    main()
