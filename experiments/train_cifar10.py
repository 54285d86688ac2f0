"""Train the small models on CIFAR-10, one recipe for all: three families and two ablations.

python experiments/train_cifar10.py [MODEL ...] --data-dir DIR [--out runs] [--ship]

Interrupted, the same command resumes. ``--ship`` copies what is finished into the package.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import robustbench_snn
from robustbench_snn.train import main as train

MODELS = (
    "sdt-small.cifar10",
    "qkformer-small.cifar10",
    "spiliformer-small.cifar10",
    "spiliformer-small-no-ff.cifar10",
    "spiliformer-small-no-fb.cifar10",
)
RECIPE = (
    "--epochs 16 --lr 0.003 --one-step 0.9 --sides 16:0.375,24:0.3125 --augment crop,flip --fast"
)
CHECKPOINTS = Path(robustbench_snn.__file__).parent / "checkpoints"


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
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all five")
    parser.add_argument("--data-dir", help="folder with CIFAR-10 (default: the Hub)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of trainings")
    parser.add_argument("--ship", action="store_true", help="copy the results into the package")
    parser.add_argument("--note", default="", help="one line for the card, e.g. on the data")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    options = parser.parse_args(argv)
    given = {name: getattr(options, name) for name in ("data_dir", "threads", "device", "note")}
    passed = [f"--{k.replace('_', '-')}={v}" for k, v in given.items() if v]
    for name in options.models or MODELS:
        code = train(["--model", name, "--out", str(options.out), *RECIPE.split(), *passed])
        if code:
            return code
        if options.ship:
            ship(options.out, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
