"""Which gradient estimator an attack needs: one attack through many, on the same samples.

Every estimator meets all samples, so the order of a suite's steps decides nothing here. Many
attacks fool more samples than one, whatever they differ in; attacks from as many starts through one
estimator tell that apart. Needs the results store only, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.data import sample_groups
from robustbench_snn.data.catalogue import repeated
from robustbench_snn.errors import UsageError
from robustbench_snn.metrics import effective_size, mcnemar, paired_difference
from robustbench_snn.report.columns import preset_columns
from robustbench_snn.report.outcomes import Outcomes, collect
from robustbench_snn.report.tables import (
    format_accuracy,
    format_difference,
    to_csv,
    to_json,
    to_markdown,
)
from robustbench_snn.store import Results

TRAINING, ALL = "training", "all together"
COLUMNS = ("estimator", "n", "accuracy %", "minus training, points", "p", "fooled by it alone")


@dataclass(frozen=True)
class Estimators:
    """One model under one attack, right or wrong on each sample by estimator.

    Attributes:
        outcome: the model as evaluated.
        ids: of the samples every estimator met.
        right: estimator to bool [n], lowest accuracy first.
        repeated: the same for attacks from several starts, ``training, 11 starts``.
    """

    outcome: Outcomes
    ids: Sequence[str]
    right: Mapping[str, NDArray[np.bool_]]
    repeated: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def records(self) -> list[dict[str, str]]:
        """One record for all together, each repeated attack and each estimator."""
        together = {ALL: np.logical_and.reduce(list(self.right.values()))}
        every = together | dict(self.repeated) | dict(self.right)
        return [self._record(name, right) for name, right in every.items()]

    def _record(self, name: str, right: NDArray[np.bool_]) -> dict[str, str]:
        training, difference, chance = self.right.get(TRAINING), "", ""
        if training is not None and name != TRAINING:
            groups = self._groups
            difference = format_difference(paired_difference(right, training, groups=groups))
            p = mcnemar(right, training, groups)
            chance = "< 0.0001" if p < 1e-4 else f"{p:.4f}"
        worth = effective_size(right, self._groups)
        accuracy = format_accuracy(int(right.sum()), len(right), worth)
        alone = str(self.alone(name)) if name in self.right else ""
        values = (name, str(len(right)), accuracy, difference, chance, alone)
        return dict(zip(COLUMNS, values, strict=True))

    @property
    def _groups(self) -> NDArray[np.int64] | None:
        return sample_groups(self.outcome.facts["dataset"], self.ids)

    def alone(self, name: str) -> int:
        """How many samples only this estimator fools."""
        others = [right for other, right in self.right.items() if other != name]
        return int((np.logical_and.reduce(others) & ~self.right[name]).sum()) if others else 0


def load(results: Path, preset: Path, dataset: str) -> list[Estimators]:
    """One table for each model of ``results``.

    Args:
        results: folder of stored rows.
        preset: attacks that differ in nothing but their estimator and number of starts.
        dataset: what they were run on.

    Raises:
        UsageError: no such rows, or a preset of other attacks.
    """
    specs = list(preset_columns(preset).values())[1:]
    if len({bare(spec) for spec in specs}) != 1:
        raise UsageError(f"'{preset}' must hold one attack with several estimators.")
    return [_of(outcome, specs) for outcome in collect(Results.load(results), specs, dataset)]


def bare(spec: AttackSpec) -> AttackSpec:
    """``spec`` without what the table compares."""
    compared = {"estimator", "restarts"}
    return AttackSpec(spec.name, {k: v for k, v in spec.params.items() if k not in compared})


def _of(outcome: Outcomes, specs: Sequence[AttackSpec]) -> Estimators:
    ran = [spec for spec in specs if spec in outcome.correct]
    met = set.intersection(*(set(outcome.correct[spec].index) for spec in ran))
    ids = [sample for sample in outcome.correct[ran[0]].index if sample in met]
    right = {spec: outcome.correct[spec][ids].to_numpy(dtype=bool) for spec in ran}
    order = sorted(ran, key=lambda spec: int(right[spec].sum()))
    once = {str(s.params["estimator"]): right[s] for s in order if s.params["restarts"] == 1}
    often = {
        f"{s.params['estimator']}, {s.params['restarts']} starts": right[s]
        for s in order
        if s.params["restarts"] != 1
    }
    return Estimators(outcome, ids, once, often)


def report(tables: Sequence[Estimators], preset: Path, command: str) -> str:
    """All tables as Markdown; ``command`` makes them again."""
    facts = tables[0].outcome.facts
    spec = bare(list(preset_columns(preset).values())[1])
    parts = [
        f"**One attack through every gradient estimator.** {facts['dataset']} (revision "
        f"{facts['dataset_revision']}), {facts['split']} split; {spec.label()}, in pixel units of "
        f"images in [0, 1], worst iterate, clean mistakes count as wrong, seed {facts['seed']}; "
        "every estimator on the same samples. Accuracy with 95 % Wilson "
        "intervals; differences with 95 % paired intervals and McNemar's exact p"
        f"{repeated(facts['dataset'], tables[0].ids)}; "
        f"{TRAINING} is the surrogate the model was trained with, {ALL} the worst case of each "
        "sample over the estimators, one start each, to be set beside one estimator from as many "
        f"starts. Made by `{command}`."
    ]
    for table in tables:
        parts += [f"\n### {table.outcome.model}\n", to_markdown(table.records(), COLUMNS)]
    return "\n".join(parts).rstrip() + "\n"


def write(
    tables: Sequence[Estimators], preset: Path, folder: Path, name: str, command: str
) -> list[Path]:
    """Write the report, its numbers and each sample's right (1) or wrong (0) as CSV, and JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {"model": table.outcome.model, **record} for table in tables for record in table.records()
    ]
    names = list(
        dict.fromkeys(n for table in tables for n in sorted({**table.right, **table.repeated}))
    )
    samples = [
        {"model": table.outcome.model, "sample": sample}
        | {name: int(right[at]) for name, right in {**table.right, **table.repeated}.items()}
        for table in tables
        for at, sample in enumerate(table.ids)
    ]
    texts = {
        ".md": report(tables, preset, command),
        ".csv": to_csv(records, ["model", *COLUMNS]),
        "_samples.csv": to_csv(samples, ["model", "sample", *names]),
        ".json": to_json(
            [dict(t.outcome.facts) | {"result_keys": list(t.outcome.keys)} for t in tables]
        ),
    }
    for suffix, text in texts.items():
        (folder / (name + suffix)).write_text(text, encoding="utf-8")
    return [folder / (name + suffix) for suffix in texts]
