"""``python -m robustbench_snn.train``: the recipe behind every shipped checkpoint."""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_snn.attacks.values import parse_count
from robustbench_snn.endings import ended_politely
from robustbench_snn.errors import UsageError
from robustbench_snn.training.options import command_of, parser, recipe_of
from robustbench_snn.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from robustbench_snn.adapter import ModelAdapter
    from robustbench_snn.data.base import ImageDataset
    from robustbench_snn.training.pictures import Pictures
    from robustbench_snn.training.trainer import Trainer


@ended_politely
def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        return train(args)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command resumes after the last full epoch", file=sys.stderr)
        return 130


def train(args: argparse.Namespace) -> int:
    """Train as the arguments say and write weights, card and log."""
    from robustbench_snn.catalogue import load_plugin, model_card

    for flag in ("n", "threads"):
        if getattr(args, flag) is not None:
            parse_count(getattr(args, flag), f"--{flag}")
    for path in args.plugin:
        load_plugin(path)
    dataset = args.dataset or model_card(args.model).dataset
    recipe = recipe_of(args, dataset)
    folder = Path(args.out) / args.model
    writable(folder)
    with alone(folder):
        return run(args, dataset, recipe, folder)


def run(args: argparse.Namespace, dataset: str, recipe: Recipe, folder: Path) -> int:
    """Open data and model, fit, measure on the whole test split, write the results."""
    import torch

    from robustbench_snn.catalogue import own_line
    from robustbench_snn.loading import check_classes, resolve_device
    from robustbench_snn.memory import keep_large_blocks
    from robustbench_snn.registry import origin
    from robustbench_snn.training.monitor import accuracy_of
    from robustbench_snn.training.outcome import round_weights, write_results
    from robustbench_snn.training.trainer import Trainer

    keep_large_blocks()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(recipe.seed)
    model, start = beginning(args, recipe)
    model.to(resolve_device(args.device))
    data = {name: open_split(dataset, name, args.data_dir) for name in ("train", "test")}
    check_classes(model.card, data["train"])
    train_set, held_out = held_apart(dataset, args.data_dir, data["train"], args.n)
    trainer = Trainer(
        model, recipe, train_set, held_out, folder, identity(args, model, data["train"], start)
    )
    resumed = trainer.resume()
    print(
        f"{'resuming' if resumed else 'training'} {args.model} on {dataset} "
        f"({len(train_set.labels)} images, {recipe.epochs} epochs, T={model.card.time_steps}, "
        f"{recipe.precision}), state in {folder}",
        flush=True,
    )
    ticker = Ticker(trainer)
    try:
        trainer.fit(ticker)
    except Exception as error:
        where = own_line(error, origin(type(model)))
        if isinstance(error, UsageError) or not where:
            raise
        raise UsageError(
            f"model '{args.model}' cannot be trained: {where}{type(error).__name__}: {error}."
        ) from error
    ticker.tell(recipe.epochs)
    if recipe.half:
        round_weights(model)
    correct = accuracy_of(model, pictures(data["test"]))
    facts = {
        "start": start,
        "data": {
            name: {"source": part.source, "revision": part.revision, "n": len(part)}
            for name, part in data.items()
        },
        "command": command_of(args),
    }
    print(write_results(trainer, correct, groups_of(data["test"]), facts, args.note))
    return 0


def beginning(args: argparse.Namespace, recipe: Recipe) -> tuple[ModelAdapter, dict[str, str]]:
    """The model to train, and which weights it starts from (empty: new ones).

    Raises:
        UsageError: the starting weights do not exist or do not fit.
    """
    from robustbench_snn.adapter import construct
    from robustbench_snn.catalogue import model_card
    from robustbench_snn.weights import load_weights

    card = model_card(args.model)
    model = construct(args.model, replace(card, checkpoint=None, reported=None))
    if args.start_file and not recipe.start:
        raise UsageError("--start-file holds the weights of --start: name that model too.")
    if not recipe.start:
        return model, {}
    checkpoint = model_card(recipe.start).checkpoint
    source = args.start_file or (checkpoint and checkpoint.source)
    if not source:
        raise UsageError(
            f"'{recipe.start}' comes without weights to start from: train it first, or give its "
            "file with --start-file."
        )
    load_weights(model, source)
    return model, {"model": recipe.start, "sha256": model.weights_sha256}


def identity(
    args: argparse.Namespace, model: ModelAdapter, train: ImageDataset, start: dict[str, str]
) -> dict[str, Any]:
    """What besides the recipe decides the outcome of a training."""
    from robustbench_snn.source_code import foreign_source_sha256

    return {
        "data": train.revision,
        "n": args.n or len(train),
        "config": model.card.config_json(),
        "source": foreign_source_sha256(type(model)),
        "start": start.get("sha256", ""),
    }


def open_split(dataset: str, split_name: str, data_dir: str | None) -> ImageDataset:
    """One split, unprocessed."""
    from robustbench_snn.data import load_dataset

    return load_dataset(dataset, split_name, Path(data_dir) if data_dir else None)


def pictures(data: ImageDataset) -> Pictures:
    """A split as arrays; raises UsageError for sets too large to hold."""
    from robustbench_snn.training.pictures import Pictures

    if not hasattr(data, "arrays"):
        raise UsageError(f"training on '{data.card.name}' needs images of one size in memory.")
    return Pictures(*data.arrays())


def groups_of(test: ImageDataset) -> NDArray[np.int64] | None:
    """Of each test image, what it shares with others; None where every image is one of its own."""
    from robustbench_snn.data import sample_groups

    if not test.card.groups:
        return None
    return sample_groups(test.card.name, test.batch(range(len(test))).ids)


def held_apart(
    dataset: str, data_dir: str | None, train: ImageDataset, n: int | None
) -> tuple[Pictures, Pictures]:
    """(the first ``n`` images to train on, images of the same split that are held out).

    The data set's own hold-out split, or else the last 1,024 training images (of a small set the
    last tenth). The test split serves neither to select nor to stop.
    """
    from robustbench_snn.training.pictures import HELD_OUT

    whole = pictures(train)
    if "holdout" in train.card.splits:
        return whole[:n], pictures(open_split(dataset, "holdout", data_dir))
    left = len(whole.labels) - min(HELD_OUT, max(1, len(whole.labels) // 10))
    return whole[: min(n or left, left)], whole[left:]


def writable(folder: Path) -> None:
    """Make the folder; raises UsageError where that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"--out '{folder}' cannot be written ({error.strerror}): choose another folder."
        ) from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system frees when the process ends, however it ends.

    Raises:
        UsageError: another process trains there.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another process trains in '{folder}': wait for it, or choose another --out."
            ) from error
        yield


class Ticker:
    """One line an epoch, and on a terminal the running loss in between."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.live = sys.stderr.isatty()
        self.started = time.monotonic()
        self.told = len(trainer.events)

    def __call__(self, step: int, steps: int, loss: Tensor) -> None:
        epoch, epochs = self.trainer.epoch + 1, self.trainer.recipe.epochs
        if step == 1 and self.trainer.log:
            self.tell(epochs)
        if self.live:
            shown = f"\repoch {epoch} step {step}/{steps} loss {float(loss):.3f}"
            print(shown, end="", file=sys.stderr)

    def tell(self, epochs: int) -> None:
        """The last epoch's line, and what happened in it."""
        last = self.trainer.log[-1]
        robust = ""
        if last["monitor_pgd"] != "":
            robust = f" FGSM {last['monitor_fgsm']:.1%} PGD-10 {last['monitor_pgd']:.1%}"
        print(
            f"epoch {last['epoch']}/{epochs}: T={last['time_steps']} loss {last['loss']:.3f} "
            f"train {last['train_accuracy']:.1%} held out {last['monitor_accuracy']:.1%}{robust} "
            f"{last['seconds']:.0f} s",
            flush=True,
        )
        for event in self.trainer.events[self.told :]:
            print(event, flush=True)
        self.told = len(self.trainer.events)


if __name__ == "__main__":
    sys.exit(main())
