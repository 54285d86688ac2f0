"""What the samples of a run are worth where some of them show the same object; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from robustbench_snn.data import DATASETS, sample_groups
from robustbench_snn.data.catalogue import repeated
from robustbench_snn.metrics import effective_size
from robustbench_snn.report.summary import Line, line_of
from robustbench_snn.store import read_row, shard_path

Row = Mapping[str, Any]


def independent(dataset: str, ids: Iterable[str]) -> int | None:
    """How many different objects the samples ``ids`` show; None where all are different."""
    groups = sample_groups(dataset, list(dict.fromkeys(ids)))
    return None if groups is None else len(set(groups.tolist()))


def sample_ids(rows: Sequence[Row], out: str) -> list[str]:
    """The samples of stored ``rows`` of one data set, read from the results folder ``out``.

    None are read where the data set's samples are all independent.
    """
    names = {str(row["dataset"]) for row in rows} & set(DATASETS.names())
    if not any(DATASETS.get(name).groups for name in names):
        return []
    # Rows of one shard speak of the same samples.
    shards = {(row["start"], row["stop"]): row for row in rows if row["status"] == "ok"}
    found = [read_row(shard_path(out, row)) for row in shards.values()]
    return list(dict.fromkeys(name for row in found if row for name in row["sample_ids"]))


def allow_for_groups(lines: Sequence[Line], rows: Sequence[Row], out: str) -> str:
    """Set what the samples of each of ``lines`` are worth.

    Args:
        lines: of the table of ``rows``.
        rows: of one run on one data set, without their per-sample lists.
        out: the results folder that holds them whole.

    Returns:
        What a caption adds to the name of its intervals; empty where all samples are independent.
    """
    said = repeated(str(rows[0]["dataset"]), sample_ids(rows, out))
    for line in lines if said else ():
        mine = [row for row in rows if line_of(row) == line.identity and row["status"] == "ok"]
        whole = [row for found in mine if (row := read_row(shard_path(out, found)))]
        if not whole:
            continue
        ids = [name for row in whole for name in row["sample_ids"]]
        groups = sample_groups(str(rows[0]["dataset"]), ids)
        labels = np.concatenate([row["labels"] for row in whole])
        for column, name in (("pred_clean", "clean"), ("pred_adv", "robust")):
            right = np.concatenate([row[column] for row in whole]) == labels
            line.worth[name] = effective_size(right, groups)
    return said
