"""What can be named on the command line, as text."""

from __future__ import annotations

import textwrap

from robustbench_snn.attack_spec import format_param
from robustbench_snn.attacks.specs import ATTACKS, attack_type
from robustbench_snn.card import Checkpoint, ModelCard
from robustbench_snn.catalogue import MODELS, model_card
from robustbench_snn.data import DATASETS
from robustbench_snn.estimators import ESTIMATORS, estimator_name
from robustbench_snn.report.tables import folded, to_markdown
from robustbench_snn.suites.spec import BUILT_IN, read_suite

WIDTH = 100


def listing() -> str:
    """All models, data sets, attacks, suites and gradient estimators, one table each."""
    attacks = [{"attack": "clean", "what": "clean accuracy alone"}]
    attacks += [{"attack": n, "what": attack_type(n).summary} for n in ATTACKS.names()]
    bridge = "any attack of the torchattacks package, options with --attack-arg KEY=VALUE"
    attacks.append({"attack": "torchattacks:NAME", "what": bridge})
    data = [
        {
            "data set": card.name,
            "classes": card.num_classes,
            "splits": ", ".join(card.splits),
            "what": card.description,
        }
        for card in map(DATASETS.get, DATASETS.names())
    ]
    models = [_model(model_card(name)) for name in MODELS.names()]
    suites = [{"suite": name, "what": read_suite(name).summary} for name in BUILT_IN]
    estimators = [
        {"estimator": estimator_name(name), "what": ESTIMATORS.get(name).summary}
        for name in ESTIMATORS.names()
    ]
    return "\n".join(
        [
            to_markdown(models, ["model", "input", "T", "weights", "clean %"]),
            *_origins(),
            folded(data, ["data set", "classes", "splits", "what"]),
            folded(attacks, ["attack", "what"]),
            "".join(map(_options, ATTACKS.names())),
            folded(suites, ["suite", "what"]),
            folded(estimators, ["estimator", "what"]),
        ]
    )


def _options(name: str) -> str:
    """``- pgd: --eps 8/255 --steps 10``, in lines of at most ``WIDTH`` columns."""
    options = [
        # A flag and its value stay on one line.
        f"{option.flag}\N{NO-BREAK SPACE}{format_param(option.name, option.default)}"
        for option in attack_type(name).options()
    ]
    lines = textwrap.wrap(
        f"- {name}: {' '.join(options)}",
        WIDTH,
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ") + "\n"


def _origins() -> list[str]:
    """A line on each place that weights are fetched from."""
    notes: dict[str, list[str]] = {}
    for card in map(model_card, MODELS.names()):
        if card.checkpoint and card.checkpoint.fetched:
            notes.setdefault(card.note, []).append(card.name)
    lines = [f"{', '.join(names)}: {note}." for note, names in notes.items()]
    return ["\n".join(textwrap.wrap(line, WIDTH)) + "\n" for line in lines]


def _weights(checkpoint: Checkpoint | None) -> str:
    if checkpoint is None:
        return "untrained"
    if not checkpoint.fetched:
        return "shipped"
    size = f" ({checkpoint.megabytes} MB)" if checkpoint.megabytes else ""
    return f"on first use{size}"


def _clean(card: ModelCard) -> str:
    """Clean accuracy in per cent, and whether it is somebody else's word."""
    if card.reported is None:
        return ""
    stated = bool(card.checkpoint and card.checkpoint.fetched)
    return f"{100 * card.reported.accuracy:.1f}" + (" reported" if stated else "")


def _model(card: ModelCard) -> dict[str, str]:
    return {
        "model": card.name,
        "input": "x".join(str(side) for side in card.input_shape),
        "T": str(card.time_steps),
        "weights": _weights(card.checkpoint),
        "clean %": _clean(card),
    }
