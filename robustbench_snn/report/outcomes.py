"""Per-sample outcomes read back from the results store, one set for each model as evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.config import CLEAN
from robustbench_snn.data import sample_groups
from robustbench_snn.errors import UsageError
from robustbench_snn.metrics import Accuracy, paired_difference
from robustbench_snn.store import Results

if TYPE_CHECKING:
    import pandas as pd

# Two rows of a store belong to one line of a table when all of these are equal.
FACTS = (
    "model",
    "model_config",
    "model_source_sha256",
    "weights_sha256",
    "dataset",
    "dataset_source",
    "dataset_revision",
    "split",
    "surrogate",
    "ssa_proj_lif",
    "time_steps",
    "eps_unit",
    "clamp",
    "seed",
    "device",
)


@dataclass(frozen=True)
class Outcomes:
    """What one model, with one set of weights, did on one split.

    Attributes:
        facts: the columns of ``FACTS``, as text.
        correct: attack to bool Series indexed by sample id; ``CLEAN`` is always there.
        keys: content keys of the results used, sorted.
    """

    facts: Mapping[str, str]
    correct: Mapping[AttackSpec, pd.Series]
    keys: tuple[str, ...]

    @property
    def model(self) -> str:
        """Catalogue name of the model."""
        return self.facts["model"]

    @property
    def family(self) -> str:
        """The part of the model's name before its first ``-``, ``_`` or ``.``."""
        return self.model.replace("_", "-").replace(".", "-").partition("-")[0]

    @property
    def untrained(self) -> bool:
        """Whether the weights are random, so that no accuracy means anything."""
        return self.facts["weights_sha256"].startswith("untrained")

    @property
    def n(self) -> int:
        """Number of samples with any result."""
        return len(self.correct[CLEAN])

    def common(self, other: Outcomes, spec: AttackSpec) -> list[str]:
        """Sample ids both have a result for under ``spec``, in this one's order."""
        if spec not in self.correct or spec not in other.correct:
            return []
        there = set(other.correct[spec].index)
        return [sample for sample in self.correct[spec].index if sample in there]

    def accuracy(self, spec: AttackSpec) -> Accuracy | None:
        """Accuracy under ``spec``; None when it was not run."""
        found = self.correct.get(spec)
        if found is None:
            return None
        return Accuracy.of(found, sample_groups(self.facts["dataset"], list(found.index)))


def collect(results: Results, specs: Sequence[AttackSpec], dataset: str) -> list[Outcomes]:
    """All that a store knows of ``specs`` on ``dataset``, sorted by model name.

    Raises:
        UsageError: the store has none of these attacks on this data set.
    """
    keys = keys_of(results, specs, dataset)
    samples = results.samples()
    samples = samples[samples["key"].isin(keys)]
    grouped = samples.groupby(list(FACTS), dropna=False, sort=True)
    return [_outcomes(group) for _, group in grouped]


def keys_of(results: Results, specs: Sequence[AttackSpec], dataset: str) -> set[str]:
    """Content keys of the rows of ``specs`` on uncorrupted ``dataset``.

    Raises:
        UsageError: there are none.
    """
    frame = results.frame()
    frame = frame[(frame["dataset"] == dataset) & frame["attack"].isin({s.name for s in specs})]
    frame = frame[frame["corruption"].isna()]
    wanted = {spec: spec for spec in specs}
    matched = [wanted.get(_spec(row)) for row in frame[["attack", "attack_params"]].itertuples()]
    keys = {key for key, spec in zip(frame["key"], matched, strict=True) if spec is not None}
    if not keys:
        raise UsageError(
            f"the results hold none of the attacks of this experiment on '{dataset}': run the "
            "experiment first, or name the data set that was run with --dataset."
        )
    return keys


def paired(a: Outcomes, b: Outcomes, spec: AttackSpec) -> tuple[float, float, float] | None:
    """Accuracy of ``a`` minus that of ``b`` on the samples both have, with a 95 % interval.

    Returns:
        (difference, low, high) as fractions; None when they have no sample in common.
    """
    common = a.common(b, spec)
    if not common:
        return None
    groups = sample_groups(a.facts["dataset"], common)
    return paired_difference(a.correct[spec][common], b.correct[spec][common], groups=groups)


def differences(outcome: Outcomes, others: Sequence[Outcomes]) -> list[str]:
    """``fact=value`` for each fact of ``outcome`` that ``others`` do not all share.

    Constructor arguments count one by one; a fact that repeats one of them is left out.
    """
    facts = [{**json.loads(o.facts["model_config"] or "{}"), **o.facts} for o in [outcome, *others]]
    return [
        f"{name}={str(value)[:12]}"
        for name, value in facts[0].items()
        if name != "model_config" and any(str(other.get(name)) != str(value) for other in facts)
    ]


def _spec(row: object) -> AttackSpec:
    return AttackSpec(row.attack, json.loads(row.attack_params))  # type: ignore[attr-defined]


def _outcomes(group: pd.DataFrame) -> Outcomes:
    first = group.iloc[0]
    correct: dict[AttackSpec, pd.Series] = {
        CLEAN: group.drop_duplicates("sample_ids").set_index("sample_ids")["correct_clean"]
    }
    for _, rows in group.groupby(["attack", "attack_params"], sort=False):
        spec = _spec(next(rows[["attack", "attack_params"]].itertuples()))
        rows = rows.drop_duplicates("sample_ids")
        correct[spec] = rows.set_index("sample_ids")["correct_adv"].astype(bool)
    return Outcomes(
        facts={name: "" if first[name] is None else str(first[name]) for name in FACTS},
        correct=correct,
        keys=tuple(sorted(set(group["key"]))),
    )
