"""The pre-screen: which gradient estimators are worth the full attack, on held-out samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.config import RunConfig
from robustbench_snn.data import DATASETS
from robustbench_snn.estimators import TRAINING, estimator_name
from robustbench_snn.estimators.install import not_applicable, spiking_units
from robustbench_snn.plan import DataIdentity, ModelIdentity
from robustbench_snn.suites.outcomes import Outcome, measured
from robustbench_snn.suites.spec import Screen, Search, Suite, attack_at, parse_search
from robustbench_snn.worker import Worker

# Below this share of survivors an eps no longer tells good estimators from better ones.
_TELLING, _LEAST_EPS = 0.1, 0.5 / 255
# Each leaves two thirds of the span: a fifth after four.
_ROUNDS = 4


@dataclass(frozen=True)
class Ranking:
    """The estimators from best to worst.

    Attributes:
        names: best first; those of equal accuracy by their mean margin.
        accuracy: fraction of the held-out samples left standing, by name.
        eps: at which they were compared.
        split, n: on what.
        refused: reasons of those that are not applicable, by name.
        seconds, gradients: what the screen cost.
        searched: the best value of each search of the suite, in order.
        left: what the training surrogate leaves standing at the suite's own eps, as a fraction,
            where ``eps`` had to be smaller; None where it had not.
    """

    names: tuple[str, ...]
    accuracy: dict[str, float]
    eps: float
    split: str
    n: int
    refused: dict[str, str]
    seconds: float = 0.0
    gradients: int = 0
    left: float | None = None
    searched: tuple[str, ...] = ()


def screened(suite: Suite, config: RunConfig, worker: Worker, model: ModelIdentity) -> Ranking:
    """Compare the suite's candidates on the held-out split.

    The eps is halved until at least a tenth of the samples survive the training surrogate: where
    everything breaks anyway, nothing can be told apart. A data set without that split uses its
    training split, which no result is read from either.
    """
    screen = suite.screen
    candidates = [estimator_name(name) for name in screen.estimators]
    searches = [parse_search(text) for text in screen.search]
    if not (candidates or searches) or not spiking_units(worker.model(model.name)):
        return Ranking((), {}, suite.eps, "", 0, {})
    splits = DATASETS.get(config.dataset).splits
    split = next((name for name in (screen.split, "train") if name in splits), "")
    if not split:
        return Ranking(tuple(candidates), {}, suite.eps, "", 0, {})
    held = replace(config, split=split, n=None)
    opened = Worker(held, "screen")
    images = opened.data(worker.model(model.name).card)
    held = replace(held, n=min(screen.n, len(images)))
    data = DataIdentity(config.dataset, images.source, images.revision, split, len(images))
    probe, _ = worker.tensors(images.batch(range(2)).x, np.zeros(2, dtype=np.int64))
    ends = [search.at(search.low) for search in searches]
    refused = _refused(worker, model.name, [*candidates, *ends], probe)
    usable = [name for name in candidates if name not in refused]

    def run(names: list[str], eps: float) -> dict[str, Outcome]:
        specs = {_spec(screen, name, eps): name for name in names}
        found = measured(held, list(specs), model, data, worker.device.type)
        return {specs[spec]: outcome for spec, outcome in found.items()}

    eps, spent = _telling_eps(run, suite.eps)
    left = spent[0].accuracy if spent else None
    found = run(usable, eps)
    tuned = []
    for search, end in zip(searches, ends, strict=True):
        if end not in refused:
            tuned.append(best_of(search, lambda names: run(names, eps), spent))
            found |= run([tuned[-1]], eps)
    order = sorted(found, key=lambda name: (found[name].accuracy, float(found[name].margin.mean())))
    return Ranking(
        tuple(order),
        {name: found[name].accuracy for name in order},
        eps,
        split,
        int(held.n or 0),
        refused,
        sum(outcome.seconds for outcome in [*spent, *found.values()]),
        sum(outcome.gradients for outcome in [*spent, *found.values()]),
        left,
        tuple(tuned),
    )


def best_of(
    search: Search, run: Callable[[list[str]], dict[str, Outcome]], spent: list[Outcome]
) -> str:
    """The estimator that leaves fewest samples standing, by ternary search.

    Args:
        search: which parameter, between what.
        run: names of estimators to their outcomes.
        spent: gets the outcomes that were looked at.
    """
    low, high = search.low, search.high
    looked: dict[str, tuple[float, float]] = {}

    def height(value: float) -> tuple[float, float]:
        name = search.at(value)
        if name not in looked:
            outcome = run([name]).get(name)
            spent.extend([outcome] if outcome else [])
            looked[name] = (
                (outcome.accuracy, float(outcome.margin.mean())) if outcome else (1.0, np.inf)
            )
        return looked[name]

    for _ in range(_ROUNDS):
        third = (high - low) / 3
        if height(low + third) <= height(high - third):
            high -= third
        else:
            low += third
    height((low + high) / 2)
    return min(looked, key=lambda name: looked[name])


def _telling_eps(
    run: Callable[[list[str], float], dict[str, Outcome]], eps: float
) -> tuple[float, list[Outcome]]:
    spent: list[Outcome] = []
    while eps / 2 >= _LEAST_EPS:
        outcome = run([TRAINING], eps).get(TRAINING)
        if outcome is None or outcome.accuracy >= _TELLING:
            break
        spent.append(outcome)
        eps /= 2
    return eps, spent


def _spec(screen: Screen, name: str, eps: float) -> AttackSpec:
    return attack_at(("pgd-worst", {"steps": screen.steps, "estimator": name}), eps)


def _refused(
    worker: Worker, model: str, candidates: list[str], probe: torch.Tensor
) -> dict[str, str]:
    reasons = {name: not_applicable(worker.model(model), name, probe) for name in candidates}
    return {name: reason for name, reason in reasons.items() if reason}
