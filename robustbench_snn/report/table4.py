"""Table 4 of the SpiLiFormer paper from our results, beside the figures the paper prints.

Needs the results store only, no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.config import CLEAN
from robustbench_snn.data.catalogue import repeated
from robustbench_snn.report.columns import attack_sentences, preset_columns
from robustbench_snn.report.outcomes import Outcomes, collect, differences, paired
from robustbench_snn.report.reported import Reported
from robustbench_snn.report.tables import (
    format_accuracy,
    format_difference,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
)
from robustbench_snn.store import Results

DASH = "–"
CSV_COLUMNS = ["kind", "dataset", "model", "column", "value", "low", "high", "correct", "n"]


@dataclass(frozen=True)
class Table4:
    """Measured results and printed figures, ready to be written.

    Attributes:
        dataset: what was evaluated on.
        columns: heading to attack, in order; the first is clean accuracy.
        outcomes: one per model as evaluated.
        reported: the paper's figures.
    """

    name: ClassVar[str] = "table4"
    dataset: str
    columns: Mapping[str, AttackSpec]
    outcomes: Sequence[Outcomes]
    reported: Reported

    @classmethod
    def load(cls, results: Path, preset: Path, reported: Path, dataset: str) -> Table4:
        """Collect what ``results`` holds of the attacks in ``preset``.

        Raises:
            UsageError: no such folder, or nothing in it that belongs to this table.
        """
        columns = preset_columns(preset)
        found = collect(Results.load(results), list(columns.values()), dataset)
        return cls(dataset, columns, found, Reported.read(reported))

    def label(self, outcome: Outcomes) -> str:
        """Name of a row: the model, told apart when named twice, marked when untrained."""
        same = [o for o in self.outcomes if o.model == outcome.model]
        parts = [outcome.model, *differences(outcome, same)]
        return " ".join(parts) + (" (untrained, no result)" if outcome.untrained else "")

    def pairs(self) -> list[tuple[str, Outcomes, Outcomes]]:
        """Every SpiLiFormer minus QKFormer with its label: the difference the paper is about."""
        ours = [outcome for outcome in self.outcomes if outcome.family == "spiliformer"]
        base = [outcome for outcome in self.outcomes if outcome.family == "qkformer"]
        return [(f"{self.label(a)} − {self.label(b)}", a, b) for a in ours for b in base]

    def rows(self) -> list[dict[str, str]]:
        """One record per model, then one per difference; percent with 95 % intervals."""
        models = [
            {
                "model": self.label(outcome),
                "T": outcome.facts["time_steps"],
                "n": str(outcome.n),
                **{head: _cell(outcome, spec) for head, spec in self.columns.items()},
            }
            for outcome in self.outcomes
        ]
        return models + [
            {
                "model": label,
                "n": str(len(a.common(b, CLEAN))),
                **{head: _difference(a, b, spec) for head, spec in self.columns.items()},
            }
            for label, a, b in self.pairs()
        ]

    def reported_rows(self) -> list[dict[str, str]]:
        """The paper's rows on this data set, or all of them when it has none on it."""
        keys = ["dataset", "model", "T", *self.columns]
        return [
            {key: str(row.get(key, DASH)) for key in keys} for row in self.reported.of(self.dataset)
        ]

    def records(self) -> list[dict[str, Any]]:
        """Everything in long form, fractions: kinds measured, difference and reported."""
        return [*self._measured(), *self._differences(), *self._printed()]

    def _measured(self) -> Iterator[dict[str, Any]]:
        for outcome in self.outcomes:
            for head, spec in self.columns.items():
                accuracy = outcome.accuracy(spec)
                if accuracy is not None:
                    numbers = (accuracy.value, *accuracy.interval, accuracy.correct, accuracy.n)
                    yield _record("measured", self.dataset, self.label(outcome), head, *numbers)

    def _differences(self) -> Iterator[dict[str, Any]]:
        for label, a, b in self.pairs():
            for head, spec in self.columns.items():
                difference = paired(a, b, spec)
                if difference is not None:
                    n = len(a.common(b, spec))
                    yield _record("difference", self.dataset, label, head, *difference, None, n)

    def _printed(self) -> Iterator[dict[str, Any]]:
        for row in self.reported.of(self.dataset):
            for head in self.columns:
                if head in row:
                    place = (row["dataset"], row["model"], head)
                    yield _record("reported", *place, round(float(row[head]) / 100, 6))

    def caption(self) -> str:
        """What a reader must know to repeat the numbers."""

        def all_of(fact: str) -> str:
            return ", ".join(sorted({outcome.facts[fact] for outcome in self.outcomes}))

        models = "; ".join(
            f"{self.label(o)}: T={o.facts['time_steps']}, surrogate {o.facts['surrogate']}, "
            f"ssa_proj_lif {o.facts['ssa_proj_lif'] or 'not in this family'}"
            for o in self.outcomes
        )
        return (
            f"Accuracy in percent on {self.dataset} ({all_of('dataset_source')}, revision "
            f"{all_of('dataset_revision')}, {all_of('split')} split) with 95 % Wilson intervals; "
            "differences in points with 95 % paired intervals on the samples both models saw"
            f"{self.allowance()}. "
            "All images count, clean errors included; the last iterate is evaluated. "
            f"{attack_sentences(self.columns.values())} Distances are in {all_of('eps_unit')} "
            f"units of images in [0, 1], clamped to {all_of('clamp')}; seed {all_of('seed')}. "
            f"Gradients pass through the training surrogate. {models}."
        )

    def allowance(self) -> str:
        """What a caption adds to its intervals where samples show the same object."""
        ids = [sample for outcome in self.outcomes for sample in outcome.correct[CLEAN].index]
        return repeated(self.dataset, ids)

    def markdown(self) -> str:
        """Both blocks as Markdown."""
        blocks = [
            f"**Measured.** {self.caption()}\n",
            to_markdown(self.rows(), ["model", "T", "n", *self.columns]),
            f"**{self.reported.caption(self.dataset)}**\n",
        ]
        if printed := self.reported_rows():
            blocks.append(to_markdown(printed, ["dataset", "model", "T", *self.columns]))
        return "\n".join(blocks)

    def latex(self) -> str:
        """Both blocks as LaTeX tables (booktabs)."""
        head = ["model", "T", "n", *self.columns]
        text = to_latex(self.rows(), head, self.caption(), f"tab:{self.name}")
        about = self.reported.caption(self.dataset)
        if printed := self.reported_rows():
            head = ["dataset", "model", "T", *self.columns]
            return text + "\n" + to_latex(printed, head, about, f"tab:{self.name}-reported")
        return f"{text}\n% {about}\n"

    def provenance(self) -> dict[str, Any]:
        """Which results the table shows: everything needed to find them again."""
        return {
            "dataset": self.dataset,
            "attacks": [spec.json() for spec in self.columns.values() if spec != CLEAN],
            "models": [
                dict(outcome.facts) | {"n": outcome.n, "result_keys": list(outcome.keys)}
                for outcome in self.outcomes
            ],
            "reported": self.reported.caption(self.dataset),
        }

    def write(self, folder: Path, name: str | None = None) -> list[Path]:
        """Write Markdown, LaTeX, CSV and JSON into ``folder``, made if missing; the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        name = name or self.name
        csv = to_csv(self.records(), CSV_COLUMNS)
        texts = {".md": self.markdown(), ".tex": self.latex(), ".csv": csv}
        texts[".json"] = to_json(self.provenance())
        for suffix, text in texts.items():
            (folder / (name + suffix)).write_text(text, encoding="utf-8")
        return [folder / (name + suffix) for suffix in texts]


def _record(*values: Any) -> dict[str, Any]:
    return dict(zip(CSV_COLUMNS, values, strict=False))


def _cell(outcome: Outcomes, spec: AttackSpec) -> str:
    accuracy = outcome.accuracy(spec)
    if accuracy is None:
        return DASH
    other = "" if accuracy.n == outcome.n else f" (n={accuracy.n})"
    return format_accuracy(accuracy.correct, accuracy.n, accuracy.worth) + other


def _difference(a: Outcomes, b: Outcomes, spec: AttackSpec) -> str:
    difference = paired(a, b, spec)
    return DASH if difference is None else format_difference(difference)
