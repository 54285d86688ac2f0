"""Summary rows of suites read back from a results folder; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_snn.errors import UsageError
from robustbench_snn.store import IDENTIFYING, Results
from robustbench_snn.suites.layouts import SUITES

_SAME = ["suite", "model", "dataset", "eps", "n"]


def suite_rows(
    root: str | Path, suite: str | None = None, every: bool = False
) -> list[dict[str, Any]]:
    """Every finished suite under ``root``; of repeats of one suite and model the latest.

    Args:
        root: results folder.
        suite: only this one; None for all.
        every: whether a model may come with several weights, seeds or other facts.

    Raises:
        UsageError: the folder is missing or holds no such suite, or several versions of a model
            that would stand in one table under one name.
    """
    frame = Results.load(root, layout=SUITES).frame()
    if suite is not None:
        frame = frame[frame["suite"] == suite]
    if frame.empty:
        wanted = f"suite '{suite}'" if suite else "suite"
        raise UsageError(
            f"'{root}' holds no finished {wanted}: run one with "
            "`python -m robustbench_snn.run --suite reliable`."
        )
    frame = frame.sort_values("started_at", kind="stable")
    latest = frame.drop_duplicates(list(dict.fromkeys([*_SAME, *IDENTIFYING])), keep="last")
    twice = latest[latest.duplicated(_SAME, keep=False)]
    if len(twice) and not every:
        first = twice[(twice[_SAME] == twice[_SAME].iloc[0]).all(axis=1)]
        differ = [name for name in IDENTIFYING if first[name].astype(str).nunique() > 1]
        raise UsageError(
            f"'{root}' holds {len(first)} versions of suite '{first['suite'].iloc[0]}' on model "
            f"'{first['model'].iloc[0]}', which differ in {', '.join(differ)}: use a results "
            "folder with one of them."
        )
    return [_plain(row) for row in latest.to_dict("records")]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in row.items()}
