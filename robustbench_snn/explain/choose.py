"""Which images a figure shows: by a rule that its caption states, never by hand. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_snn.errors import UsageError
from robustbench_snn.explain.stored import Measured, short

RULES = ("random", "first", "lift", "outcomes")


@dataclass(frozen=True)
class Choice:
    """Images and why.

    Attributes:
        ids: sample ids, in the order drawn.
        rule: the rule as a sentence.
        notes: sample id to what sets it apart (``best``, ``only A right``); may be empty.
    """

    ids: list[str]
    rule: str
    notes: dict[str, str]


def choose(found: Sequence[Measured], count: int, rule: str = "random", seed: int = 0) -> Choice:
    """``count`` images that all of ``found`` have.

    Args:
        found: maps of the same samples by several models.
        count: how many, at least 1.
        rule: ``random`` (seeded), ``first``, ``lift`` (best, median and worst mean lift over the
            models) or ``outcomes`` (of the first and the last model: both right, only the last,
            only the first, neither).
        seed: of the random choices.

    Raises:
        UsageError: an unknown rule, no common sample, or ``lift`` without masks.
    """
    if rule not in RULES:
        raise UsageError(f"--choose '{rule}' is unknown: use one of {', '.join(RULES)}.")
    common = set.intersection(*(set(one.ids) for one in found))
    ids = [sample for sample in found[0].ids if sample in common]
    if not ids:
        raise UsageError("the models have no sample in common: compute them with the same --n.")
    count = min(count, len(ids))
    if rule == "first":
        return Choice(ids[:count], f"the first {count} of {len(ids)} images", {})
    if rule == "lift":
        return _by_lift(found, ids, count)
    rng = np.random.default_rng(seed)
    if rule == "outcomes":
        return _by_outcome(found, ids, count, rng, seed)
    picked = sorted(rng.choice(len(ids), count, replace=False).tolist())
    text = f"{count} of {len(ids)} images drawn at random (seed {seed})"
    return Choice([ids[i] for i in picked], text, {})


def _by_lift(found: Sequence[Measured], ids: Sequence[str], count: int) -> Choice:
    if any("lift" not in one.metrics for one in found):
        raise UsageError(
            "--choose lift needs object masks, and this data set has none: use random."
        )
    lifts = np.mean([[_at(one, "lift")[sample] for sample in ids] for one in found], axis=0)
    order = [int(i) for i in np.argsort(-np.nan_to_num(lifts, nan=-1.0), kind="stable")]
    third, middle = -(-count // 3), len(order) // 2
    half = (count - third) // 2 + (count - third) % 2
    groups = {
        "best": order[:third],
        "median": order[middle - half // 2 : middle - half // 2 + half],
        "worst": order[len(order) - (count - third - half) :],
    }
    notes = {ids[i]: name for name, group in groups.items() for i in group}
    rule = f"best, median and worst of {len(ids)} images by mean lift (a silent map is worst)"
    return Choice(list(notes), rule, notes)


def _at(one: Measured, metric: str) -> dict[str, float]:
    return dict(zip(one.ids, one.metrics[metric].tolist(), strict=True))


def _by_outcome(
    found: Sequence[Measured], ids: Sequence[str], count: int, rng: np.random.Generator, seed: int
) -> Choice:
    first, last = (_right(one) for one in (found[0], found[-1]))
    a, b = short(found[0].model), short(found[-1].model)
    strata = {
        f"{a} and {b} right": [s for s in ids if first[s] and last[s]],
        f"only {b} right": [s for s in ids if last[s] and not first[s]],
        f"only {a} right": [s for s in ids if first[s] and not last[s]],
        f"neither {a} nor {b} right": [s for s in ids if not first[s] and not last[s]],
    }
    notes: dict[str, str] = {}
    share = -(-count // len(strata))
    for name, members in strata.items():
        size = min(share, len(members), count - len(notes))
        for i in sorted(rng.choice(len(members), size, replace=False).tolist()) if size else []:
            notes[members[i]] = name
    sizes = ", ".join(f"{name}: {len(members)}" for name, members in strata.items())
    rule = f"{len(notes)} of {len(ids)} images, drawn from the outcomes (seed {seed}; {sizes})"
    return Choice(list(notes), rule, notes)


def _right(one: Measured) -> dict[str, bool]:
    return dict(zip(one.ids, (one.labels == one.predicted).tolist(), strict=True))
