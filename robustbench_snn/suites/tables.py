"""What a finished suite prints and writes: accuracies, winners, diagnostics; no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustbench_snn.attack_spec import format_distance
from robustbench_snn.data import sample_groups
from robustbench_snn.data.catalogue import repeated
from robustbench_snn.metrics import effective_size
from robustbench_snn.report.tables import format_accuracy, to_csv, to_json, to_markdown
from robustbench_snn.suites.curves import eps50, eps50_band, levels, resolved_from

Row = Mapping[str, Any]

HEAD = (
    *("model", "n", "clean %", "plain %", "worst case %", "8-bit %"),
    *("ε50 plain", "ε50 worst", "flags", "gradients", "seconds"),
)


def headline(rows: Sequence[Row]) -> list[dict[str, str]]:
    """One record for each model under ``HEAD``."""
    return [_headline(row) for row in rows]


def _headline(row: Row) -> dict[str, str]:
    n, curves = int(row["n"]), _curves(row)
    plain = next((name for name in curves if name != WORST), "")
    values = (
        row["model"],
        str(n),
        *(_accuracy(row, name) for name in ("clean", "plain", "robust")),
        f"{100 * sum(row['robust_8bit']) / n:.1f}",
        *(_half(curves.get(name, [])) for name in (plain, WORST)),
        ", ".join(row["flags"]) or "none",
        f"{row['gradients_per_sample']:.0f}",
        f"{row['seconds']:.0f}",
    )
    return dict(zip(HEAD, values, strict=True))


def _accuracy(row: Row, name: str) -> str:
    groups = sample_groups(row["dataset"], row["sample_ids"])
    return format_accuracy(sum(row[name]), len(row[name]), effective_size(row[name], groups))


def halves(row: Row) -> dict[str, tuple[float, float, float]]:
    """eps50 of every curve of a row, with where its band crosses half."""
    return {name: (eps50(found), *eps50_band(found)) for name, found in _curves(row).items()}


def _curves(row: Row) -> dict[str, list[dict[str, Any]]]:
    points = json.loads(row["curves"])
    names = dict.fromkeys(point["curve"] for point in points)
    return {name: [point for point in points if point["curve"] == name] for name in names}


def _half(points: Sequence[Mapping[str, Any]]) -> str:
    """In levels of 255, so that columns stay narrow; ``< 1.00`` where not resolved."""
    if not points:
        return ""
    least = resolved_from(points)
    value, low, high = (_level(found, least) for found in (eps50(points), *eps50_band(points)))
    return value if value == low == high else f"{value} [{low}, {high}]"


def _level(value: float, least: float) -> str:
    if math.isinf(value):
        return "beyond"
    return f"< {255 * least:.2f}" if value < least else f"{255 * value:.2f}"


def winners(row: Row, column: str = "steps") -> list[dict[str, str]]:
    """How many samples each step was given and took, those not applicable with their reason.

    Steps that found nobody left to attack are not among them.

    Args:
        row: a summary row.
        column: ``steps`` for the headline, ``curve_steps`` for the eps curve.
    """
    return [_step(log) for log in json.loads(row[column]) if not _idle(log)]


def idle(row: Row, column: str = "steps") -> list[str]:
    """The steps that found nobody left to attack, in order."""
    labels = [log["label"] for log in json.loads(row[column]) if _idle(log)]
    return list(dict.fromkeys(labels))


def _idle(log: Mapping[str, Any]) -> bool:
    return not log["attacked"] and not log["reason"]


def _step(log: Mapping[str, Any]) -> dict[str, str]:
    notes = [f"failed on {log['failed']} samples"] if log["failed"] else []
    if log.get("nonfinite"):
        notes.append(f"no finite answer on {log['nonfinite']}")
    if log.get("again"):
        notes.append("fooled by it among attacks on all samples")
    return {
        "eps": levels(log["eps"]),
        "step": log["label"],
        "given": str(log["attacked"]),
        "fooled": str(log["fooled"]),
        "gradients": f"{log['gradients'] / max(log['attacked'], 1):.0f}",
        "seconds": f"{log['seconds']:.0f}",
        "note": log["reason"] or "; ".join(notes),
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


WORST = "worst case"
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
        f"with batch size {row['verified_batch_size']}. 8-bit: the same images rounded to whole "
        "levels; attacks stop at the first image that fools, so rounding undoes some of them, and "
        "nothing attacks those again. Brackets: 95 % Wilson intervals"
        f"{repeated(row['dataset'], row['sample_ids'])}."
    )
    if row["n_curve"]:
        text += (
            f" ε50: levels of 255 at which accuracy is half of clean, on the first {row['n_curve']}"
            " samples; brackets: where the band crosses that half; <: below the smallest ε "
            "attacked, so not resolved; beyond: above the largest"
            + "".join(f"; plain: {name}." for name in list(halves(row))[:1])
        )
    text += (
        " flags: diagnostics raised, of those below. gradients: backward passes for one "
        "sample, everything included; seconds: all attacks together, one after another."
    )
    return text + (f" Not applicable: {', '.join(refused)}." if refused else "")


def report(rows: Sequence[Row], command: str = "") -> str:
    """All tables of a suite as Markdown.

    Args:
        rows: of one suite on one data set.
        command: what makes them again, for the caption.
    """
    made = f" Made by `{command}`, package {rows[0]['package_version']}." if command else ""
    parts = [to_markdown(headline(rows), HEAD), caption(rows[0]) + made, ""]
    columns, records = screen_table(rows)
    if records:
        where = f"{rows[0]['screen_split']} split, {rows[0]['screen_n']} samples"
        parts += [f"Accuracy % left by PGD with each estimator ({where}):\n"]
        parts += [to_markdown(records, columns)]
    for row in rows:
        cost = f"{row['gradients_per_sample']:.0f} gradients a sample, {row['seconds']:.0f} s"
        parts += [f"\n### {row['model']} ({cost})\n", *_steps(row, "steps")]
        if winners(row, "curve_steps"):
            parts += ["", "The curve, worst case:\n", *_steps(row, "curve_steps")]
        if findings(row):
            parts += ["", to_markdown(findings(row), FINDINGS)]
        columns, records = times_table(row)
        if records:
            parts += ["", _times_caption(row), to_markdown(records, columns)]
    return "\n".join(parts).rstrip() + "\n"


def _steps(row: Row, column: str) -> list[str]:
    parts = [to_markdown(winners(row, column), WINNERS)]
    if labels := idle(row, column):
        parts.append(f"Nobody was left for {len(labels)} others: {', '.join(labels)}.\n")
    return parts


def _times_caption(row: Row) -> str:
    n = json.loads(row["times"])[0]["n"]
    return (
        f"Accuracy % on the first {n} samples, attacked with one number of time steps T (down) "
        f"and tested with another (across), ε = {format_distance(row['eps'])}, worst iterate:\n"
    )


def provenance(rows: Sequence[Row]) -> dict[str, Any]:
    """Which results tables and figures of suites show."""
    facts = ("suite", "model", "weights_sha256", "dataset", "dataset_revision", "key")
    more = ("n", "n_curve", "seed", "surrogate")
    return {"results": [{name: row[name] for name in (*facts, *more)} for row in rows]}


def write(rows: Sequence[Row], folder: Path, name: str, command: str = "") -> list[Path]:
    """Write ``report`` as Markdown, headline, curves and gradient health as CSV, and JSON."""
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
        ".md": report(rows, command),
        ".csv": to_csv(headline(rows), HEAD),
        "_curves.csv": to_csv(points, ["model", "curve", "eps", "correct", "n", "low", "high"]),
        "_gradients.csv": to_csv(
            health, ["model", "name", "step", "rate", "zero_share", "moved", "uphill"]
        ),
        ".json": to_json(provenance(rows)),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / (name + suffix))
        paths[-1].write_text(text, encoding="utf-8")
    return paths
