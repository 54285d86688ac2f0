"""``python -m robustbench_snn.compare A B``: is one model more robust than another?

A and B are models within a results folder, or two results folders. Outcomes are paired sample by
sample: the difference comes with a 95 % interval (Newcombe 1998), and McNemar's exact test says
whether the two are right equally often.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_snn.endings import ended_politely
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean
from robustbench_snn.store import say
from robustbench_snn.versions import FACTS, Right, Version, choose, versions

COLUMNS = ("what", "n", "A %", "B %", "A - B, points [95 % CI]", "only A, only B", "p")


@dataclass(frozen=True)
class Side:
    """One of the two: its name and its outcomes.

    Attributes:
        name: of the model.
        right: what was measured (``pgd eps=8/255 steps=50``) to sample outcomes.
        version: where they come from; None where they were put together by hand.
        dataset: where the samples come from, which says what of them goes together.
    """

    name: str
    right: Mapping[str, Right]
    version: Version | None = None
    dataset: str = ""


@ended_politely
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
    for side in ("a", "b"):
        parser.add_argument(
            f"--{side}",
            dest=f"only_{side}",
            action="append",
            default=[],
            metavar="FACT=VALUE",
            help=f"which version of {side.upper()}, where there are several; facts are "
            f"{', '.join(FACTS)}; repeatable",
        )
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
        + "".join(f"\n{line}" for line in _incomplete(a, b, common))
        + "\np: McNemar's exact test. Intervals: Newcombe's for paired proportions"
        + repeated(a.dataset, [sample for what in common for sample in a.right[what]])
        + "."
    )


def _some(right: Iterable[str]) -> str:
    names = list(right)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _incomplete(a: Side, b: Side, measured: Sequence[str]) -> list[str]:
    """A sentence for each pair of numbers of samples that are not the same samples."""
    found: dict[tuple[int, int, int], list[str]] = {}
    for what in measured:
        first, second = a.right[what], b.right[what]
        both = len(first.keys() & second.keys())
        if both < max(len(first), len(second)):
            found.setdefault((len(first), len(second), both), []).append(what)
    return [
        f"A has {n} samples, B has {m}, and the {both} they share are compared: "
        + (_some(whats) if len(whats) < len(measured) else "everywhere")
        + "."
        for (n, m, both), whats in found.items()
    ]


def sides(options: argparse.Namespace) -> tuple[Side, Side]:
    """What A and B name.

    Raises:
        UsageError: neither models of the results folder nor two folders, several versions of one
            model, or images of two revisions.
    """
    folders = [Path(name).is_dir() for name in (options.a, options.b)]
    if any(folders) and not all(folders):
        wrong = options.b if folders[0] else options.a
        raise UsageError(f"A and B are two models or two folders, and '{wrong}' is no folder.")
    roots = (options.a, options.b) if all(folders) else (options.results, options.results)
    read = {root: versions(root, options.dataset, say) for root in dict.fromkeys(roots)}
    names = (
        [_only(root, read[root], options.model) for root in roots]
        if all(folders)
        else [options.a, options.b]
    )
    made = []
    for root, name, letter in zip(roots, names, "ab", strict=True):
        found, wanted = read[root], getattr(options, f"only_{letter}")
        if name not in found:
            hint = did_you_mean(name, list(found))
            raise UsageError(f"model '{name}' has no results in '{root}': {hint}")
        version = choose(found[name], wanted, f"--{letter}", root)
        chosen = f" ({', '.join(wanted)})" if wanted else ""
        place = f" in {Path(root).name}" if all(folders) else ""
        made.append(Side(f"{name}{chosen}{place}", version.right, version, version.dataset))
    _check_revisions(*made)
    return made[0], made[1]


def outcomes(root: str | Path, dataset: str | None = None) -> dict[str, Mapping[str, Right]]:
    """Model to what was measured to sample outcomes, where each model has one version.

    Raises:
        UsageError: see ``versions``; or a model has several.
    """
    found = versions(root, dataset, say)
    return {name: choose(several, (), "", root).right for name, several in found.items()}


def _only(root: str, found: Mapping[str, Sequence[Version]], named: str | None) -> str:
    if named is None and len(found) != 1:
        raise UsageError(
            f"'{root}' holds {len(found)} models ({', '.join(found)}): choose with --model."
        )
    return named or next(iter(found))


def _check_revisions(a: Side, b: Side) -> None:
    """Raise UsageError where equal sample ids stand for other images."""
    assert a.version is not None
    assert b.version is not None
    first, second = (side.facts["revision"] for side in (a.version, b.version))
    if first == second:
        return
    about = f"A was evaluated on revision {first} of the data, B on {second}"
    if a.version.older == b.version.older:
        raise UsageError(
            f"{about}, so that equal sample ids are other images: evaluate both on one of them."
        )
    say(f"{about}; one is of an earlier release, which formed revisions otherwise.")


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
