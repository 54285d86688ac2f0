"""Which gradient estimator an attack needs: one attack through many, on the same samples.

Every estimator meets all samples, so the order of a suite's steps decides nothing here. Needs the
results store only, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.errors import UsageError
from robustbench_snn.metrics import mcnemar, paired_difference
from robustbench_snn.report.columns import preset_columns
from robustbench_snn.report.outcomes import Outcomes, collect
from robustbench_snn.report.tables import format_accuracy, format_difference, to_csv, to_markdown
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
    """

    outcome: Outcomes
    ids: Sequence[str]
    right: Mapping[str, NDArray[np.bool_]]

    def records(self) -> list[dict[str, str]]:
        """One record for each estimator under ``COLUMNS``, and one for all together."""
        every = {ALL: np.logical_and.reduce(list(self.right.values())), **self.right}
        return [self._record(name, right) for name, right in every.items()]

    def _record(self, name: str, right: NDArray[np.bool_]) -> dict[str, str]:
        training, difference, chance = self.right.get(TRAINING), "", ""
        if training is not None and name != TRAINING:
            difference = format_difference(paired_difference(right, training))
            p = mcnemar(right, training)
            chance = "< 0.0001" if p < 1e-4 else f"{p:.4f}"
        accuracy = format_accuracy(int(right.sum()), len(right))
        alone = "" if name == ALL else str(self.alone(name))
        values = (name, str(len(right)), accuracy, difference, chance, alone)
        return dict(zip(COLUMNS, values, strict=True))

    def alone(self, name: str) -> int:
        """How many samples only this estimator fools."""
        others = [right for other, right in self.right.items() if other != name]
        return int((np.logical_and.reduce(others) & ~self.right[name]).sum()) if others else 0


def load(results: Path, preset: Path, dataset: str) -> list[Estimators]:
    """One table for each model of ``results``.

    Args:
        results: folder of stored rows.
        preset: attacks that differ in nothing but their estimator.
        dataset: what they were run on.

    Raises:
        UsageError: no such rows, or a preset of other attacks.
    """
    specs = list(preset_columns(preset).values())[1:]
    bare = {spec: {k: v for k, v in spec.params.items() if k != "estimator"} for spec in specs}
    if len({(spec.name, tuple(rest.items())) for spec, rest in bare.items()}) != 1:
        raise UsageError(f"'{preset}' must hold one attack with several estimators.")
    return [_of(outcome, specs) for outcome in collect(Results.load(results), specs, dataset)]


def _of(outcome: Outcomes, specs: Sequence[AttackSpec]) -> Estimators:
    ran = [spec for spec in specs if spec in outcome.correct]
    met = set.intersection(*(set(outcome.correct[spec].index) for spec in ran))
    ids = [sample for sample in outcome.correct[ran[0]].index if sample in met]
    right = {
        str(spec.params["estimator"]): outcome.correct[spec][ids].to_numpy(dtype=bool)
        for spec in ran
    }
    return Estimators(outcome, ids, dict(sorted(right.items(), key=lambda item: item[1].sum())))


def report(tables: Sequence[Estimators], preset: Path, command: str) -> str:
    """All tables as Markdown; ``command`` makes them again."""
    facts = tables[0].outcome.facts
    spec = list(preset_columns(preset).values())[1]
    bare = AttackSpec(spec.name, {k: v for k, v in spec.params.items() if k != "estimator"})
    parts = [
        f"**One attack through every gradient estimator.** {facts['dataset']} (revision "
        f"{facts['dataset_revision']}), {facts['split']} split; {bare.label()}, in pixel units of "
        f"images in [0, 1], worst iterate, clean mistakes count as wrong, seed {facts['seed']}; "
        "every estimator on the same samples. Accuracy with 95 % Wilson "
        "intervals; differences with 95 % paired intervals and McNemar's exact p; "
        f"{TRAINING} is the surrogate the model was trained with, {ALL} the worst case of each "
        f"sample. Made by `{command}`."
    ]
    for table in tables:
        parts += [f"\n### {table.outcome.model}\n", to_markdown(table.records(), COLUMNS)]
    return "\n".join(parts).rstrip() + "\n"


def write(
    tables: Sequence[Estimators], preset: Path, folder: Path, name: str, command: str
) -> list[Path]:
    """Write the report, its numbers as CSV, and right (1) or wrong (0) for every sample as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {"model": table.outcome.model, **record} for table in tables for record in table.records()
    ]
    names = list(dict.fromkeys(name for table in tables for name in sorted(table.right)))
    samples = [
        {"model": table.outcome.model, "sample": sample}
        | {name: int(right[at]) for name, right in table.right.items()}
        for table in tables
        for at, sample in enumerate(table.ids)
    ]
    texts = {
        ".md": report(tables, preset, command),
        ".csv": to_csv(records, ["model", *COLUMNS]),
        "_samples.csv": to_csv(samples, ["model", "sample", *names]),
    }
    for suffix, text in texts.items():
        (folder / (name + suffix)).write_text(text, encoding="utf-8")
    return [folder / (name + suffix) for suffix in texts]
