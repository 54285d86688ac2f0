"""The final screen of a run on corrupted images: one table for each model and attack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.config import CLEAN, RunConfig
from robustbench_snn.report.corruptions import Cells, columns, missing_note, records
from robustbench_snn.report.dependence import independent, sample_ids
from robustbench_snn.report.screen import print_records
from robustbench_snn.report.summary import UNTRAINED, describe

Rows = Sequence[Mapping[str, Any]]


def cells_of(rows: Rows) -> list[Cells]:
    """Rows of one run, whose shards do not overlap, by model and attack.

    With an attack, each model has its answers to the corrupted images first, once.
    """
    found: dict[tuple[str, str], Cells] = {}
    seen = set()
    for row in rows:
        spec = AttackSpec(row["attack"], json.loads(row["attack_params"]))
        place = (row["model"], row["corruption"], row["severity"], row["start"])
        if place not in seen:
            _of(found, row["model"], "").add(row, "correct_clean")
            seen.add(place)
        if spec != CLEAN:
            _of(found, row["model"], describe(spec)).add(row, "correct_adv")
    return list(found.values())


def _of(found: dict[tuple[str, str], Cells], model: str, attack: str) -> Cells:
    return found.setdefault((model, attack), Cells(model, attack))


def print_corruptions(config: RunConfig, rows: Rows) -> None:
    """Print the tables of all models to standard output."""
    different = independent(config.dataset, sample_ids(rows, config.out))
    for cells in cells_of(rows):
        cells.independent = different
        print_records(records(cells), columns(cells), title(cells), caption(config, cells, rows))
        print()


def title(cells: Cells) -> str:
    """The model, the attack if any, and what must be known before believing the table."""
    parts = [cells.model, f"under {cells.attack}" if cells.attack else "", missing_note(cells)]
    parts += [UNTRAINED if flag == "untrained" else flag for flag in cells.flags]
    return "; ".join(part for part in parts if part)


def caption(config: RunConfig, cells: Cells, rows: Rows) -> str:
    """What the numbers were measured on and with, in one paragraph."""
    sources = dict.fromkeys(row["corruption_source"] for row in rows)
    settings = dict.fromkeys(
        part for row in rows for part in str(row["corruption_settings"]).split(", ")
    )
    base = dict.fromkeys(str(row["dataset_revision"]).partition("+")[0] for row in rows)
    data = f"{config.dataset} ({', '.join(dict.fromkeys(row['dataset_source'] for row in rows))}"
    if "official" not in sources:
        data += f", revision {', '.join(base)}"
    text = (
        f"{data}), {config.split} split, first {max(row['stop'] for row in rows)} samples; "
        f"corrupted images {' and '.join(sources)} ({', '.join(settings)}); s1 to s5: error in "
        "percent at one severity; means are unnormalised; "
        f"seed {config.seed}; Wilson intervals that count every image once"
        + (f", and each of their {cells.independent} objects once." if cells.independent else ".")
    )
    if cells.attack:
        text += (
            f" Attacked after the corruption, ε from the corrupted image in pixel units of images "
            f"in [0, 1], clamped to {rows[0]['clamp']}; surrogate {rows[0]['surrogate']}; final "
            "iterate."
        )
    value = cells.alexnet(config.dataset)
    return text + (f" mCE {value:.1f} (AlexNet 100)." if value is not None else "")
