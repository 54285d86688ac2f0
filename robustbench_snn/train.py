"""``python -m robustbench_snn.train``: the recipe behind every shipped checkpoint."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_snn.attacks.values import parse_count
from robustbench_snn.errors import UsageError, disk_errors
from robustbench_snn.training.recipe import AUGMENTATION_NAMES, AUGMENTATIONS, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_snn.adapter import ModelAdapter
    from robustbench_snn.data.base import ImageDataset
    from robustbench_snn.training.trainer import Pictures, Trainer


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m robustbench_snn.train",
        description="Train a registered model; the same command resumes an interrupted training.",
    )
    found.add_argument(
        "--model", required=True, help="catalogue name, for example sdt-tiny.digit-scenes"
    )
    found.add_argument("--dataset", help="data set (default: the model's own)")
    found.add_argument("--data-dir", help="folder with the data (default: the Hub)")
    found.add_argument("--out", default="runs", help="folder of trainings (default: runs)")
    _recipe(found.add_argument_group("recipe"), Recipe())
    found.add_argument("--fast", action="store_true", help="bfloat16 autocast, compiled neurons")
    found.add_argument("--n", type=int, help="use only the first N training images")
    found.add_argument(
        "--half", action="store_true", help="write weights in float16 and measure the rounded model"
    )
    found.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    found.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    found.add_argument("--plugin", action="append", default=[], help="file that adds models")
    found.add_argument("--note", default="", help="one line for the card, e.g. on the data")
    return found


def _recipe(group: Any, plain: Recipe) -> None:
    texts = (
        ("epochs", int, "passes over the training images"),
        ("batch_size", int, "images of one step"),
        ("lr", float, "peak learning rate of AdamW, at the end a hundredth of it"),
        ("weight_decay", float, "decoupled decay of weights"),
        ("warmup", float, "share of all steps with growing learning rate"),
        ("one_step", float, "share of the epochs at T = 1"),
        ("label_smoothing", float, "share of the target spread over all classes"),
        ("seed", int, "of weights, order and augmentation"),
    )
    for name, kind, text in texts:
        value = getattr(plain, name)
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, type=kind, default=value, help=f"{text} ({value:g})")
    group.add_argument(
        "--sides", default="", help="SIDE:SHARE,...: first epochs on smaller images (none)"
    )
    group.add_argument(
        "--augment",
        help=f"of {', '.join(AUGMENTATION_NAMES)}, with commas; default: what suits the data set",
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        with disk_errors():
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
    card = model_card(args.model)
    dataset = args.dataset or card.dataset
    names = AUGMENTATIONS.get(dataset, ()) if args.augment is None else split(args.augment)
    recipe = Recipe(
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        weight_decay=args.weight_decay,
        warmup=args.warmup,
        one_step=args.one_step,
        label_smoothing=args.label_smoothing,
        sides=sides_of(args.sides),
        augment=tuple(names),
        seed=args.seed,
        precision="bfloat16" if args.fast else "float32",
        neuron="compiled" if args.fast else "eager",
    )
    return run(args, dataset, recipe)


def split(text: str) -> list[str]:
    """Comma-separated names."""
    return [name for name in text.split(",") if name]


def sides_of(text: str) -> tuple[tuple[int, float], ...]:
    """``16:0.4,24:0.3`` as pairs."""
    try:
        pairs = [part.split(":") for part in split(text)]
        return tuple((int(side), float(share)) for side, share in pairs)
    except ValueError as error:
        raise UsageError(
            f"--sides '{text}' is not SIDE:SHARE,..., for example 16:0.4,24:0.3."
        ) from error


def run(args: argparse.Namespace, dataset: str, recipe: Recipe) -> int:
    """Open data and model, fit, measure on the whole test split, write the results."""
    import torch

    from robustbench_snn.catalogue import own_line
    from robustbench_snn.loading import check_classes, resolve_device
    from robustbench_snn.memory import keep_large_blocks
    from robustbench_snn.registry import origin
    from robustbench_snn.training.trainer import Trainer, accuracy_of

    keep_large_blocks()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(recipe.seed)
    model = untrained(args)
    model.to(resolve_device(args.device))
    data = {name: open_split(dataset, name, args.data_dir) for name in ("train", "test")}
    check_classes(model.card, data["train"])
    folder = Path(args.out) / args.model
    writable(folder)
    train_set = pictures(data["train"], args.n)
    watched = monitor(dataset, args.data_dir, data["test"])
    trainer = Trainer(model, recipe, train_set, watched, folder)
    resumed = trainer.resume()
    print(
        f"{'resuming' if resumed else 'training'} {args.model} on {dataset} "
        f"({len(train_set.labels)} images, {recipe.epochs} epochs, T={model.card.time_steps}, "
        f"{recipe.precision}), state in {folder}"
    )
    try:
        trainer.fit(Ticker(trainer))
    except Exception as error:
        where = own_line(error, origin(type(model)))
        if isinstance(error, UsageError) or not where:
            raise
        raise UsageError(
            f"model '{args.model}' cannot be trained: {where}{type(error).__name__}: {error}."
        ) from error
    if args.half:
        round_weights(model)
    correct = accuracy_of(model, pictures(data["test"]))
    write_results(args, trainer, data, correct)
    return 0


def untrained(args: argparse.Namespace) -> ModelAdapter:
    """The model without its shipped weights."""
    from dataclasses import replace

    from robustbench_snn.adapter import construct
    from robustbench_snn.catalogue import model_card

    card = model_card(args.model)
    return construct(args.model, replace(card, checkpoint=None, reported=None))


def open_split(dataset: str, split_name: str, data_dir: str | None) -> ImageDataset:
    """One split, unprocessed."""
    from robustbench_snn.data import load_dataset

    return load_dataset(dataset, split_name, Path(data_dir) if data_dir else None)


def pictures(data: ImageDataset, n: int | None = None) -> Pictures:
    """A split as arrays; raises UsageError for sets too large to hold."""
    from robustbench_snn.training.trainer import Pictures

    if not hasattr(data, "arrays"):
        raise UsageError(f"training on '{data.card.name}' needs images of one size in memory.")
    pixels, labels = data.arrays()
    return Pictures(pixels[:n], labels[:n])


def monitor(dataset: str, data_dir: str | None, test: ImageDataset) -> Pictures:
    """Images watched each epoch: the hold-out split, or else the first 1,000 test images."""
    if "holdout" in test.card.splits:
        return pictures(open_split(dataset, "holdout", data_dir))
    return pictures(test, 1000)


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


class Ticker:
    """One line an epoch, and on a terminal the running loss in between."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.live = sys.stderr.isatty()
        self.started = time.monotonic()

    def __call__(self, step: int, steps: int, loss: Tensor) -> None:
        epoch, epochs = self.trainer.epoch + 1, self.trainer.recipe.epochs
        if step == 1 and self.trainer.log:
            last = self.trainer.log[-1]
            print(
                f"epoch {last['epoch']}/{epochs}: T={last['time_steps']} loss {last['loss']:.3f} "
                f"train {last['train_accuracy']:.1%} watched {last['monitor_accuracy']:.1%} "
                f"{last['seconds']:.0f} s",
                flush=True,
            )
        if self.live:
            shown = f"\repoch {epoch} step {step}/{steps} loss {float(loss):.3f}"
            print(shown, end="", file=sys.stderr)


def command_of(args: argparse.Namespace) -> str:
    """The command that repeats the training, without what only this machine knows."""
    local = {"out", "data_dir", "threads", "device", "model"}
    words = ["python", "-m", "robustbench_snn.train", "--model", args.model]
    for action in parser()._actions:
        value = getattr(args, action.dest, action.default)
        if action.dest in local or value == action.default or not action.option_strings:
            continue
        flag = action.option_strings[0]
        if value is True:
            words.append(flag)
            continue
        for item in value if isinstance(value, list) else [value]:
            words += [flag, str(item)]
    return shlex.join(words)


def is_weight(value: Tensor) -> bool:
    """Whether ``--half`` rounds a tensor: weights of two and more dimensions.

    Batch-norm statistics stay as they are; they are small, and a spike can hang on them.
    """
    return value.is_floating_point() and value.dim() > 1


def round_weights(model: ModelAdapter) -> None:
    """Round the weights of ``model``, in place, to what float16 can hold."""
    for parameter in model.net.parameters():
        if is_weight(parameter):
            parameter.data = parameter.data.half().float()


def write_results(
    args: argparse.Namespace, trainer: Trainer, data: dict[str, ImageDataset], correct: Any
) -> None:
    """Weights (safetensors), card (JSON) and log beside each other in the training's folder."""
    from safetensors.torch import save_file

    from robustbench_snn.loading import device_name
    from robustbench_snn.metrics import wilson
    from robustbench_snn.provenance import provenance
    from robustbench_snn.weights import file_sha256

    folder, card = trainer.folder, trainer.model.card
    weights = folder / f"{card.name}.safetensors"
    state = {k: v.detach().cpu().contiguous() for k, v in trainer.model.net.state_dict().items()}
    if args.half:
        state = {k: v.half() if is_weight(v) else v for k, v in state.items()}
    save_file(state, weights)
    n, k = len(correct), int(correct.sum())
    seconds, cpu = (sum(row[key] for row in trainer.log) for key in ("seconds", "cpu_seconds"))
    seen = trainer.recipe.epochs * len(trainer.train.labels)
    facts = {
        "name": card.name,
        "sha256": file_sha256(weights),
        "parameters": sum(p.numel() for p in trainer.model.net.parameters()),
        "config": dict(card.config),
        "time_steps": card.time_steps,
        "recipe": trainer.recipe.facts(),
        "clean": {"accuracy": k / n, "n": n, "interval_95": list(wilson(k, n))},
        "data": {
            name: {"source": part.source, "revision": part.revision, "n": len(part)}
            for name, part in data.items()
        },
        "training_images": len(trainer.train.labels),
        "device": device_name(trainer.device),
        "seconds": round(seconds),
        "cpu_seconds": round(cpu),
        "images_per_second": round(seen / seconds, 1),
        "images_per_cpu_second": round(seen / cpu, 1),
        "command": command_of(args),
        "versions": {k: v for k, v in provenance().items() if k != "command"},
        "note": args.note,
    }
    (folder / f"{card.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    low, high = wilson(k, n)
    print(f"clean accuracy {k / n:.1%} [{low:.1%}, {high:.1%}] of {n} test images; {weights}")


if __name__ == "__main__":
    sys.exit(main())
