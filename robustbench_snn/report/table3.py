"""Table 3 of the SpiLiFormer paper, its ablations: each part of lateral inhibition left out."""

from __future__ import annotations

import json

from robustbench_snn.report.outcomes import Outcomes
from robustbench_snn.report.table4 import Table4


class Table3(Table4):
    """Like Table 4, with differences of the whole SpiLiFormer to every model without a part."""

    name = "table3"

    def pairs(self) -> list[tuple[str, Outcomes, Outcomes]]:
        """The whole SpiLiFormer minus each other model, with a label."""
        whole = [outcome for outcome in self.outcomes if parts_of(outcome) == (True, True)]
        return [
            (f"{self.label(a)} − {self.label(b)}", a, b)
            for a in whole
            for b in self.outcomes
            if b is not a
        ]


def parts_of(outcome: Outcomes) -> tuple[bool, bool] | None:
    """Whether a SpiLiFormer has its feedforward and its feedback inhibition; None for others."""
    if outcome.family != "spiliformer":
        return None
    config = json.loads(outcome.facts["model_config"])
    return bool(config.get("ff", True)), bool(config.get("fb", True))
