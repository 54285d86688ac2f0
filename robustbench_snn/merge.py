"""``python -m robustbench_snn.merge OUT DIR...``: one results folder from several.

For runs cut in parts with ``--shard i/n`` on machines that share no disk.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from robustbench_snn.endings import ended_politely
from robustbench_snn.errors import UsageError
from robustbench_snn.row_files import confined, replace_file
from robustbench_snn.store import check_writable, read_row
from robustbench_snn.suites.images import FOLDER, is_stored

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


@ended_politely
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

    A failed result is copied only where there is no other of its key. Links are not followed, and
    nothing is written outside ``out``, whatever a row says of its images.

    Returns:
        (numbers of results ``copied``, ``kept``, ``failed`` (of which no folder holds a finished
        one) and ``skipped``, a note on each skipped file).

    Raises:
        UsageError: a folder is missing, or two folders answer the same question differently.
        StorageError: something cannot be written.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"results folder '{folder}' does not exist: check its name.")
    check_writable(out)
    counts: Counter[str] = Counter()
    notes = []
    failed: set[Path] = set()
    for folder in folders:
        for path in sorted(folder.rglob("*.parquet")):
            if path.name.startswith("."):
                continue
            place = path.relative_to(folder)
            try:
                done = _place(out, folder, place)
            except _SkippedError as reason:
                counts["skipped"] += 1
                notes.append(f"skipped '{path}': {reason}.")
                continue
            (failed.add if done == "failed" else failed.discard)(place)
            counts[done] += done != "failed"
    if not counts:
        raise UsageError(
            f"no results file lies below {', '.join(map(str, folders))}: name folders that "
            "`run --out` wrote."
        )
    counts["failed"] = len(failed)
    return counts, notes


class _SkippedError(Exception):
    """Why a file is not copied."""


def _place(out: Path, folder: Path, place: Path) -> str:
    source, target = confined(folder, place.as_posix()), confined(out, place.as_posix())
    if source is None or target is None:
        raise _SkippedError("a link leads out of the results folder")
    row = read_row(source)
    if row is None:
        raise _SkippedError("not a whole results file")
    held = read_row(target)
    if held is not None and held["status"] == "ok":
        if row["status"] == "ok" and any(held.get(k) != row.get(k) for k in _OUTCOME):
            raise UsageError(
                f"'{source}' and '{target}' are results of the same question and differ, so one of "
                "them is wrong: run both again with one version on one kind of machine."
            )
        return "kept"
    if row.get("images"):
        _copy_images(out, folder, str(row["images"]), str(row.get("images_sha256")))
    replace_file(target, source.read_bytes())
    return "copied" if row["status"] == "ok" else "failed"


def _copy_images(out: Path, folder: Path, place: str, sha256: str) -> None:
    """Copy the images of a row, if they are where images are and those the row speaks of."""
    source, target = confined(folder, place), confined(out, place)
    if not (place.startswith(f"{FOLDER}/") and place.endswith(".safetensors")) or not (
        source and target
    ):
        raise _SkippedError(f"its images lie at '{place}', outside the folder of images")
    if is_stored(out, place, sha256):
        return
    try:
        content = source.read_bytes()
    except OSError as error:
        raise _SkippedError(f"its images '{place}' cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _SkippedError(f"its images '{place}' are damaged or others (their sha256 differs)")
    replace_file(target, content)


if __name__ == "__main__":
    sys.exit(main())
