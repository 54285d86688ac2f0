"""Which versions of a model a results folder holds, and the flags that choose one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

# Sample id to outcome.
Right = Mapping[str, bool]

# What a flag calls a fact, and its column. Two rows that differ in one answer other questions.
FACTS = {
    "weights": "weights_sha256",
    "seed": "seed",
    "config": "model_config",
    "source": "model_source_sha256",
    "revision": "dataset_revision",
    "surrogate": "surrogate",
    "ssa": "ssa_proj_lif",
    "steps": "time_steps",
    "device": "device",
    "batch": "batch",
}
_HASHES = ("weights", "source", "revision")
_SHOWN = 4
_COLUMNS = {
    *(column for name, column in FACTS.items() if name != "batch"),
    *("split", "severity", "attack_label", "attack_params", "precision", "batch_size", "flags"),
    *("code_sha256", "started_at", "sample_ids", "labels", "pred_clean", "pred_adv"),
    *("eps", "clean", "plain", "robust", "broken_eps", "curves", "n_curve"),
}


@dataclass
class Version:
    """One model as evaluated: all its rows agree in every fact.

    Attributes:
        model: catalogue name.
        facts: name in ``FACTS`` to value, as text.
        dataset: what it was evaluated on.
        older: whether rows of an earlier release are among its own.
        right: what was measured (``pgd eps=8/255 steps=50``) to sample outcomes.
    """

    model: str
    facts: Mapping[str, str]
    dataset: str = ""
    older: bool = False
    right: dict[str, Right] = field(default_factory=dict)


def versions(
    root: str | Path, dataset: str | None, tell: Callable[[str], None]
) -> dict[str, list[Version]]:
    """Model to its versions, from runs and suites on one data set under ``root``.

    Args:
        root: results folder.
        dataset: data set; None where there is only one.
        tell: is given a sentence on everything left out.

    Raises:
        UsageError: no such folder, no results, results of several data sets and none named, or
            rows that contradict each other.
    """
    from robustbench_snn.store import RUNS, Results
    from robustbench_snn.suites.layouts import SUITES

    runs, suites = (
        results.frame()
        for results in Results.load_all(root, (RUNS, SUITES), tell=tell, columns=_COLUMNS)
    )
    datasets = sorted({*suites["dataset"], *runs["dataset"]})
    if dataset is None and len(datasets) > 1:
        raise UsageError(
            f"'{root}' holds results on {', '.join(datasets)}: choose one with --dataset."
        )
    wanted = dataset or next(iter(datasets), "")
    found: dict[tuple[str, ...], Version] = {}
    runs = runs[(runs["dataset"] == wanted) & runs["severity"].isna()]
    for version, rows in _grouped(runs, found):
        _add_runs(version, rows, root)
    suites = suites[suites["dataset"] == wanted].sort_values("started_at", kind="stable")
    for version, rows in _grouped(suites, found):
        _add_suites(version, rows, tell)
    if not found:
        raise UsageError(f"'{root}' holds no results to compare: run an evaluation first.")
    named: dict[str, list[Version]] = {}
    for version in _with_other_splits(list(found.values())):
        version.dataset = wanted
        named.setdefault(version.model, []).append(version)
    return named


def _with_other_splits(found: Sequence[Version]) -> list[Version]:
    """The versions, those without results on the test split joined to theirs that have some."""

    def rest(version: Version) -> tuple[str, ...]:
        facts = (value for name, value in version.facts.items() if name != "revision")
        return (version.model, *facts)

    tested = [version for version in found if version.facts["revision"]]
    kept = list(tested)
    for version in found:
        if version.facts["revision"]:
            continue
        homes = [other for other in tested if rest(other) == rest(version)]
        for home in homes:
            home.right |= version.right
        kept += [] if homes else [version]
    return kept


def _grouped(
    frame: pd.DataFrame, found: dict[tuple[str, ...], Version]
) -> list[tuple[Version, pd.DataFrame]]:
    from robustbench_snn.store import is_coupled

    coupled = map(is_coupled, frame["flags"])
    frame = frame.assign(
        batch=[str(b) * c for b, c in zip(frame["batch_size"], coupled, strict=True)]
    )
    columns = ["model", *FACTS.values()]
    # Each split has a revision of its own; that of the test split tells versions apart.
    others = frame["split"] != "test"
    ambiguous = others & (
        frame.groupby(["model", "split"])["dataset_revision"].transform("nunique") > 1
    )
    suffix = [
        f" on {name}" if other else "" for name, other in zip(frame["split"], others, strict=True)
    ]
    suffix = [
        f"{text} (revision {revision})" if many else text
        for text, revision, many in zip(suffix, frame["dataset_revision"], ambiguous, strict=True)
    ]
    revision = frame["dataset_revision"].mask(others, "")
    frame = frame.assign(place=suffix, dataset_revision=revision)
    groups = []
    for values, rows in frame.groupby(columns, dropna=False, sort=False):
        identity = tuple("" if value is None or value != value else str(value) for value in values)
        facts = dict(zip(FACTS, identity[1:], strict=True))
        version = found.setdefault(identity, Version(identity[0], facts))
        version.older |= bool(rows["code_sha256"].isna().any())
        groups.append((version, rows))
    return groups


def _add_runs(version: Version, rows: pd.DataFrame, root: str | Path) -> None:
    place = rows["place"]
    kind = rows["precision"].fillna("float32").map(lambda p: "" if p == "float32" else f" ({p})")
    # Attacks that mix their batch answer otherwise in another one.
    mixes = rows["attack"].str.startswith("torchattacks:") | rows["attack_params"].str.contains(
        "over=batch"
    )
    sizes = rows["batch_size"].where(mixes)
    several = rows.assign(size=sizes).groupby("attack_label")["size"].transform("nunique") > 1
    batch = [
        f" (batch {size:.0f})" if many else "" for size, many in zip(sizes, several, strict=True)
    ]
    for name, predicted in (("clean", "pred_clean"), ("", "pred_adv")):
        labels = "clean" + place if name else rows["attack_label"] + place + kind + batch
        chosen = rows if name else rows[rows["attack"] != "clean"]
        for label, part in chosen.groupby(labels[chosen.index], sort=False):
            version.right[str(label)] = _joined(version, str(label), part, predicted, root)


def _joined(
    version: Version, what: str, rows: pd.DataFrame, predicted: str, root: str | Path
) -> Right:
    right: dict[str, bool] = {}
    from_row: dict[str, str] = {}
    for key, ids, answers, labels in zip(
        rows["key"], rows["sample_ids"], rows[predicted], rows["labels"], strict=True
    ):
        for sample, hit in zip(ids, answers == labels, strict=True):
            if right.setdefault(sample, bool(hit)) != bool(hit):
                raise UsageError(
                    f"results of model '{version.model}' under {what} in '{root}' contradict each "
                    f"other on sample {sample} (keys {from_row[sample][:12]} and {key[:12]}): "
                    "keep one of the two in another folder."
                )
            from_row.setdefault(sample, key)
    return right


def _add_suites(version: Version, rows: pd.DataFrame, tell: Callable[[str], None]) -> None:
    counts: dict[str, int] = {}
    for row in rows.to_dict("records"):
        place = row["place"]
        counts[f"{row['suite']}{place}"] = counts.get(f"{row['suite']}{place}", 0) + 1
        _add_suite(version.right, row, place)
    for name, count in counts.items():
        if count > 1:
            tell(f"suite '{name}' was run {count} times on '{version.model}'; the latest counts.")


def _add_suite(found: dict[str, Right], row: Mapping[Any, Any], place: str) -> None:
    """Plain and worst case at the suite's own eps, worst case at every other eps of its curve."""
    ids, title = list(row["sample_ids"]), f"suite {row['suite']}{place}, eps "

    def right(outcomes: Any) -> Right:
        return dict(zip(ids, map(bool, outcomes), strict=False))

    found.setdefault(f"clean{place}", right(row["clean"]))
    found[f"{title}{255 * row['eps']:g}/255, plain"] = right(row["plain"])
    curve = {point["eps"] for point in json.loads(row["curves"])} - {0.0}
    for eps in sorted({row["eps"], *curve}):
        standing = row["broken_eps"][: row["n_curve"]] > eps
        outcomes = row["robust"] if eps == row["eps"] else standing
        found[f"{title}{255 * eps:g}/255, worst case"] = right(outcomes)


def choose(found: Sequence[Version], wanted: Sequence[str], flag: str, root: str | Path) -> Version:
    """The one version that has the facts ``wanted``.

    Args:
        found: versions of one model, at least one.
        wanted: texts ``FACT=VALUE``; of hashes the first digits are enough.
        flag: by which they are given, for the message; empty where none does.
        root: the results folder, for the message.

    Raises:
        UsageError: an unknown fact, no version that fits, or several.
    """
    left = list(found)
    for text in wanted:
        name, equals, value = text.partition("=")
        if name not in FACTS or not equals:
            raise UsageError(
                f"{flag} '{text}' is not FACT=VALUE with one of {', '.join(FACTS)}"
                + ("." if not equals else f": {did_you_mean(name, list(FACTS))}")
            )
        fitting = [version for version in left if _fits(version.facts[name], name, value)]
        if not fitting:
            there = ", ".join(sorted({_short(name, v.facts[name]) for v in left}))
            raise UsageError(
                f"model '{left[0].model}' has no results with {text} in '{root}': there are "
                f"{there}."
            )
        left = fitting
    if len(left) == 1:
        return left[0]
    raise UsageError(_several(left, flag, root))


def _several(left: Sequence[Version], flag: str, root: str | Path) -> str:
    differ = [name for name in FACTS if len({version.facts[name] for version in left}) > 1]
    shown = [" ".join(_short(n, v.facts[n]) for n in differ) for v in left[:_SHOWN]]
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    likewise = f", or likewise by {', '.join(differ[1:])}" if differ[1:] else ""
    example = f"choose one with {flag} {_short(differ[0], left[0].facts[differ[0]])}{likewise}"
    return (
        f"model '{left[0].model}' has {len(left)} versions in '{root}', which must not be joined "
        f"({'; '.join(shown)}{more}): "
        f"{example if flag else 'use a results folder with one of them'}."
    )


def _fits(fact: str, name: str, value: str) -> bool:
    return fact == value or (name in _HASHES and bool(value) and fact.startswith(value))


def _short(name: str, value: str) -> str:
    if name == "weights" and value.startswith("untrained:"):
        return f"{name}={value[:18]}"
    return f"{name}={value[:12] if name in _HASHES else value}"
