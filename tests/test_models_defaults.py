"""The function that every family computes by default, pinned by numbers recorded once.

A changed default (a threshold, the reset, a layer's mode, a reading) changes logits or gradients
here, even where no name and no shape shows it. Everything is computed in float64, so that no
rounding can flip a spike. Recorded before SpiLiFormer's variants became readings.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustbench_snn.adapter import load_model
from robustbench_snn.catalogue import MODELS, model_card
from robustbench_snn.models.readings import READINGS

# First three logits of two images, and the norm of the gradient of the mean cross-entropy.
RECORDED = {
    "qkformer-small.cifar10": (
        [2.009317, -1.637778, -0.779559, 2.210701, -1.403734, -1.217418],
        2.088788025458,
    ),
    "sdt-small.cifar10": (
        [1.495576, -0.25415, -1.010131, 1.66904, 0.126607, -1.022307],
        0.573986412158,
    ),
    "spiliformer-small.cifar10": (
        [2.369299, 0.216217, 1.460725, 2.328518, 0.961738, 1.030375],
        1.154683137528,
    ),
    "spiliformer-small-no-ff.cifar10": (
        [1.055165, 0.3555, -3.248391, 2.054724, 0.32097, -3.838748],
        1.530538667455,
    ),
    "spiliformer-small-no-fb.cifar10": (
        [2.636938, -0.107874, -0.918579, 2.588039, 0.327604, -1.343335],
        0.828267693488,
    ),
    "qkformer-4-384.cifar10": (
        [1.119401, -4.125066, -0.917906, -3.337602, -7.366222, -1.162478],
        15.110135712366,
    ),
    "spiliformer-4-384.cifar10": (
        [-1.826019, -7.839629, 0.712797, -0.484656, -8.426287, -1.364979],
        6.123337037194,
    ),
    "sdt-2-512.cifar10": (
        [-0.453114, -2.72337, 0.086017, 1.174183, -4.16986, -2.223871],
        5.162981765798,
    ),
}


def images(side: int) -> Tensor:
    places = torch.arange(2 * 3 * side * side, dtype=torch.float64).view(2, 3, side, side)
    return 0.5 + 0.5 * torch.sin(0.37 * places + 0.011 * places.sqrt())


def outcome(name: str, **arguments: object) -> tuple[list[float], float]:
    model = load_model(name, model_args=arguments).double()
    x = images(32 if "-small" in name else 16).requires_grad_()
    logits = model(x)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([3, 5]))
    (gradient,) = torch.autograd.grad(loss, x)
    return logits[:, :3].flatten().tolist(), float(gradient.norm())


@pytest.mark.parametrize("name", RECORDED)
def test_shipped_models_compute_what_they_were_trained_as(name: str) -> None:
    logits, norm = outcome(name)
    assert logits == pytest.approx(RECORDED[name][0], abs=2e-6)
    assert norm == pytest.approx(RECORDED[name][1], rel=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ssa_proj_lif": "official"},
        {"reading": "cifar100"},
        {"reading": "paper"},
        {"fb_reorder": False},
        {"logits": "mean"},
        {"heads": 2},
    ],
    ids=lambda a: "-".join(map(str, next(iter(a.items())))),
)
def test_these_numbers_notice_another_default(arguments: dict[str, object]) -> None:
    logits, _ = outcome("spiliformer-small.cifar10", **arguments)
    assert logits != pytest.approx(RECORDED["spiliformer-small.cifar10"][0], abs=1e-3)


def test_each_data_set_has_the_reading_of_its_released_model() -> None:
    expected = {
        "digit-scenes": "cifar10",
        "cifar10": "cifar10",
        "cifar100": "cifar100",
        "imagenet": "imagenet",
        "cifar10-dvs": "cifar10dvs",
        "ncaltech101": "ncaltech101",
    }
    cards = [model_card(name) for name in MODELS.names() if name.startswith("spiliformer")]
    found = {card.dataset: card.config.get("reading", "cifar10") for card in cards}
    assert found == expected
    own = {"layout", "dim", "depth", "heads", "mlp_ratio", "num_classes", "in_channels"}
    for card in cards:
        switches = set(card.config) - own - {"reading"}
        assert switches == {"no-ff": {"ff"}, "no-fb": {"fb"}}.get(card.ablation, set())


def test_readings_are_those_of_the_release() -> None:
    # The table of the release, row by row; the golden files prove the functions.
    same = {"fb": True, "attn_neuron": True, "fb_source": "block", "fb_prompt": "token"}
    same |= {"carry_state": False, "logits": "second"}
    rows = {
        "cifar10": (True, False, True, 1.0, "linear-bn", True, "top-down"),
        "cifar100": (True, False, True, 2.0, "bn-linear", False, "top-down"),
        "imagenet": (True, False, True, 1.0, "linear-bn", False, "bottom-up"),
        "cifar10dvs": (False, True, True, 1.0, "linear", True, "top-down"),
        "ncaltech101": (False, False, True, 1.0, "linear-bn", True, "top-down"),
        "paper": (True, False, False, 1.0, "linear-bn", False, "none"),
    }
    names = ("ff", "attn_differential", "fb_cosine", "fb_gain", "fb_decoder", "fb_reorder")
    names += ("fb_chain",)
    expected = {key: {**same, **dict(zip(names, row, strict=True))} for key, row in rows.items()}
    assert {key: asdict(variant) for key, variant in READINGS.items()} == expected


def test_the_table_of_readings_in_the_documents_is_true() -> None:
    lines = (Path(__file__).parents[1] / "docs" / "choices.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    (head,) = [row for row in rows if row[0] == "reading"]
    told = {row[0].split("`")[0]: row for row in rows if row[0].split("`")[0] in READINGS}
    assert told.keys() == READINGS.keys()
    for name, row in told.items():
        for switch, text in zip(head[2:], row[2:], strict=True):
            value = asdict(READINGS[name])[switch]
            said = f"{value:g}" if isinstance(value, float) else str(value).removeprefix("`")
            assert text.lower() in (said.lower(), "one block"), (name, switch)
