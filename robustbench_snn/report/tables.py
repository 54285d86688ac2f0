"""Tables as text: rows of records to Markdown, LaTeX and CSV, without torch or pandas."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_snn.metrics import wilson

Row = Mapping[str, Any]

# A number, alone or with its interval: ``-1.2 [-3.4, +1.0]``.
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?( \[[-+\d., ]*\])?")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "ε": r"$\varepsilon$",
    "±": r"$\pm$",
    "−": r"$-$",
    "≤": r"$\leq$",
    "×": r"$\times$",
}


def format_accuracy(correct: float, n: int, worth: float | None = None) -> str:
    """``"96.3 [95.0, 97.3]"``: percent correct and its 95 % Wilson interval.

    ``worth``: how many independent samples the n are worth (``metrics.effective_size``).
    """
    low, high = wilson(correct, n, worth=worth)
    return f"{100 * correct / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def format_difference(difference: tuple[float, float, float]) -> str:
    """``"+1.2 [-0.3, +2.7]"``: a difference in percentage points and its interval."""
    value, low, high = (100 * part for part in difference)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _cells(rows: Any, columns: Sequence[str]) -> list[list[str]]:
    records = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    return [[_text(record.get(column)) for column in columns] for record in records]


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    """``text`` without line breaks, which would end the row of a table."""
    return " ".join(text.split()) if len(text.splitlines()) > 1 else text


def _is_number(text: str) -> bool:
    return not text or text[0].isdigit() or (text[0] in "+-−" and text[1:2].isdigit())


def _right_aligned(cells: list[list[str]], index: int) -> bool:
    return bool(cells) and all(_is_number(row[index]) for row in cells)


def to_markdown(rows: Any, columns: Sequence[str]) -> str:
    """A Markdown table, its columns padded so that it also reads well as plain text.

    Args:
        rows: records (mappings) or a DataFrame; a missing value prints as nothing.
        columns: keys of the records to show, in order; they are the headers too.

    Returns:
        The table with a final newline; columns of numbers are aligned to the right.
    """
    heads, *cells = [
        [_one_line(cell).replace("|", r"\|") for cell in row]
        for row in [list(columns), *_cells(rows, columns)]
    ]
    widths = [max(3, *(len(row[i]) for row in [heads, *cells])) for i in range(len(columns))]
    right = [_right_aligned(cells, i) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * (width - 1) + (":" if to_right else "-")
        for width, to_right in zip(widths, right, strict=True)
    ]
    return "\n".join([line(heads), line(rule), *(line(row) for row in cells)]) + "\n"


def folded(records: Sequence[Row], columns: Sequence[str], width: int = 100) -> str:
    """``to_markdown`` of texts, at most ``width`` columns wide: the last column goes on below.

    Args:
        records: texts by column.
        columns: those shown.
        width: of the whole table; the last column keeps 20 in any case.
    """
    *first, last = columns
    taken = sum(3 + max(3, len(c), *(len(str(r[c])) for r in records)) for c in first)
    rows: list[dict[str, str]] = []
    for record in records:
        lines = textwrap.wrap(str(record[last]), max(20, width - taken - 4)) or [""]
        rows.append({**record, last: lines[0]})
        rows += [{last: line} for line in lines[1:]]
    return to_markdown(rows, columns)


def escape_latex(text: str) -> str:
    """``text`` with the characters LaTeX gives a meaning to escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def to_latex(rows: Any, columns: Sequence[str], caption: str = "", label: str = "") -> str:
    """A ``booktabs`` tabular, inside a table environment when there is a caption.

    Args:
        rows, columns: as in ``to_markdown``; all text is escaped.
        caption, label: of the table environment.
    """
    heads, *cells = [
        [_one_line(cell) for cell in row] for row in [list(columns), *_cells(rows, columns)]
    ]
    spec = "".join("r" if _right_aligned(cells, i) else "l" for i in range(len(columns)))

    def line(row: Sequence[str]) -> str:
        return " & ".join(escape_latex(cell) for cell in row) + r" \\"

    body = [rf"\begin{{tabular}}{{{spec}}}", r"\toprule", line(heads), r"\midrule"]
    body += [*(line(row) for row in cells), r"\bottomrule", r"\end{tabular}"]
    if caption:
        head = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(caption)}}}"]
        body = [*head, *([rf"\label{{{label}}}"] if label else []), *body, r"\end{table}"]
    return "\n".join(body) + "\n"


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = _one_line(value)
    begins = text.lstrip()[:1] in tuple("=+-@")
    return f"'{text}" if begins and not _NUMBER.fullmatch(text) else text


def to_json(content: Any) -> str:
    """``content`` as the JSON that stands beside a table or figure and names its results."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def to_csv(rows: Any, columns: Sequence[str]) -> str:
    """Comma-separated values with a header line; floats keep every digit.

    Texts that a spreadsheet would take for a formula (``=``, ``+``, ``-`` or ``@`` first, and no
    number) get an apostrophe in front, which keeps them texts.
    """
    records = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_no_formula(column) for column in columns])
    for record in records:
        values = [record.get(column) for column in columns]
        writer.writerow(["" if v is None or v != v else _no_formula(v) for v in values])
    return buffer.getvalue()
