"""All diagnostics on one model of a suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_snn.attacks import build
from robustbench_snn.diagnostics.attacks import Probe, judged
from robustbench_snn.diagnostics.findings import Finding
from robustbench_snn.diagnostics.health import UnitHealth, gradient_health
from robustbench_snn.diagnostics.measurements import (
    averaging,
    dead_neurons,
    determinism,
    gradient_scale,
    untouched,
    uphill,
    zero_gradients,
)
from robustbench_snn.estimators import TRAINING
from robustbench_snn.suites.spec import attack_at

if TYPE_CHECKING:
    from robustbench_snn.suites.evaluate import ModelRun

MEASURED, HEALTH_SAMPLES, START = 64, 16, 10
EVERY_KIND = ("atan:2", "ste", "assg", "pdsg", "bptr", "rga", "hart")


@dataclass(frozen=True)
class Diagnosis:
    """Findings in order, and the gradient-health table."""

    findings: tuple[Finding, ...]
    health: tuple[UnitHealth, ...]


def diagnose(run: ModelRun) -> Diagnosis:
    """Run the probes of a suite's model and judge them; empty where the suite asks for none."""
    probes, found = run.suite.probes, run.found
    if not probes.n:
        return Diagnosis((), ())
    model = run.worker.model(run.model.name)
    sources = tuple(run.others)
    probe = Probe(run.suite.eps, probes.queries, sources, START if model.stochastic else 1)
    found.probes = run.attacks(probe.specs(), probes.n)
    ranking = found.ranking
    findings = judged(
        probe,
        found.probes,
        model.card.num_classes,
        "adversarial" in model.card.note.lower(),
        ranking.accuracy if ranking else {},
        ranking.eps if ranking else 0.0,
        ranking.left if ranking else None,
    )
    clean = run.worker.clean(run.tasks[0])
    x, y = run.worker.tensors(clean.x[:MEASURED], clean.y[:MEASURED])
    ids, seed = clean.ids[:MEASURED], run.config.seed
    table = gradient_health(model, x[:HEALTH_SAMPLES], y[:HEALTH_SAMPLES])
    best = [name for name in run.chosen[:1] if name != TRAINING]
    findings += [
        zero_gradients(model, _points(run, x, y, ids), y),
        gradient_scale(model, x, y, ids, seed),
        uphill(model, x, y, [TRAINING, *best]),
        determinism(model, x, y),
        untouched(model, x, y, EVERY_KIND if table else ()),
        averaging(model),
        dead_neurons(table),
    ]
    return Diagnosis(tuple(sorted(findings, key=lambda f: int(f.id[1:]))), tuple(table))


def _points(
    run: ModelRun, x: torch.Tensor, y: torch.Tensor, ids: list[str]
) -> dict[str, torch.Tensor]:
    """Where attacks look at gradients: the image, a random start, the tenth iterate."""
    attack = build("pgd", run.config.seed)
    start = attack_at(("pgd", {"steps": 1, "step_size": 1e-9}), run.suite.eps)
    tenth = attack_at(("pgd", {"steps": 10}), run.suite.eps)
    model = run.worker.model(run.model.name)
    return {
        "clean": x,
        "start": attack.perturb(model, x, y, ids, [start])[0],
        "iterate 10": attack.perturb(model, x, y, ids, [tenth])[0],
    }
