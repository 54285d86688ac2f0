"""Transfer: PGD made on one model, tried on another (Papernot et al. 2016, arXiv 1605.07277)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks.apgd import PROBE
from robustbench_snn.attacks.ball import Ball
from robustbench_snn.attacks.base import Attack, Perturbed, cross_entropy_gradient, gradient_health
from robustbench_snn.attacks.health import AttackHealth
from robustbench_snn.attacks.losses import margin
from robustbench_snn.attacks.pursuit import Gradients, Pursuit
from robustbench_snn.catalogue import is_foreign
from robustbench_snn.errors import UsageError
from robustbench_snn.estimators.install import installed
from robustbench_snn.source_code import foreign_source_sha256
from robustbench_snn.weights import weights_identity

LOOK_EVERY = 5


class Transfer(Attack):
    """Climbs the source's loss to the end and tries every fifth iterate on the target."""

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str],
        specs: Sequence[AttackSpec],
    ) -> list[Perturbed]:
        return [self._one(model, x, y, ids, spec) for spec in specs]

    def _one(
        self, model: nn.Module, x: Tensor, y: Tensor, ids: Sequence[str], spec: AttackSpec
    ) -> Perturbed:
        params, ball = spec.params, Ball.of(model, spec.params)
        source = load_source(str(params["source"]), str(x.device))
        check_source(source, model)
        pursuit, health = Pursuit(model, x, y, ids), AttackHealth(forward_calls=1)
        rows = pursuit.standing
        point = ball.inner_start(x[rows], self.seed, pursuit.ids_of(rows), 0)
        with installed(source, str(params["estimator"]), x[:PROBE]) as active:
            active.restart()
            separable = Gradients(source, active, "ce").separable
            for step in range(1, int(params["steps"]) + 1):
                if not len(rows):
                    break
                gradient = cross_entropy_gradient(source, point, y[rows])
                health = health + gradient_health(gradient)
                ahead = point + float(params["step_size"]) * gradient.sign()
                point = ball.project(x[rows], ahead)
                if step % LOOK_EVERY and step != params["steps"]:
                    continue
                with torch.no_grad():
                    pursuit.take(rows, point, margin(model(point), y[rows]))
                left = (pursuit.margin[rows] >= 0).nonzero()[:, 0]
                if separable and len(left) < len(rows):
                    rows, point = rows[left], point[left]
                    active.select(left)
        return Perturbed(pursuit.found, health)


@lru_cache(maxsize=4)
def load_source(text: str, device: str) -> ModelAdapter:
    """The model ``NAME@HASH``, loaded once.

    Raises:
        UsageError: no name, or a plug-in's model that is not the one of that hash.
    """
    if not text:
        raise UsageError("attack 'transfer' needs the model it is made on: --source NAME.")
    name, _, wanted = text.partition("@")
    source = _opened(name, device)
    if wanted and is_foreign(name) and _sha256(source) != wanted:
        raise UsageError(
            f"transfer source '{name}' changed on disk since this run began: run the same command "
            "again."
        )
    return source


def _opened(name: str, device: str) -> ModelAdapter:
    # An untrained source must come out the same each time.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_model(name, device=device)


@lru_cache(maxsize=16)
def source_sha256(name: str) -> str:
    """Twelve hex digits over weights, constructor arguments and code of a plug-in's model.

    Raises:
        UsageError: it cannot be opened.
    """
    return _sha256(_opened(name, "cpu"))


def _sha256(source: ModelAdapter) -> str:
    parts = (weights_identity(source), source.config_json, foreign_source_sha256(type(source)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def check_source(source: ModelAdapter, target: nn.Module) -> None:
    """Make sure both models classify the same data set.

    Raises:
        UsageError: they do not.
    """
    card = getattr(target, "card", None)
    if card is not None and source.card.dataset != card.dataset:
        raise UsageError(
            f"transfer source '{source.card.name}' classifies '{source.card.dataset}', but the "
            f"target '{card.name}' classifies '{card.dataset}', so the attack would aim at other "
            "classes: name a source trained on the same data set (--list)."
        )
