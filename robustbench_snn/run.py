"""``python -m robustbench_snn.run``: evaluate models under attacks, print one table.

Exit codes: 0 done, 1 a defect of ours, 2 a mistake in what was asked, 3 done but for failed
shards or because a result could not be written, 4 refused because a model failed a check, 130
interrupted.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from robustbench_snn.config import RunConfig
from robustbench_snn.endings import INTERRUPTED, ended_politely
from robustbench_snn.errors import PreflightRefused, UsageError
from robustbench_snn.options import read_arguments

if TYPE_CHECKING:
    from robustbench_snn.rows import Row

OK, USAGE, FAILED_SHARDS, REFUSED = 0, 2, 3, 4

_ERRORS_SHOWN = 3


@ended_politely
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process); returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(words)
    except UsageError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return USAGE
    except PreflightRefused as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        again = shlex.join(["python", "-m", "robustbench_snn.run", *words])
        print(
            f"\ninterrupted; finished results are kept, and the same command goes on: {again}",
            file=sys.stderr,
        )
        return INTERRUPTED


def _main(words: Sequence[str]) -> int:
    from robustbench_snn.suites import command

    if command.wants_suite(words) and not {"-h", "--help"} & set(words):
        _check_suite(words)
        return command.main(words)
    arguments = read_arguments(words)
    if arguments.list:
        from robustbench_snn.listing import listing

        print(listing(), end="")
        return OK
    from robustbench_snn.resolve import resolve

    config, notes = resolve(arguments.settings)
    if arguments.print_config:
        from robustbench_snn.presets import to_toml

        print(to_toml(config), end="")
        return OK
    if arguments.plan:
        from robustbench_snn.cost import estimate

        print(estimate(config))
        return OK
    named = arguments.settings.get("models", ())
    return evaluate(config, notes, named, arguments.quiet)


def _check_suite(words: Sequence[str]) -> None:
    for option in ("--fast", "--executor", "--workers", "--ray-address", "--shard"):
        if any(word.partition("=")[0] == option for word in words):
            raise UsageError(
                f"{option} and --suite exclude each other: a suite decides after each attack what "
                "is attacked next, exactly and in one process."
            )


def evaluate(
    config: RunConfig, notes: Sequence[str], named: Sequence[str], quiet: bool = False
) -> int:
    """Run ``config``, print its table and where the results are.

    Args:
        config: what to run.
        notes: sentences to show once the run begins.
        named: the models as the user named them, for the command suggested next.
        quiet: no progress, no notes and no advice.

    Returns:
        The exit code.

    Raises:
        UsageError, PreflightRefused, KeyboardInterrupt: nothing partial has been written.
    """
    from robustbench_snn.store import check_writable

    # Before the seconds that importing torch takes.
    check_writable(config.out)
    from robustbench_snn.executors.choose import executor_of
    from robustbench_snn.report.screen import Screen
    from robustbench_snn.runner import run

    progress = None if quiet else Screen(notes)
    rows = run(config, progress, executor_of(config))
    code = _report(config, rows)
    if code == OK and not quiet:
        from robustbench_snn.catalogue import encodes_at_random
        from robustbench_snn.report.summary import next_command

        spikes = all(row["surrogate"] != "none" for row in rows)
        random = any(map(encodes_at_random, config.models))
        print(f"next: {next_command(config, named, spikes, random)}")
    return code


def _report(config: RunConfig, rows: Sequence[Row]) -> int:
    from robustbench_snn.report.screen import print_table
    from robustbench_snn.report.summary import UNTRAINED, caption, lines

    if config.corruptions:
        from robustbench_snn.report.corruption_screen import print_corruptions

        print_corruptions(config, rows)
    else:
        from robustbench_snn.report.dependence import allow_for_groups

        found = lines(rows)
        told = allow_for_groups(found, rows, config.out)
        print_table(found, config, caption(config, rows, told))
    if any("untrained" in row["flags"] for row in rows):
        print(
            f"{UNTRAINED}. Train a model or give --weights before quoting any of these numbers; "
            "where build() loads weights itself, say so in the card: Checkpoint('build:...')."
        )
    failed = [row for row in rows if row["status"] != "ok"]
    count = len(rows) - len(failed)
    print(f"results: {config.out} ({count} file{'s' if count != 1 else ''})")
    for row in failed[:_ERRORS_SHOWN]:
        where = f"{row['model']} {row['attack']} samples {row['start']}-{row['stop'] - 1}"
        if config.corruptions:
            where += f" of {row['corruption']} {row['severity']}"
        print(f"failed: {where}: {row['error']}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} shards failed; the same command tries them again.", file=sys.stderr)
        return FAILED_SHARDS
    return OK


if __name__ == "__main__":
    sys.exit(main())
