"""What a finished suite prints and writes: accuracies, winners, diagnostics; no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustbench_snn.attack_spec import format_distance
from robustbench_snn.report.tables import format_accuracy, to_csv, to_markdown
from robustbench_snn.suites.curves import eps50

Row = Mapping[str, Any]

HEAD = (
    *("model", "n", "clean %", "plain %", "worst case % [95 % CI]", "8-bit %"),
    *("eps50 plain", "eps50 worst", "flags"),
)


def headline(rows: Sequence[Row]) -> list[dict[str, str]]:
    """One record for each model under ``HEAD``."""
    return [_headline(row) for row in rows]


def _headline(row: Row) -> dict[str, str]:
    n = int(row["n"])

    def share(name: str) -> str:
        return f"{100 * sum(row[name]) / n:.1f}"

    fifty = halves(row)
    plain = next((value for name, value in fifty.items() if name != "worst case"), None)
    values = (
        row["model"],
        str(n),
        share("clean"),
        share("plain"),
        format_accuracy(sum(row["robust"]), n),
        share("robust_8bit"),
        _eps(plain),
        _eps(fifty.get("worst case")),
        ", ".join(row["flags"]),
    )
    return dict(zip(HEAD, values, strict=True))


def halves(row: Row) -> dict[str, float]:
    """eps50 of every curve of a row."""
    points = json.loads(row["curves"])
    names = dict.fromkeys(point["curve"] for point in points)
    return {name: eps50([p for p in points if p["curve"] == name]) for name in names}


def _eps(value: float | None) -> str:
    if value is None:
        return ""
    return "beyond" if math.isinf(value) else f"{255 * value:.2f}/255"


def winners(row: Row, column: str = "steps") -> list[dict[str, str]]:
    """How many samples each step was given and took, those not applicable with their reason.

    Args:
        row: a summary row.
        column: ``steps`` for the headline, ``curve_steps`` for the eps curve.
    """
    return [_step(log) for log in json.loads(row[column])]


def _step(log: Mapping[str, Any]) -> dict[str, str]:
    note = "" if log["attacked"] else "nobody was left"
    if log["reason"]:
        note = log["reason"]
    elif log["failed"]:
        note = f"failed on {log['failed']} samples"
    return {
        "eps": format_distance(log["eps"]),
        "step": log["label"],
        "given": str(log["attacked"]),
        "fooled": str(log["fooled"]),
        "gradients": f"{log['gradients'] / max(log['attacked'], 1):.0f}",
        "seconds": f"{log['seconds']:.0f}",
        "note": note,
    }


def screen_table(rows: Sequence[Row]) -> tuple[list[str], list[dict[str, str]]]:
    """(columns, records): accuracy % each estimator left in the pre-screen, by model."""
    screens = {row["model"]: json.loads(row["screen"]) for row in rows}
    heads = {
        row["model"]: f"{row['model']} at {format_distance(row['screen_eps'])}"
        for row in rows
        if screens[row["model"]]
    }
    names = sorted({name for found in screens.values() for name in found})
    records = [
        {"estimator": name}
        | {head: _share(screens[model].get(name)) for model, head in heads.items()}
        for name in names
    ]
    return ["estimator", *heads.values()], records


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


WINNERS = ("eps", "step", "given", "fooled", "gradients", "seconds", "note")
FINDINGS = ("id", "title", "status", "figure", "threshold")


def findings(row: Row, only_raised: bool = False) -> list[dict[str, str]]:
    """The diagnostics of a row as records under ``FINDINGS``."""
    found = json.loads(row["diagnostics"])
    for record in found:
        record["figure"] = record["figure"] or record["note"]
    return [r for r in found if not only_raised or r["status"] in ("warn", "fail")]


def times_table(row: Row) -> tuple[list[str], list[dict[str, str]]]:
    """(columns, records) of the attack-T against test-T matrix; empty without one."""
    cells = json.loads(row["times"])
    tests = sorted({cell["test_steps"] for cell in cells})
    made = sorted({cell["attack_steps"] for cell in cells})
    by = {(c["attack_steps"], c["test_steps"]): 100 * c["correct"] / c["n"] for c in cells}
    records = [
        {"attacked at": f"T = {a}" if a else "not"} | {f"T = {t}": f"{by[a, t]:.1f}" for t in tests}
        for a in made
    ]
    return ["attacked at", *(f"T = {t}" for t in tests)], records


def caption(row: Row) -> str:
    """What the headline is, in one paragraph."""
    refused = json.loads(row["not_applicable"])
    text = (
        f"Suite {row['suite']}, {row['dataset']} (revision {row['dataset_revision']}), "
        f"{row['split']} split, first {row['n']} samples, ε = {format_distance(row['eps'])} in "
        f"pixel units of images in [0, 1], clamp {row['clamp']}, seed {row['seed']}. plain: the "
        "longest attack on all samples, last iterate. worst case: samples right on the clean "
        "image and on every adversarial image found, predicted again in a separate clean pass "
        "with batch size "
        f"{row['verified_batch_size']}; Wilson interval. 8-bit: the same images rounded."
    )
    return text + (f" Not applicable: {', '.join(refused)}." if refused else "")


def report(rows: Sequence[Row]) -> str:
    """All tables of a suite as Markdown."""
    parts = [to_markdown(headline(rows), HEAD), caption(rows[0]), ""]
    columns, records = screen_table(rows)
    if records:
        where = f"{rows[0]['screen_split']} split, {rows[0]['screen_n']} samples"
        parts += [f"Accuracy % left by PGD with each estimator ({where}):\n"]
        parts += [to_markdown(records, columns)]
    for row in rows:
        cost = f"{row['gradients_per_sample']:.0f} gradients a sample, {row['seconds']:.0f} s"
        parts += [f"\n### {row['model']} ({cost})\n", to_markdown(winners(row), WINNERS)]
        if curve := winners(row, "curve_steps"):
            parts += ["", "The curve, worst case:\n", to_markdown(curve, WINNERS)]
        if findings(row):
            parts += ["", to_markdown(findings(row), FINDINGS)]
        columns, records = times_table(row)
        if records:
            parts += ["", "Accuracy %, attack T against test T:\n", to_markdown(records, columns)]
    return "\n".join(parts).rstrip() + "\n"


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write ``report`` as Markdown and the headline, curves and gradient health as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    points = [
        {"model": row["model"], **point} for row in rows for point in json.loads(row["curves"])
    ]
    health = [
        {"model": row["model"], **unit}
        for row in rows
        for unit in json.loads(row["gradient_health"])
    ]
    texts = {
        ".md": report(rows),
        ".csv": to_csv(headline(rows), HEAD),
        "_curves.csv": to_csv(points, ["model", "curve", "eps", "correct", "n", "low", "high"]),
        "_gradients.csv": to_csv(
            health, ["model", "name", "step", "rate", "zero_share", "moved", "uphill"]
        ),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / (name + suffix))
        paths[-1].write_text(text, encoding="utf-8")
    return paths
