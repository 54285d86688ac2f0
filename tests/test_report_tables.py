import csv
import io

import pandas as pd
import pytest

from robustbench_snn.metrics import wilson
from robustbench_snn.report import tables

ROWS = [
    {"model": "a_1", "robust": 12.5, "note": "at 50 % & more"},
    {"model": "b|2", "robust": 3.25, "note": None},
]


def test_format_accuracy_shows_the_wilson_interval():
    low, high = wilson(963, 1000)
    assert tables.format_accuracy(963, 1000) == f"96.3 [{100 * low:.1f}, {100 * high:.1f}]"
    assert tables.format_accuracy(963, 1000) == "96.3 [94.9, 97.3]"


def test_format_difference_is_signed():
    assert tables.format_difference((0.012, -0.003, 0.027)) == "+1.2 [-0.3, +2.7]"


def test_markdown():
    assert tables.to_markdown(ROWS, ["model", "robust"]) == (
        "| model | robust |\n| ----- | -----: |\n| a_1   |   12.5 |\n| b\\|2  |   3.25 |\n"
    )


def test_a_frame_gives_the_same_text_as_its_records():
    frame = pd.DataFrame(ROWS)
    columns = ["model", "robust", "note"]
    for render in (tables.to_markdown, tables.to_latex, tables.to_csv):
        assert render(frame, columns) == render(ROWS, columns)


def test_latex_escapes_and_aligns():
    text = tables.to_latex(ROWS, ["model", "robust", "note"], caption="ε = 8/255", label="t")
    assert r"\begin{tabular}{lrl}" in text
    assert r"a\_1 & 12.5 & at 50 \% \& more \\" in text
    assert r"\caption{$\varepsilon$ = 8/255}" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_csv_reads_back():
    text = tables.to_csv([{"a": 0.1 + 0.2, "b": "x, y"}], ["a", "b", "c"])
    (record,) = csv.DictReader(io.StringIO(text))
    assert float(record["a"]) == 0.1 + 0.2
    assert (record["b"], record["c"]) == ("x, y", "")


@pytest.mark.parametrize("render", [tables.to_markdown, tables.to_csv, tables.to_latex])
def test_no_rows_still_have_a_head(render):
    assert "model" in render([], ["model"])


NAMES = ["a\nb", "c\r\nd", "e\u2028f", "g|h"]


def test_line_breaks_in_names_do_not_split_rows():
    rows = [{"model\nname": name, "n": 1} for name in NAMES]
    text = tables.to_markdown(rows, ["model\nname", "n"])
    assert text.splitlines() == [
        "| model name |   n |",
        "| ---------- | --: |",
        "| a b        |   1 |",
        "| c d        |   1 |",
        "| e f        |   1 |",
        "| g\\|h       |   1 |",
    ]
    latex = tables.to_latex(rows, ["model\nname", "n"]).splitlines()
    assert len(latex) == len(rows) + 6
    assert r"c d & 1 \\" in latex
    assert len(list(csv.reader(io.StringIO(tables.to_csv(rows, ["model\nname", "n"]))))) == 5


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "-a", "+"]
)
def test_formulas_stay_texts_in_csv(text):
    _, (cell,) = csv.reader(io.StringIO(tables.to_csv([{"model": text}], ["model"])))
    assert cell == f"'{text}"


@pytest.mark.parametrize("text", ["-1.5", "+3", "-1e-05", "-10.9 [-16.5, -5.3]", "a=b", "", "–"])
def test_numbers_stay_numbers_in_csv(text):
    _, (cell, _) = csv.reader(io.StringIO(tables.to_csv([{"v": text, "n": -1}], ["v", "n"])))
    assert cell == text


def test_square_brackets_in_names_are_shown(monkeypatch, capsys):
    from robustbench_snn.report.screen import print_records

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_records([{"model": "a[/b][red]"}], ["model"], "", "")
    assert "a[/b][red]" in capsys.readouterr().out
