"""Which attacks the diagnostics read, and how their outcomes become findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks import make_spec
from robustbench_snn.config import CLEAN
from robustbench_snn.diagnostics import rules
from robustbench_snn.diagnostics.findings import TITLES, Finding, Status, skipped
from robustbench_snn.suites.outcomes import Outcome
from robustbench_snn.suites.spec import attack_at

LEVELS = (1, 2, 4, 8, 16, 32, 64, 128)
LARGE, PRIOR = 128 / 255, 8 / 255
FINAL_STEPS = (10, 30, 50)


@dataclass(frozen=True)
class Probe:
    """The attacks behind the diagnostics, all with the training surrogate, at distance ``eps``.

    Args:
        eps: of the suite.
        queries: of Square.
        sources: models to transfer from.
        eot: gradients averaged; 1 for deterministic models.
    """

    eps: float
    queries: int
    sources: tuple[str, ...] = ()
    eot: int = 1

    def worst(self, eps: float, steps: int, **more: Any) -> AttackSpec:
        """PGD that keeps its worst iterate."""
        return attack_at(("pgd-worst", {"steps": steps, "eot": self.eot, **more}), eps)

    def final(self, steps: int) -> AttackSpec:
        """PGD as papers report it: the last iterate."""
        return attack_at(("pgd", {"steps": steps}), self.eps)

    @property
    def fgsm(self) -> AttackSpec:
        """One step."""
        return make_spec("fgsm", {"eps": self.eps})

    @property
    def noise(self) -> AttackSpec:
        """100 uniform draws."""
        return make_spec("noise", {"eps": self.eps, "draws": 100})

    @property
    def square(self) -> AttackSpec:
        """Random search."""
        return make_spec("square", {"eps": self.eps, "queries": self.queries})

    @property
    def transfers(self) -> list[AttackSpec]:
        """One attack from every other model."""
        return [attack_at(("transfer", {"source": name}), self.eps) for name in self.sources]

    @property
    def nothing(self) -> AttackSpec:
        """An attack that may change nothing."""
        return make_spec("pgd-worst", {"eps": 0.0, "steps": 1, "eot": self.eot})

    def specs(self) -> list[AttackSpec]:
        """All attacks, those that share a computation next to each other."""
        found = [CLEAN, self.nothing, self.noise]
        found += [self.worst(self.eps, steps) for steps in (10, 50, 100, 200)]
        found += [self.worst(level / 255, 20) for level in LEVELS]
        found += [self.worst(LARGE, 50), self.worst(PRIOR, 50)]
        found += [self.worst(self.eps, 50, restarts=5), self.worst(self.eps, 50, loss="margin")]
        if self.eot == 1:
            found += [self.fgsm, *(self.final(steps) for steps in FINAL_STEPS)]
        return [*dict.fromkeys([*found, self.square, *self.transfers])]


def judged(
    probe: Probe,
    found: Mapping[AttackSpec, Outcome],
    classes: int,
    defended: bool,
    accuracy: Mapping[str, float],
    screen_eps: float,
    left: float | None = None,
) -> list[Finding]:
    """D1 to D9, D12, D14, D16, D18 and D21 from the outcomes of ``probe.specs()``.

    Args:
        probe: the attacks.
        found: their outcomes; what failed is missing and its rules are skipped.
        classes: K.
        defended: whether the card says the model was trained adversarially.
        accuracy: of the screen, by estimator.
        screen_eps: at which the screen compared them.
        left: what the training surrogate left in the screen at the suite's eps, if larger.
    """
    right = {spec: outcome.robust for spec, outcome in found.items()}
    worst = probe.worst
    pgd = {steps: worst(probe.eps, steps) for steps in (10, 50, 100, 200)}
    asked: dict[str, tuple[Sequence[AttackSpec], Any]] = {
        "D1": ([probe.fgsm, pgd[10]], rules.step_order),
        "D3": ([worst(LARGE, 50)], lambda r: rules.large_eps(r, classes)),
        "D4": ([probe.noise, pgd[50]], rules.noise_floor),
        "D7": ([pgd[50], worst(probe.eps, 50, restarts=5)], rules.restarts),
        "D8": (
            [probe.square, pgd[200], worst(probe.eps, 50, restarts=5)],
            lambda square, long, many: rules.black_box(square, long & many),
        ),
        "D14": ([pgd[50], worst(probe.eps, 50, loss="margin")], rules.loss_choice),
        "D18": ([worst(PRIOR, 50)], lambda r: rules.undefended(r, defended)),
    }
    findings = []
    for id, (specs, rule) in asked.items():
        complete = all(spec in right for spec in specs)
        findings.append(rule(*(right[spec] for spec in specs)) if complete else _failed(id))
    levels = {level / 255: worst(level / 255, 20) for level in LEVELS}
    finals = {steps: probe.final(steps) for steps in FINAL_STEPS}
    findings += [
        rules.monotone_in_eps({eps: right[s] for eps, s in levels.items() if s in right}),
        rules.monotone_in_steps({n: right[s] for n, s in finals.items() if s in right})
        if probe.eot == 1
        else skipped("D5", "no rise above 2 SE", "last iterates of a random encoder are noise"),
        _converged(found, pgd),
        rules.transfer([right[s] for s in probe.transfers if s in right], _white_box(right, pgd)),
        rules.surrogate_sensitivity(accuracy, "training", screen_eps, left),
        _kept(found, probe),
        _answered(found),
    ]
    return sorted(findings, key=lambda finding: int(finding.id[1:]))


def _failed(id: str) -> Finding:
    return skipped(id, TITLES[id], "an attack it reads was not run, or has failed")


def _white_box(right: Mapping[AttackSpec, rules.Right], pgd: Mapping[int, AttackSpec]) -> Any:
    return np.logical_and.reduce([right[spec] for spec in pgd.values() if spec in right])


def _converged(found: Mapping[AttackSpec, Outcome], pgd: Mapping[int, AttackSpec]) -> Finding:
    if pgd[100] not in found or pgd[200] not in found:
        return _failed("D6")
    first, second = found[pgd[100]], found[pgd[200]]
    return rules.convergence(first.robust, second.robust, first.loss, second.loss)


def _kept(found: Mapping[AttackSpec, Outcome], probe: Probe) -> Finding:
    """D16: no attack left its budget or the range, and eps 0 changes no answer."""
    broken = [spec.label() for spec, outcome in found.items() if not outcome.valid]
    if probe.nothing not in found:
        return _failed("D16")
    same = bool((found[probe.nothing].robust == found[probe.nothing].clean).all())
    figure = f"{len(broken)} of {len(found)} attacks broke a bound; eps 0 "
    figure += "gives clean accuracy" if same else "changes answers"
    status: Status = "pass" if not broken and same else "fail"
    return Finding("D16", status, figure, "max |d| <= eps + 1e-6, range kept, eps 0 = clean")


def _answered(found: Mapping[AttackSpec, Outcome]) -> Finding:
    """D21: every logit of every attack is finite."""
    lacking = {spec.label(): o.nonfinite for spec, o in found.items() if o.nonfinite}
    if not found:
        return _failed("D21")
    figure = f"finite answers under {len(found) - len(lacking)} of {len(found)} attacks"
    if lacking:
        most = max(lacking, key=lambda label: lacking[label])
        figure += f"; most without one: {lacking[most]} samples under {most}"
    return Finding("D21", "fail" if lacking else "pass", figure, "every logit is finite")
