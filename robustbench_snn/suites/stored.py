"""Summary rows of suites read back from a results folder; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_snn.errors import UsageError
from robustbench_snn.store import Results
from robustbench_snn.suites.layouts import SUITES


def suite_rows(root: str | Path, suite: str | None = None) -> list[dict[str, Any]]:
    """Every finished suite under ``root``; of repeats of one suite and model the latest.

    Args:
        root: results folder.
        suite: only this one; None for all.

    Raises:
        UsageError: the folder is missing or holds no such suite.
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
    latest = frame.drop_duplicates(["suite", "model", "dataset", "eps", "n"], keep="last")
    return [_plain(row) for row in latest.to_dict("records")]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in row.items()}
