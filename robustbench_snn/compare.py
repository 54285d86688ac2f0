"""``python -m robustbench_snn.compare A B``: is one model more robust than another?

A and B are models within a results folder, or two results folders. Outcomes are paired sample by
sample: the difference comes with a 95 % interval (Newcombe 1998), and McNemar's exact test says
whether the two are right equally often.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

COLUMNS = ("what", "n", "A %", "B %", "A - B, points [95 % CI]", "only A, only B", "p")

# Sample id to outcome.
Right = Mapping[str, bool]


@dataclass(frozen=True)
class Side:
    """One of the two: its name and its outcomes.

    Attributes:
        name: of the model.
        right: what was measured (``pgd eps=8/255 steps=50``) to sample outcomes.
        dataset: where the samples come from, which says what of them goes together.
    """

    name: str
    right: Mapping[str, Right]
    dataset: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m robustbench_snn.compare",
        description="Paired comparison of two models from stored per-sample outcomes.",
        allow_abbrev=False,
    )
    parser.add_argument("a", metavar="A", help="a model within --results, or a results folder")
    parser.add_argument("b", metavar="B", help="the other model, or another results folder")
    parser.add_argument("--results", default="results", help="results folder (results)")
    parser.add_argument("--model", help="the model to compare, where A and B are folders of many")
    parser.add_argument("--dataset", help="data set, where the results hold several")
    parser.add_argument("--attack", help="only what starts with this, as 'pgd' or 'suite reliable'")
    options = parser.parse_args(argv)
    try:
        print(comparison(options))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def comparison(options: argparse.Namespace) -> str:
    """The table as Markdown, with what A and B stand for above it.

    Raises:
        UsageError: a side cannot be found, or the sides have nothing in common.
    """
    return table(*sides(options), options.attack or "")


def table(a: Side, b: Side, attack: str = "") -> str:
    """Every measurement that ``a`` and ``b`` share and that starts with ``attack``, as Markdown.

    Raises:
        UsageError: the sides have nothing in common.
    """
    from robustbench_snn.data.catalogue import repeated
    from robustbench_snn.report.tables import to_markdown

    common = [what for what in a.right if what in b.right and what.startswith(attack)]
    found = [paired(what, a.right[what], b.right[what], a.dataset) for what in common]
    records = [record for record in found if record]
    if not records:
        raise UsageError(
            f"'{a.name}' and '{b.name}' have no attack and sample in common: A has "
            f"{_some(a.right)}; B has {_some(b.right)}."
        )
    return (
        f"A = {a.name}, B = {b.name}; the same samples, paired\n\n"
        + to_markdown(records, COLUMNS)
        + "\np: McNemar's exact test. Intervals: Newcombe's for paired proportions"
        + repeated(a.dataset, [sample for what in common for sample in a.right[what]])
        + "."
    )


def _some(right: Mapping[str, Right]) -> str:
    names = list(right)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def sides(options: argparse.Namespace) -> tuple[Side, Side]:
    """What A and B name.

    Raises:
        UsageError: neither models of the results folder nor two folders.
    """
    folders = [Path(name).is_dir() for name in (options.a, options.b)]
    if all(folders):
        return _from_folder(options.a, options), _from_folder(options.b, options)
    if any(folders):
        wrong = options.b if folders[0] else options.a
        raise UsageError(f"A and B are two models or two folders, and '{wrong}' is no folder.")
    found = outcomes(options.results, options.dataset)
    data = _dataset_of(options.results, options)
    return _named(options.a, found, options, data), _named(options.b, found, options, data)


def _from_folder(folder: str, options: argparse.Namespace) -> Side:
    found = outcomes(folder, options.dataset)
    if options.model is None and len(found) != 1:
        raise UsageError(
            f"'{folder}' holds {len(found)} models ({', '.join(found)}): choose with --model."
        )
    data = _dataset_of(folder, options)
    side = _named(options.model or next(iter(found)), found, options, data)
    return Side(f"{side.name} in {Path(folder).name}", side.right, data)


def _dataset_of(folder: str, options: argparse.Namespace) -> str:
    """The data set compared on; ``outcomes`` has made sure that there is one only."""
    from robustbench_snn.store import Results
    from robustbench_snn.suites.layouts import SUITES

    if options.dataset:
        return str(options.dataset)
    frames = Results.load(folder).frame(), Results.load(folder, layout=SUITES).frame()
    return str(next(name for frame in frames for name in frame["dataset"]))


def _named(
    name: str,
    found: Mapping[str, Mapping[str, Right]],
    options: argparse.Namespace,
    dataset: str,
) -> Side:
    if name not in found:
        raise UsageError(
            f"model '{name}' has no results in '{options.results}': "
            f"{did_you_mean(name, list(found))}"
        )
    return Side(name, found[name], dataset)


def outcomes(root: str | Path, dataset: str | None = None) -> dict[str, dict[str, Right]]:
    """Model to what was measured to sample outcomes, of runs and suites under ``root``.

    Raises:
        UsageError: no such folder, no results, or results of several data sets and none named.
    """
    from robustbench_snn.store import Results
    from robustbench_snn.suites.layouts import SUITES

    runs, suites = Results.load(root), Results.load(root, layout=SUITES).frame()
    samples = runs.samples() if len(runs) else None
    datasets = sorted({*suites["dataset"], *(samples["dataset"] if samples is not None else ())})
    if dataset is None and len(datasets) > 1:
        raise UsageError(
            f"'{root}' holds results on {', '.join(datasets)}: choose one with --dataset."
        )
    wanted = dataset or next(iter(datasets), "")
    found: dict[str, dict[str, Right]] = {}
    if samples is not None:
        chosen = samples[samples["dataset"] == wanted]
        _add_runs(found, chosen)
    # Of repeats of one suite the latest counts.
    chosen = suites[suites["dataset"] == wanted].sort_values("started_at", kind="stable")
    for row in chosen.to_dict("records"):
        _add_suite(found.setdefault(row["model"], {}), row)
    if not found:
        raise UsageError(f"'{root}' holds no results to compare: run an evaluation first.")
    return found


def _add_suite(found: dict[str, Right], row: Mapping[Any, Any]) -> None:
    """Plain and worst case at the suite's own eps, worst case at every other eps of its curve."""
    ids, title = list(row["sample_ids"]), f"suite {row['suite']}, eps "

    def right(outcomes: Any) -> Right:
        return dict(zip(ids, map(bool, outcomes), strict=False))

    found.setdefault("clean", right(row["clean"]))
    found[f"{title}{255 * row['eps']:g}/255, plain"] = right(row["plain"])
    curve = {point["eps"] for point in json.loads(row["curves"])} - {0.0}
    for eps in sorted({row["eps"], *curve}):
        standing = row["broken_eps"][: row["n_curve"]] > eps
        outcomes = row["robust"] if eps == row["eps"] else standing
        found[f"{title}{255 * eps:g}/255, worst case"] = right(outcomes)


def _add_runs(found: dict[str, dict[str, Right]], samples: Any) -> None:
    samples = samples[samples["severity"].isna()] if "severity" in samples else samples
    clean = samples.drop_duplicates(["model", "split", "sample_ids"])
    for (model, split), rows in clean.groupby(["model", "split"], sort=True):
        place = "" if split == "test" else f" on {split}"
        right = dict(zip(rows["sample_ids"], map(bool, rows["correct_clean"]), strict=True))
        found.setdefault(model, {})["clean" + place] = right
    attacked = samples[samples["attack"] != "clean"]
    for (model, split, label), rows in attacked.groupby(
        ["model", "split", "attack_label"], sort=False
    ):
        place = "" if split == "test" else f" on {split}"
        right = dict(zip(rows["sample_ids"], map(bool, rows["correct_adv"]), strict=True))
        found[model][label + place] = right


def paired(what: str, a: Right, b: Right, dataset: str = "") -> dict[str, str] | None:
    """One line of the table, or None when no sample is in both."""
    import numpy as np

    from robustbench_snn.data import sample_groups
    from robustbench_snn.metrics import mcnemar, paired_difference
    from robustbench_snn.report.tables import format_difference

    common = [sample for sample in a if sample in b]
    if not common:
        return None
    first = np.array([a[sample] for sample in common])
    second = np.array([b[sample] for sample in common])
    only = int((first & ~second).sum()), int((second & ~first).sum())
    groups = sample_groups(dataset, common)
    p = mcnemar(first, second, groups)
    values = (
        what,
        str(len(common)),
        f"{100 * first.mean():.1f}",
        f"{100 * second.mean():.1f}",
        format_difference(paired_difference(first, second, groups=groups)),
        f"{only[0]}, {only[1]}",
        "< 0.0001" if p < 1e-4 else f"{p:.4f}",
    )
    return dict(zip(COLUMNS, values, strict=True))


if __name__ == "__main__":
    sys.exit(main())
