"""``python -m robustbench_snn.merge OUT DIR...``: one results folder from several.

For runs cut in parts with ``--shard i/n`` on machines that share no disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from robustbench_snn.errors import UsageError
from robustbench_snn.store import check_writable, read_row

_OUTCOME = ("pred_clean", "pred_adv", "valid")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m robustbench_snn.merge",
        description="Copy results of several folders into one; what is there already stays.",
    )
    found.add_argument("out", metavar="OUT", help="results folder, made if missing")
    found.add_argument("folders", nargs="+", metavar="DIR", help="results folders to copy from")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when all is merged, 2 on wrong use, 3 when failed shards remain."""
    arguments = parser().parse_args(argv)
    try:
        counts, notes = merge(Path(arguments.out), [Path(f) for f in arguments.folders])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(
        f"{arguments.out}: {counts['copied']} results copied, {counts['kept']} there already, "
        f"{counts['failed']} failed, {counts['skipped']} skipped"
    )
    return 3 if counts["failed"] else 0


def merge(out: Path, folders: Sequence[Path]) -> tuple[Counter[str], list[str]]:
    """Copy every finished result below ``folders`` to the same place below ``out``.

    A failed result is copied only where there is no other of its key.

    Returns:
        (numbers of results ``copied``, ``kept``, ``failed`` and ``skipped``, a note on each
        skipped file).

    Raises:
        UsageError: a folder is missing, or two folders answer the same question differently.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"results folder '{folder}' does not exist: check its name.")
    check_writable(out)
    counts: Counter[str] = Counter()
    notes = []
    for folder in folders:
        for path in sorted(folder.rglob("*.parquet")):
            if path.name.startswith("."):
                continue
            row = read_row(path)
            if row is None:
                counts["skipped"] += 1
                notes.append(f"skipped '{path}': not a whole results file.")
                continue
            counts[_place(out, folder, path, row)] += 1
    if not counts:
        raise UsageError(
            f"no results file lies below {', '.join(map(str, folders))}: name folders that "
            "`run --out` wrote."
        )
    return counts, notes


def _place(out: Path, folder: Path, path: Path, row: dict[str, object]) -> str:
    target = out / path.relative_to(folder)
    held = read_row(target)
    if held is not None and held["status"] == "ok":
        if row["status"] == "ok" and any(held.get(k) != row.get(k) for k in _OUTCOME):
            raise UsageError(
                f"'{path}' and '{target}' are results of the same question and differ, so one of "
                "them is wrong: run both again with one version on one kind of machine."
            )
        return "kept"
    _copy(path, target)
    images = row.get("images")
    if isinstance(images, str) and images and (folder / images).is_file():
        _copy(folder / images, out / images)
    return "copied" if row["status"] == "ok" else "failed"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
