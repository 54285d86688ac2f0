"""python -m robustbench_snn.corruptions.fetch SET --to DIR: the official corrupted sets.

SET is cifar10-c, cifar100-c, imagenet-c or one group of it (imagenet-c:noise ... :extra).
"""

from __future__ import annotations

import argparse
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from robustbench_snn.corruptions.archives import ARCHIVES, HOST, Archive, find_archives
from robustbench_snn.corruptions.download import download
from robustbench_snn.endings import ended_politely
from robustbench_snn.errors import UsageError
from robustbench_snn.resumable import Line


def extract(path: Path, archive: Archive, to: Path) -> Path:
    """Unpack a checked archive under ``to``; members can neither leave it nor bring links out.

    Raises:
        UsageError: the file is not a readable tar, or holds something unsafe.
    """
    target = to / archive.folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path) as packed:
            packed.extractall(target, filter="data")
    except (tarfile.TarError, OSError, KeyError, EOFError) as error:
        raise UsageError(
            f"cannot unpack '{path}' ({error}): free space or fetch it again."
        ) from error
    return target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m robustbench_snn.corruptions.fetch",
        description="Download an official corrupted set from Zenodo, check and unpack it. "
        "An interrupted download goes on where it stopped.",
    )
    parser.add_argument("set", help=", ".join([*ARCHIVES, "imagenet-c"]))
    parser.add_argument("--to", type=Path, required=True, help="folder for the set")
    parser.add_argument("--no-unpack", action="store_true", help="leave the tar file as it is")
    parser.add_argument(
        "--remove-archive", action="store_true", help="delete the tar once unpacked"
    )
    parser.add_argument("--host", default=HOST, help="another host of the same records")
    return parser


def run(argv: Sequence[str] | None = None) -> None:
    """Carry out the command; raises UsageError."""
    options = _parser().parse_args(argv)
    for archive in find_archives(options.set):
        path = download(archive, options.to, options.host, Line(archive.file))
        print(f"{path}: size and md5 as published (Zenodo record {archive.record})")
        if not options.no_unpack:
            print(f"unpacked under {extract(path, archive, options.to)}")
            if options.remove_archive:
                path.unlink()


@ended_politely
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one sentence on standard error."""
    try:
        run(argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
