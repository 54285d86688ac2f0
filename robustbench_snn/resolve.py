"""From settings as given to a RunConfig in which every name is known and every default filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.specs import make_spec
from robustbench_snn.attacks.values import parse_free
from robustbench_snn.card import ModelCard
from robustbench_snn.catalogue import MODELS, model_card
from robustbench_snn.config import CLEAN, FAST, RunConfig, parse_part
from robustbench_snn.corruptions.names import PRESETS, parse_severities
from robustbench_snn.corruptions.names import resolve as corruption_names
from robustbench_snn.data import DATASETS
from robustbench_snn.errors import UsageError
from robustbench_snn.executors import NAMES as EXECUTORS
from robustbench_snn.options import CLEAN_NAMES
from robustbench_snn.presets import CORRUPTION_TEXTS, EXECUTION_TEXTS, AttackTable
from robustbench_snn.registry import did_you_mean

_PLAIN = (
    *("split", "data_dir", "weights", "n", "batch_size", "shard_size", "device", "seed", "out"),
    *("workers", "keep_older", *EXECUTION_TEXTS),
    *CORRUPTION_TEXTS,
)


def resolve(settings: Mapping[str, Any]) -> tuple[RunConfig, list[str]]:
    """The run that ``settings`` (keys of ``presets.SETTINGS``) ask for.

    Returns:
        (configuration, sentences the user should read before the run).

    Raises:
        UsageError: an unknown name, models of another data set, or no model at all.
    """
    patterns = list(settings.get("models", []))
    dataset = settings.get("dataset") or _dataset_of(patterns)
    card = DATASETS.get(dataset)
    split = settings.get("split", RunConfig.split)
    if split not in card.splits:
        raise UsageError(
            f"data set '{dataset}' has no split '{split}': choose one of {', '.join(card.splits)}."
        )
    models, notes = choose_models(patterns, dataset, bool(settings.get("weights")))
    check_execution(settings)
    config = RunConfig(
        models=tuple(models),
        attacks=tuple(attack_specs(settings["attack"])),
        dataset=dataset,
        plugins=tuple(settings.get("plugins", ())),
        model_args={key: parse_free(v) for key, v in settings.get("model_args", {}).items()},
        **corruption_settings(settings),
        **{key: settings[key] for key in _PLAIN if key in settings},
    )
    return config, notes


def check_execution(settings: Mapping[str, Any]) -> None:
    """Check where and which part of the work is to be done.

    Raises:
        UsageError: an unknown executor, one that is not installed, or a malformed part.
    """
    name = settings.get("executor", RunConfig.executor)
    if name not in EXECUTORS:
        raise UsageError(f"unknown executor '{name}': {did_you_mean(name, list(EXECUTORS))}")
    if name == "ray" and find_spec("ray") is None:
        raise UsageError(
            "executor 'ray' was asked for, but Ray is not installed: pip install "
            "'robustbench-snn[ray]', or use --executor processes."
        )
    level = settings.get("fast", RunConfig.fast)
    if level not in FAST:
        raise UsageError(f"unknown level '{level}' of --fast: {did_you_mean(level, list(FAST))}")
    if settings.get("ray_address") and name != "ray":
        raise UsageError(f"--ray-address belongs to --executor ray, and it is '{name}'.")
    if settings.get("workers") and name == "inline":
        raise UsageError("--workers belongs to --executor processes or ray, and it is 'inline'.")
    if settings.get("shard"):
        parse_part(settings["shard"])


def corruption_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The corruptions and severities asked for, as fields of a RunConfig; none without a name.

    Raises:
        UsageError: an unknown corruption, severity or preset, or options without a corruption.
    """
    if not settings.get("corruptions"):
        for key in ("severity", *CORRUPTION_TEXTS):
            if key in settings:
                raise UsageError(
                    f"--{key.replace('_', '-')} belongs to corruptions, and none was named: add "
                    "--corruption NAME, or all."
                )
        return {}
    preset = settings.get("corruption_preset", PRESETS[0])
    if preset not in PRESETS:
        hint = did_you_mean(preset, list(PRESETS))
        raise UsageError(f"unknown corruption preset '{preset}': {hint}")
    return {
        "corruptions": tuple(corruption_names(settings["corruptions"])),
        "severities": tuple(parse_severities(settings.get("severity", "1-5"))),
    }


def attack_specs(tables: Sequence[AttackTable]) -> list[AttackSpec]:
    """The attacks named in (name, options) pairs, repeats dropped.

    Raises:
        UsageError: an unknown attack, or an option it lacks or cannot read.
    """
    return list(dict.fromkeys(_spec(name, options) for name, options in tables))


def _spec(name: str, options: Mapping[str, Any]) -> AttackSpec:
    if name not in CLEAN_NAMES:
        return make_spec(name, options)
    if options:
        raise UsageError(
            f"attack '{name}' measures clean accuracy and has no option '{next(iter(options))}': "
            "leave the option out, or name an attack such as pgd."
        )
    return CLEAN


def _dataset_of(patterns: Sequence[str]) -> str:
    """The data set of the models named exactly, if they share one; else the embedded set."""
    named = {model_card(name).dataset for name in patterns if name in MODELS.names()}
    if len(named) > 1:
        raise UsageError(
            f"the models named were trained on different data sets ({', '.join(sorted(named))}): "
            "choose one with --dataset, or run them one after another."
        )
    return named.pop() if named else RunConfig.dataset


def choose_models(
    patterns: Sequence[str], dataset: str, own_weights: bool
) -> tuple[list[str], list[str]]:
    """Names of the models to run, in order.

    A name is taken as it is. A pattern (a glob, or ``all``, which is the default) stands for the
    models of the data set that it fits and that are shipped with weights; where there are none,
    for those that fetch them, and else for the untrained ones. ``all`` leaves out ablations, and
    takes one undefended and one adversarially trained model of each family.

    Returns:
        (names, notes for the user).

    Raises:
        UsageError: nothing fits, a model of another data set, or weights for several models.
    """
    names: list[str] = []
    notes: list[str] = []
    for pattern in patterns or ["all"]:
        if pattern in MODELS.names():
            _check_dataset(model_card(pattern), dataset)
            names.append(pattern)
            continue
        fitting = [
            card for card in map(model_card, MODELS.match(pattern)) if card.dataset == dataset
        ]
        if pattern == "all":
            fitting = [card for card in fitting if not card.ablation]
        if not fitting:
            raise UsageError(_no_model(pattern, dataset))
        trained = with_weights(fitting, own_weights)
        if pattern == "all":
            trained, others = one_of_each_kind(trained)
            if others:
                notes.append(f"other models run when they are named: {', '.join(others)}.")
        if not trained and not own_weights:
            notes.append(
                f"no model of '{dataset}' that fits '{pattern}' comes with weights; the untrained "
                "ones are run, and their numbers are not results."
            )
        names += [card.name for card in trained or fitting]
    names = list(dict.fromkeys(names))
    if own_weights and len(names) != 1:
        raise UsageError(
            f"--weights belongs to exactly one model, and {len(names)} were chosen "
            f"({', '.join(names)}): name the one with --model."
        )
    return names, notes


def with_weights(cards: Sequence[ModelCard], own_weights: bool) -> list[ModelCard]:
    """The shipped models among ``cards``; only where there are none, those that fetch weights.

    With weights of the user's own there is nothing to fetch.
    """
    trained = [card for card in cards if card.checkpoint is not None]
    shipped = [card for card in trained if card.checkpoint and not card.checkpoint.fetched]
    return shipped or ([] if own_weights else trained)


def one_of_each_kind(cards: Sequence[ModelCard]) -> tuple[list[ModelCard], list[str]]:
    """(one undefended and one adversarially trained model of each family, names of those left out).

    The smallest: fewest parameters, time steps, pixels; of equals the one trained at the largest
    eps, then the one with the highest stated accuracy. Models whose size nobody states are kept.
    """

    def rank(card: ModelCard) -> tuple[float, ...]:
        stated = card.reported.accuracy if card.reported else 0.0
        size = (float(card.parameters or 0), card.time_steps, card.input_shape[-1])
        return (*size, -card.trained_eps, -stated)

    best: dict[tuple[str, bool], ModelCard] = {}
    for card in cards:
        kind = (card.family, card.trained_eps > 0)
        if card.parameters is not None and (kind not in best or rank(card) < rank(best[kind])):
            best[kind] = card
    kept = [c for c in cards if c.parameters is None or c in best.values()]
    return kept, [card.name for card in cards if card not in kept]


def _check_dataset(card: ModelCard, dataset: str) -> None:
    if card.dataset != dataset:
        raise UsageError(
            f"model '{card.name}' classifies '{card.dataset}', so its answers on '{dataset}' "
            f"would mean nothing: use --dataset {card.dataset}, or a model of '{dataset}' (--list)."
        )


def _no_model(pattern: str, dataset: str) -> str:
    known = sorted({model_card(name).dataset for name in MODELS.names()})
    wanted = f"fits '{pattern}' and " if pattern != "all" else ""
    return (
        f"no model in the catalogue {wanted}classifies '{dataset}' (there are models for "
        f"{', '.join(known)}): add one with --plugin FILE.py, or choose another --dataset."
    )
