"""Per-sample outcomes of ordinary attacks, run where they are not on disk yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.config import RunConfig
from robustbench_snn.plan import DataIdentity, ModelIdentity, plan
from robustbench_snn.runner import Progress, run
from robustbench_snn.store import read_row


@dataclass(frozen=True)
class Outcome:
    """What one attack did to n samples, in the order of the split.

    Attributes:
        ids: sample ids.
        clean, robust: bool [n], right before and after.
        margin, loss: float32 [n], after the attack.
        linf_max: largest change of a pixel.
        valid: whether every image kept to its budget and range.
        gradients, forward_calls, seconds: what it cost.
        nonfinite: samples to which the model gave no finite answer, before or after.
    """

    ids: tuple[str, ...]
    clean: NDArray[np.bool_]
    robust: NDArray[np.bool_]
    margin: NDArray[np.float32]
    loss: NDArray[np.float32]
    linf_max: float
    valid: bool
    gradients: int
    forward_calls: int
    seconds: float
    nonfinite: int = 0

    @property
    def accuracy(self) -> float:
        """Share right after the attack."""
        return float(self.robust.mean())


Outcomes = Mapping[AttackSpec, Outcome]


def measured(
    config: RunConfig,
    specs: Sequence[AttackSpec],
    model: ModelIdentity,
    data: DataIdentity,
    device_type: str,
    progress: Progress | None = None,
) -> dict[AttackSpec, Outcome]:
    """Run ``specs`` on ``model`` through the ordinary machinery and read them back.

    Attacks whose shards failed are left out.

    Args:
        config: everything but the models and the attacks.
        specs: attacks; repeats are run once.
        model, data: as opened.
        device_type: ``cpu`` or ``cuda``.
        progress: told what happens.
    """
    config = replace(config, models=(model.name,), attacks=tuple(dict.fromkeys(specs)))
    # Whether the model can be attacked at all was asked when the suite began.
    run(config, progress, losses=())
    found: dict[AttackSpec, list[dict[str, Any]]] = {}
    failed = set()
    for task in plan(config, [model], {model.name: (data,)}, device_type):
        for cell in task.cells:
            row = read_row(cell.path)
            if row is None or row["status"] != "ok":
                failed.add(cell.spec)
            else:
                found.setdefault(cell.spec, []).append(row)
    return {spec: _joined(rows) for spec, rows in found.items() if spec not in failed}


def _joined(rows: Sequence[Mapping[str, Any]]) -> Outcome:
    def every(name: str) -> NDArray[Any]:
        return np.concatenate([np.asarray(row[name]) for row in rows])

    labels = every("labels")
    return Outcome(
        ids=tuple(every("sample_ids").tolist()),
        clean=every("pred_clean") == labels,
        robust=every("pred_adv") == labels,
        margin=every("margin_adv"),
        loss=every("loss_adv"),
        linf_max=max(row["linf_max"] for row in rows),
        valid=all(row["norm_ok"] and row["range_ok"] for row in rows),
        gradients=sum(row["gradients"] or 0 for row in rows),
        forward_calls=sum(row["forward_calls"] or 0 for row in rows),
        # Attacks served by one computation each carry its whole time.
        seconds=sum(row["seconds"] / row["cost_shared_by"] for row in rows),
        nonfinite=sum(row.get("nonfinite_answers") or 0 for row in rows),
    )
