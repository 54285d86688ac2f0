"""The command line of a training, and the recipe it asks for. No torch here."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from robustbench_snn.errors import UsageError
from robustbench_snn.training.recipe import AUGMENTATIONS, Recipe
from robustbench_snn.training.recipe_file import read_recipe, shipped_recipes

# Options that name a setting of the recipe: text, or what the option converts to.
_NUMBERS = {
    "epochs": (int, "passes over the training images"),
    "batch_size": (int, "images of one step"),
    "lr": (float, "peak learning rate"),
    "weight_decay": (float, "of weights of two and more dimensions"),
    "warmup": (float, "share of all steps with a growing rate"),
    "one_step": (float, "share of the epochs at T = 1"),
    "label_smoothing": (float, "share of the target spread over all classes"),
    "seed": (int, "of order, augmentation, random starts and new weights"),
}
_LOCAL = {"out", "data_dir", "threads", "device", "start_file"}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m robustbench_snn.train",
        description="Train a registered model; the same command resumes an interrupted training.",
    )
    made.add_argument(
        "--model", required=True, help="catalogue name, for example sdt-tiny.digit-scenes"
    )
    made.add_argument("--dataset", help="data set (default: the model's own)")
    made.add_argument("--data-dir", help="folder with the data (default: the Hub)")
    made.add_argument("--out", default="runs", help="folder of trainings (default: runs)")
    made.add_argument(
        "--recipe",
        help=f"TOML file, or one of {', '.join(shipped_recipes())}; other options overrule it",
    )
    for name, (kind, text) in _NUMBERS.items():
        default = getattr(Recipe, name)
        made.add_argument(
            f"--{name.replace('_', '-')}", type=kind, help=f"{text} (default: {default})"
        )
    made.add_argument("--beta", help="SpiLiFormer: share of the second pass in the loss, or A:B")
    made.add_argument("--sides", help="SIDE:SHARE,...: first epochs on smaller images")
    made.add_argument("--augment", help="comma-separated; default: what suits the data set")
    made.add_argument("--start", help="model whose weights training starts from")
    made.add_argument("--start-file", help="file with those weights (default: the model's own)")
    made.add_argument("--fast", action="store_true", help="bfloat16 autocast, compiled neurons")
    made.add_argument("--n", type=int, help="use only the first N training images")
    made.add_argument(
        "--half", action="store_true", help="write weights in float16 and measure the rounded model"
    )
    made.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    made.add_argument("--plugin", action="append", default=[], help="file that adds models")
    made.add_argument("--note", default="", help="one line for the card, e.g. on the data")
    return made


def recipe_of(args: argparse.Namespace, dataset: str) -> Recipe:
    """The recipe of ``--recipe``, overruled by the other options.

    Raises:
        UsageError: an unknown or impossible setting, or augmentation.
    """
    given: dict[str, Any] = read_recipe(args.recipe, args.model) if args.recipe else {}
    given |= {n: v for n in _NUMBERS if (v := getattr(args, n)) is not None}
    if args.augment is not None:
        given["augment"] = tuple(split(args.augment))
    given.setdefault("augment", AUGMENTATIONS.get(dataset, ()))
    if args.beta is not None:
        given["beta"] = beta_of(args.beta)
    if args.sides is not None:
        given["sides"] = sides_of(args.sides)
    if args.start is not None:
        given["start"] = args.start
    if args.fast:
        given |= {"precision": "bfloat16", "neuron": "compiled"}
    if args.half:
        given["half"] = True
    return Recipe(**given)


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


def beta_of(text: str) -> tuple[float, float]:
    """``0.8``, or ``0.5:0.8`` from the first to the last epoch."""
    try:
        first, _, last = text.partition(":")
        return float(first), float(last or first)
    except ValueError as error:
        raise UsageError(f"--beta '{text}' is neither a share, 0.8, nor two, 0.5:0.8.") from error


def command_of(args: argparse.Namespace) -> str:
    """The command that repeats the training, without what only this machine knows."""
    words = ["python", "-m", "robustbench_snn.train", "--model", args.model]
    for action in parser()._actions:
        value = getattr(args, action.dest, action.default)
        if action.dest in {*_LOCAL, "model"} or value == action.default:
            continue
        flag = action.option_strings[0]
        if action.dest == "recipe" and Path(value).is_absolute():
            value = Path(value).name  # where it lies is this machine's affair
        if value is True:
            words.append(flag)
            continue
        for item in value if isinstance(value, list) else [value]:
            words += [flag, str(item)]
    return shlex.join(words)
