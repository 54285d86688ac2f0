"""Train the CIFAR-10 models: small ones (three families, two ablations) or the paper's sizes.

python experiments/train_cifar10.py [MODEL ...] --data-dir DIR [--out runs] [--ship]

Models of one size share one recipe. Interrupted, the same command resumes. ``--ship`` copies what
is finished into the package.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from pathlib import Path

import robustbench_snn
from robustbench_snn.train import main as train

SMALL = (
    "sdt-small.cifar10",
    "qkformer-small.cifar10",
    "spiliformer-small.cifar10",
    "spiliformer-small-no-ff.cifar10",
    "spiliformer-small-no-fb.cifar10",
)
PAPER_SIZE = ("sdt-2-512.cifar10", "qkformer-4-384.cifar10", "spiliformer-4-384.cifar10")
# Sixteen epochs are what two CPU cores do in an hour a model; the paper's sizes want a GPU.
RECIPES = {
    SMALL: "--epochs 16 --lr 0.003 --one-step 0.9 --sides 16:0.375,24:0.3125",
    PAPER_SIZE: "--epochs 17 --lr 0.002 --one-step 0.9118 --sides 16:0.3,24:0.4 --batch-size 128 "
    "--half",
}
COMMON = "--augment crop,flip --fast"
CHECKPOINTS = Path(robustbench_snn.__file__).parent / "checkpoints"


def recipe(name: str) -> list[str]:
    """Arguments of ``robustbench_snn.train`` for a model; empty for one that has no recipe here."""
    found = next((words for models, words in RECIPES.items() if name in models), "")
    return f"{found} {COMMON}".split() if found else []


def ship(folder: Path, name: str) -> None:
    """Copy weights, card and log of a finished training into the package."""
    for source, target in (
        (f"{name}.safetensors", f"{name}.safetensors"),
        (f"{name}.json", f"{name}.json"),
        ("log.csv", f"{name}.csv"),
    ):
        shutil.copyfile(folder / name / source, CHECKPOINTS / target)


def main(argv: list[str] | None = None) -> int:
    """Train the models named, one after another; returns the exit code of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: the five small ones")
    parser.add_argument("--data-dir", help="folder with CIFAR-10 (default: the Hub)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of trainings")
    parser.add_argument("--ship", action="store_true", help="copy the results into the package")
    parser.add_argument("--note", default="", help="one line for the card, e.g. on the data")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    options = parser.parse_args(argv)
    given = {name: getattr(options, name) for name in ("data_dir", "threads", "device", "note")}
    passed = [f"--{k.replace('_', '-')}={v}" for k, v in given.items() if v]
    for name in options.models:
        if not recipe(name):
            known = ", ".join(itertools.chain(*RECIPES))
            parser.error(f"'{name}' has no recipe here: choose from {known}.")
    for name in options.models or SMALL:
        code = train(["--model", name, "--out", str(options.out), *recipe(name), *passed])
        if code:
            return code
        if options.ship:
            ship(options.out, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
