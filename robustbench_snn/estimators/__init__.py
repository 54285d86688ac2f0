"""How spikes are differentiated while an attack runs: names here, computation in the modules."""

from robustbench_snn.estimators.names import (
    ESTIMATORS,
    TRAINING,
    Estimator,
    NotApplicable,
    estimator_name,
    parse_estimator,
)

__all__ = [
    "ESTIMATORS",
    "TRAINING",
    "Estimator",
    "NotApplicable",
    "estimator_name",
    "parse_estimator",
]
