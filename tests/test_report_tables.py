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
