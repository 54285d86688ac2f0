"""Runs a suite on every model and stores one summary row for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robustbench_snn.config import RunConfig
from robustbench_snn.diagnostics.run import diagnose
from robustbench_snn.provenance import new_run_id
from robustbench_snn.store import write_shard
from robustbench_snn.suites.evaluate import ModelRun, check_suite
from robustbench_snn.suites.layouts import SUITES
from robustbench_snn.suites.spec import Suite
from robustbench_snn.suites.summary import finished, summary_row
from robustbench_snn.suites.times import time_matrix
from robustbench_snn.suites.toml import suite_toml
from robustbench_snn.suites.worker import SuiteWorker


def run_suite(suite: Suite, config: RunConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Evaluate every model of ``config``; what is on disk is not computed again.

    Args:
        suite, config: what to do.
        say: told what happens, one line at a time.

    Returns:
        One row of ``SUITES`` for each model, in order.

    Raises:
        UsageError: the suite makes no sense for a model.
        PreflightRefused: a model failed a check that must hold before any attack.
    """
    worker = SuiteWorker(config, new_run_id())
    check_suite(suite, config, worker)
    rows = []
    for name in config.models:
        run = ModelRun(suite, config, worker, name, say)
        if stored := finished(run):
            say(f"{name}: on disk, nothing is computed again")
            rows.append(stored)
            continue
        run.run()
        say(f"{name}: diagnostics")
        diagnosis = diagnose(run)
        passes = [worker.clean(task) for task in run.tasks]
        cells, moved = time_matrix(
            suite,
            worker.model(name),
            np.concatenate([part.x for part in passes]),
            np.concatenate([part.y for part in passes]),
            [sample for part in passes for sample in part.ids],
            config.seed,
            config.batch_size,
        )
        run.settle(moved)
        row = summary_row(run, diagnosis, cells, suite_toml(suite, run.config))
        write_shard(config.out, row["key"], row, SUITES)
        rows.append(row)
    return rows
