"""Results under common corruptions read back from the store: tables of all models, and curves.

Needs the results store only, no torch; matplotlib and seaborn are imported when drawing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_snn.config import CLEAN
from robustbench_snn.corruptions.names import COMMON, CORRUPTIONS, EXTRA, GROUPS, group_of
from robustbench_snn.errors import UsageError
from robustbench_snn.metrics import wilson
from robustbench_snn.report.corruptions import DASH, Cells, Share
from robustbench_snn.report.dependence import independent
from robustbench_snn.report.tables import to_csv, to_json, to_latex, to_markdown
from robustbench_snn.store import Results

if TYPE_CHECKING:
    import pandas as pd

FACTS = [
    *("model", "model_config", "model_source_sha256", "weights_sha256", "split", "seed"),
    *("time_steps", "surrogate", "ssa_proj_lif", "device"),
]
CSV_COLUMNS = [
    *("dataset", "model", "corruption", "group", "severity", "source", "settings"),
    *("n", "correct", "accuracy", "low", "high"),
]
PANELS = {
    "15 corruptions": COMMON,
    **{name: names for name, names in GROUPS.items() if name != "extra"},
    "extra 4": EXTRA,
}


@dataclass(frozen=True)
class ModelResult:
    """One model as evaluated.

    Attributes:
        facts: the columns of ``FACTS``, as text.
        cells: its answers to corrupted images.
        clean: mean accuracy on the clean images; None where they were not evaluated.
        settings: corruption to what its images depend on.
        keys: content keys of the results used, sorted.
    """

    facts: Mapping[str, str]
    cells: Cells
    clean: Share | None
    settings: Mapping[str, str]
    keys: tuple[str, ...]

    def share(self, names: Sequence[str], severity: int) -> Share | None:
        """Mean accuracy at one severity; severity 0 is the clean images."""
        return self.cells.accuracy(names, [severity]) if severity else self.clean


@dataclass(frozen=True)
class CorruptionTable:
    """All models evaluated on corrupted images of one data set."""

    dataset: str
    revision: str
    models: Sequence[ModelResult]

    @classmethod
    def load(cls, results: Path, dataset: str) -> CorruptionTable:
        """Collect what ``results`` holds of corrupted images, classified without an attack.

        Raises:
            UsageError: nothing, or two versions of one corruption in one folder.
        """
        samples = Results.load(results).samples()
        samples = samples[(samples["dataset"] == dataset) & (samples["attack"] == CLEAN.name)]
        corrupted = samples[samples["corruption"].notna()]
        if corrupted.empty:
            raise UsageError(
                f"the results hold no corrupted images of '{dataset}': run "
                "`python -m robustbench_snn.run --corruption all` first."
            )
        clean = samples[samples["corruption"].isna()]
        models = []
        for facts, group in corrupted.groupby(FACTS, sort=True, dropna=False):
            named = dict(zip(FACTS, map(str, facts), strict=True))
            mine = clean[(clean[FACTS].astype(str) == named).all(axis=1)]
            models.append(_model(named, group, mine))
        revisions = corrupted["dataset_revision"].str.partition("+")[0]
        return cls(dataset, ", ".join(sorted(set(revisions))), models)

    def severities(self) -> list[int]:
        """All severities that any model was evaluated at."""
        return sorted({level for model in self.models for level in model.cells.severities})

    def summary(self) -> list[dict[str, str]]:
        """One record per model: clean error, mean over the 15, their groups and the extra 4."""
        rows = []
        for model in self.models:
            record = {"model": model.cells.model, "n": str(max(model.cells.n.values(), default=0))}
            record["clean"] = model.clean.text(error=True) if model.clean else DASH
            for title, names in PANELS.items():
                mean = model.cells.accuracy(names)
                record[title] = mean.text(error=True) if mean else DASH
            value = model.cells.alexnet(self.dataset)
            rows.append(record | ({"mCE": f"{value:.1f}"} if value is not None else {}))
        return rows

    def summary_columns(self) -> list[str]:
        """Headings of ``summary``; mCE exists on ImageNet only."""
        return ["model", "n", "clean", *PANELS, *(["mCE"] if self.dataset == "imagenet" else [])]

    def by_corruption(self) -> list[dict[str, str]]:
        """One record per corruption with the error of every model, severities together."""
        rows = []
        for name in [n for n in CORRUPTIONS if any(n in m.cells.source for m in self.models)]:
            record = {"corruption": name, "group": group_of(name)}
            found = {model.cells.sources([name]) for model in self.models} - {""}
            record["source"] = ", ".join(sorted(found))
            for model in self.models:
                mean = model.cells.accuracy([name])
                record[model.cells.model] = mean.text(error=True) if mean else DASH
            rows.append(record)
        return rows

    def by_corruption_columns(self) -> list[str]:
        """Headings of ``by_corruption``."""
        return ["corruption", "group", "source", *(model.cells.model for model in self.models)]

    def records(self) -> Iterator[dict[str, Any]]:
        """Every cell in long form, fractions; severity 0 of ``clean`` is the clean images."""
        for model in self.models:
            if model.clean:
                n, value = model.clean.n, model.clean.value
                yield self._record(model, ("clean", "", 0, "", ""), n, round(value * n))
            for name, severity in sorted(
                model.cells.n, key=lambda cell: (CORRUPTIONS.index(cell[0]), cell[1])
            ):
                place = (name, group_of(name), severity, model.cells.source[name])
                cell = (name, severity)
                counts = (model.cells.n[cell], model.cells.right[cell])
                yield self._record(model, (*place, model.settings[name]), *counts)

    def _record(self, model: ModelResult, place: tuple[Any, ...], n: int, right: int) -> Any:
        values = (self.dataset, model.cells.model, *place, n, right, right / n)
        values += wilson(right, n, worth=model.cells.independent)
        return dict(zip(CSV_COLUMNS, values, strict=True))

    def caption(self) -> str:
        """What a reader must know to repeat the numbers."""

        def every(fact: str) -> str:
            return ", ".join(sorted({model.facts[fact] for model in self.models}))

        settings = dict.fromkeys(
            part
            for model in self.models
            for text in model.settings.values()
            for part in text.split(", ")
        )
        sources = sorted({s for model in self.models for s in model.cells.source.values()})
        counts = sorted({n for model in self.models for n in model.cells.n.values()})
        return (
            f"Error in percent on corrupted images of {self.dataset} (revision {self.revision}, "
            f"{every('split')} split, first {' or '.join(map(str, counts))} images), severities "
            f"{', '.join(map(str, self.severities()))}; images {' and '.join(sources)} "
            f"({', '.join(settings)}), seed {every('seed')}; T={every('time_steps')}. Means are "
            "unnormalised, over corruptions and severities; the extra 4 enter none of the others. "
            "95 % Wilson intervals that count every image once, however many corrupted versions "
            f"of it were classified{self._objects()}, so they are on the wide side."
        )

    def _objects(self) -> str:
        found = {m.cells.independent for m in self.models if m.cells.independent}
        return "".join(f", and each of their {count} objects once" for count in sorted(found))

    def write(self, folder: Path, name: str = "corruptions") -> list[Path]:
        """Write both tables as Markdown and LaTeX, all cells as CSV, their results as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = [
            (self.summary(), self.summary_columns()),
            (self.by_corruption(), self.by_corruption_columns()),
        ]
        markdown = "\n".join([self.caption() + "\n", *(to_markdown(*table) for table in tables)])
        latex = "\n".join(
            to_latex(*table, self.caption(), f"tab:{name}-{i}")
            for i, table in enumerate(tables, start=1)
        )
        texts = {".md": markdown, ".tex": latex, ".csv": to_csv(list(self.records()), CSV_COLUMNS)}
        texts[".json"] = self.provenance()
        for suffix, text in texts.items():
            (folder / (name + suffix)).write_text(text, encoding="utf-8")
        return [folder / (name + suffix) for suffix in texts]

    def provenance(self) -> str:
        """JSON that names the results behind the tables."""
        models = [dict(m.facts) | {"result_keys": list(m.keys)} for m in self.models]
        content = {"dataset": self.dataset, "caption": self.caption(), "models": models}
        return to_json(content)


def _model(facts: Mapping[str, str], group: pd.DataFrame, clean: pd.DataFrame) -> ModelResult:
    cells = Cells(facts["model"])
    settings: dict[str, str] = {}
    by = ["corruption", "severity", "dataset_revision", "corruption_source", "corruption_settings"]
    for version, rows in group.groupby(by, sort=False):
        name, level, _, source, about = map(str, version)
        severity = int(float(level))
        if (name, severity) in cells.n:
            raise UsageError(
                f"the results hold {name} at severity {severity} of '{facts['model']}' in "
                "two versions (source, constants or textures): keep them in folders of their own."
            )
        settings[name] = about
        cell = {"corruption": name, "severity": severity, "corruption_source": source}
        counts = {"n": len(rows), "right": int(rows["correct_clean"].sum())}
        cells.add({**cell, **counts, "status": "ok", "flags": []}, "right")
    cells.independent = independent(group["dataset"].iloc[0], group["sample_ids"])
    right = clean["correct_clean"].astype(bool)
    share = Share(float(right.mean()), len(right), cells.independent) if len(right) else None
    keys = sorted({*group["key"], *clean["key"]})
    if facts["weights_sha256"].startswith("untrained"):
        cells.model += " (untrained, no result)"
    return ModelResult(facts, cells, share, settings, tuple(keys))
