"""Train the models of the zoo, one list in order, beside other work.

python experiments/train_zoo.py [MODEL ...] [--data-dir cifar10=DIR] [--status] [--ship]

Each training runs at low priority in a process of its own, with the code of a checkout of its own
at the present commit. Killed or interrupted, the same command goes on after the last full epoch.
``--status`` prints where the list stands, ``--ship`` copies what is finished into the package.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import robustbench_snn
from robustbench_snn.attacks.values import parse_count
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean
from robustbench_snn.report.tables import to_markdown
from robustbench_snn.training.queue import Queue, own_checkout, ship
from robustbench_snn.training.zoo import (
    Entry,
    Progress,
    expected_hours,
    held,
    progress,
    read_list,
)

HERE = Path(__file__).resolve().parent
CHECKPOINTS = Path(robustbench_snn.__file__).resolve().parent / "checkpoints"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    made.add_argument("models", nargs="*", metavar="MODEL", help="only these (default: all)")
    made.add_argument(
        "--data-dir",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="folder of a data set, or of all (default: the Hub); repeatable",
    )
    made.add_argument("--out", type=Path, default=Path("runs/zoo"), help="folder of trainings")
    made.add_argument("--list", type=Path, help="TOML list (default: zoo.toml beside this file)")
    made.add_argument("--status", action="store_true", help="print where the list stands and end")
    made.add_argument("--ship", action="store_true", help="copy what is finished and end")
    made.add_argument("--jobs", type=int, help="trainings at once (default: 1; 3 on a GPU)")
    made.add_argument("--threads", type=int, help="CPU threads of each (default: cores / jobs)")
    made.add_argument("--nice", type=int, default=10, help="how far to rank below other work")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    made.add_argument("--note", default="", help="line for the cards of data from --data-dir")
    made.add_argument("--n", type=int, help="only the first N training images: a trial")
    made.add_argument("--here", action="store_true", help="train the code of this very tree")
    return made


def chosen(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The entries named; all without a name.

    Raises:
        UsageError: a name that is not in the list.
    """
    known = [entry.model for entry in entries]
    for name in names:
        if name not in known:
            raise UsageError(f"'{name}' is not in the list: {did_you_mean(name, known)}")
    return [entry for entry in entries if not names or entry.model in names]


def data_dirs(given: Sequence[str]) -> dict[str, str]:
    """``NAME=DIR`` by name; a bare folder under the empty name.

    Raises:
        UsageError: no such folder.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, folder = text.rpartition("=")
        path = Path(folder)
        if not path.is_dir():
            raise UsageError(f"--data-dir '{text}': there is no folder '{folder}'.")
        found[name if equals else ""] = str(path.resolve())
    return found


def has_gpu(device: str) -> bool:
    """Whether trainings run on a GPU."""
    if device == "auto":
        import torch

        return torch.cuda.is_available()
    return device.startswith("cuda")


def table(states: Sequence[Progress]) -> str:
    """Where the list stands, as Markdown."""
    rows = []
    for state, hours in zip(states, expected_hours(states), strict=True):
        last = state.log[-1] if state.log else {}
        done = f"{len(state.log)}/{state.entry.recipe.epochs}" if state.log else ""
        rows.append(
            {
                "model": state.entry.model,
                "state": f"{state.state}: {state.message}" if state.message else state.state,
                "epochs": done,
                "held out %": percent(last.get("monitor_accuracy")),
                "PGD-10 %": percent(last.get("monitor_pgd")),
                "test %": percent(str(state.card["clean"]["accuracy"]) if state.card else ""),
                "hours left": "?" if hours is None else f"{hours:.1f}",
            }
        )
    return to_markdown(rows, list(rows[0]))


def percent(text: str | None) -> str:
    """A fraction in a log as percent; empty stays empty."""
    return f"{100 * float(text):.1f}" if text else ""


def work(options: argparse.Namespace, entries: list[Entry], gpu: bool) -> int:
    """Train what is left; returns the exit code."""
    jobs = options.jobs or (3 if gpu else 1)
    out = options.out.resolve()
    code, list_file = HERE.parent, options.list or HERE / "zoo.toml"
    if not options.here:
        code = out / "code"
        # What still trains imports more of its code as it goes on.
        if not any(held(out / entry.folder_name) for entry in entries):
            own_checkout(HERE.parent, code)
        list_file = options.list or code / "experiments" / "zoo.toml"
    queue = Queue(
        entries,
        out=out,
        shipped=CHECKPOINTS,
        code=code,
        list_file=list_file.resolve(),
        data_dirs=data_dirs(options.data_dir),
        jobs=jobs,
        threads=options.threads or max(1, (os.cpu_count() or 1) // jobs),
        nice=options.nice,
        gpu=gpu,
        device=options.device,
        note=options.note,
        images=options.n,
        say=lambda line: print(line, flush=True),
    )
    return 3 if queue.run() else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for flag in ("jobs", "threads", "n"):
            if getattr(options, flag) is not None:
                parse_count(getattr(options, flag), f"--{flag}")
        listed = options.list or HERE / "zoo.toml"
        entries = chosen(read_list(listed), options.models)
        gpu = has_gpu(options.device)
        states = [progress(entry, options.out.resolve(), CHECKPOINTS, gpu) for entry in entries]
        if options.status:
            print(table(states))
            return 0
        if options.ship:
            names = ship(states, options.out.resolve(), CHECKPOINTS)
            print(f"copied {len(names)} models to {CHECKPOINTS}: {', '.join(names) or 'none new'}")
            return 0
        return work(options, entries, gpu)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
