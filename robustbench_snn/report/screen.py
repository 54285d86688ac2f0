"""What a run shows while it works: one bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robustbench_snn.config import CLEAN, RunConfig
from robustbench_snn.plan import Cell, forwards
from robustbench_snn.report.summary import COLUMNS, Line, describe, lines
from robustbench_snn.report.tables import to_markdown

if TYPE_CHECKING:
    from robustbench_snn.rows import Row
    from robustbench_snn.runner import Session

_PLAIN_LINES = 10


def echo(session: Session) -> str:
    """The resolved configuration in one line."""
    config = session.config
    attacks = "; ".join(describe(spec) for spec in config.attacks)
    data, n = session.data[0][0], max(session.n)
    models = len(session.models)
    corrupted = ""
    if config.corruptions:
        count, levels = len(config.corruptions), ",".join(map(str, config.severities))
        sources = sorted({one.corruption_source for found in session.data for one in found})
        corrupted = f"{count} corruptions at severity {levels} ({', '.join(sources)}) · "
    return (
        f"{attacks} · {corrupted}{models} model{'s' if models > 1 else ''} · {data.name} "
        f"{data.split} ({data.source} {data.revision.partition('+')[0]}) · n={n} · "
        f"batch {config.batch_size} · {session.device} · seed {config.seed} · {config.out}"
    )


class Screen:
    """Shows progress on standard error; standard output is for the table.

    Args:
        notes: sentences to show once the run begins.
    """

    def __init__(self, notes: Sequence[str] = ()) -> None:
        self._notes = notes
        self._bar: Any = None
        self._bar_task: Any = None
        self._total = 0
        self._done = 0.0
        self._begun = 0.0
        self._printed = 0.0
        self._waiting: dict[str, float] = {}
        self._under_way: dict[str, float] = {}
        self._lines: dict[tuple[object, ...], Line] = {}

    def start(self, session: Session) -> None:
        """Print the configuration and the notes; begin the bar if there is work."""
        self._say(echo(session))
        for note in (*self._notes, *session.notes):
            self._say(f"note: {note}")
        for task in session.todo:
            for cells in task.groups:
                work = forwards(cells) * len(task.shard)
                self._total += work
                self._waiting |= {cell.key: work / len(cells) for cell in cells}
        kept = sum(len(task.cells) for task in session.tasks) - len(self._waiting)
        if kept:
            self._say(f"{kept} of {kept + len(self._waiting)} results are on disk already")
        self._begun = time.monotonic()
        if self._total and sys.stderr.isatty():
            self._open_bar()

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar_task = self._bar.add_task("starting", total=self._total)
        self._bar.start()

    def tick(self, cells: Sequence[Cell], done: int) -> None:
        """Move the bar within a computation."""
        self._under_way[cells[0].key] = forwards(cells) * done
        if self._bar is not None:
            begun = sum(self._under_way.values())
            self._bar.update(self._bar_task, completed=self._done + begun)

    def row(self, row: Row) -> None:
        """Count a result; new ones move the bar."""
        version = (row.get("corruption"), row.get("severity"))
        name = (row["model"], row["attack_label"], *version)
        if name not in self._lines:
            self._lines[name] = lines([row])[0]
        else:
            self._lines[name].add(row)
        if row["key"] not in self._waiting:
            return
        self._under_way.pop(row["key"], None)
        self._done += self._waiting.pop(row["key"])
        self._show(_running(self._lines[name], *version))

    def _show(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=self._done, description=text)
            return
        tenth = round(_PLAIN_LINES * self._done / self._total, 6) // 1
        if tenth > self._printed:
            self._printed = tenth
            passed = time.monotonic() - self._begun
            left = passed * (self._total - self._done) / self._done
            self._say(f"{100 * self._done / self._total:3.0f} %  {text}  {left:.0f} s left")

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _running(line: Line, corruption: str | None, severity: int | None) -> str:
    text = f"{line.model}  {line.attack.name}  n {line.n}"
    if corruption:
        text = f"{line.model}  {corruption} {severity}  {line.attack.name}  n {line.n}"
    if line.n:
        text += f"  clean {100 * line.clean / line.n:.1f} %"
        if line.attack != CLEAN:
            text += f"  robust {100 * line.robust / line.n:.1f} %"
    return text + (f"  {line.failed} failed" if line.failed else "")


def print_table(found: Sequence[Line], config: RunConfig, text: str) -> None:
    """The final table on standard output: boxed on a terminal, Markdown elsewhere.

    Args:
        found: lines of the table.
        config: of the run.
        text: caption below it.
    """
    records = [line.record() for line in found]
    always = set(COLUMNS) - {"agreement", "flags"}
    columns = [name for name in COLUMNS if name in always or any(r[name] for r in records)]
    if all(line.attack == CLEAN for line in found):
        columns = [name for name in columns if not name.startswith("robust")]
    if sys.stdout.isatty():
        # The caption names the data set, and terminals are narrow.
        ending = f".{config.dataset}"
        records = [r | {"model": r["model"].removesuffix(ending)} for r in records]
    print_records(records, columns, "", text)


def print_records(
    records: Sequence[dict[str, str]], columns: Sequence[str], title: str, text: str
) -> None:
    """A table on standard output: boxed on a terminal, Markdown elsewhere.

    Args:
        records: its lines.
        columns: keys of the records, in order.
        title, text: what stands above, if anything, and below it.
    """
    if not sys.stdout.isatty():
        above = f"{title}\n\n" if title else ""
        print(above + to_markdown(records, columns) + "\n" + text)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", caption=text, caption_justify="left")
    for name in columns:
        number = name == "n" or "%" in name
        table.add_column(
            name, justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    for record in records:
        # As it is: square brackets in names are no markup.
        table.add_row(*(Text(record.get(name, "")) for name in columns))
    Console().print(table)
