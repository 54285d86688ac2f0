"""A suite from beginning to end: full attacks, screen, steps, curves, diagnostics, clean pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.attack_spec import AttackSpec, format_distance
from robustbench_snn.attacks.specs import climbed
from robustbench_snn.config import CLEAN, RunConfig
from robustbench_snn.errors import UsageError
from robustbench_snn.estimators import NotApplicable
from robustbench_snn.estimators.install import spiking_units
from robustbench_snn.plan import DataIdentity, ModelIdentity, Task
from robustbench_snn.provenance import new_run_id
from robustbench_snn.runner import follows_single_gradients, prepare
from robustbench_snn.suites.curves import levels
from robustbench_snn.suites.outcomes import Outcome, measured
from robustbench_snn.suites.reevaluate import Verdict, other_batch_size, reevaluate
from robustbench_snn.suites.screen import Ranking, screened
from robustbench_snn.suites.spec import Suite, attack_at, resolved
from robustbench_snn.suites.standing import ImageFile, Standing, short_label
from robustbench_snn.suites.worker import SuiteWorker

Say = Callable[[str], None]


@dataclass(frozen=True)
class StepLog:
    """What one step did.

    Attributes:
        label: of the attack; ``eps`` its distance.
        attacked, fooled, failed: numbers of samples.
        gradients, forward_calls, seconds: cost.
        reason: why it was not applicable; empty when it was.
        nonfinite: samples to which the model gave no finite answer, which count as fooled.
        again: whether it repeats an attack on all samples, on those that only it had fooled.
    """

    label: str
    eps: float
    attacked: int = 0
    fooled: int = 0
    failed: int = 0
    gradients: int = 0
    forward_calls: int = 0
    seconds: float = 0.0
    reason: str = ""
    nonfinite: int = 0
    again: bool = False


@dataclass
class Evaluation:
    """Everything a suite found out about one model.

    Attributes:
        suite, config: what was asked.
        model, data: as opened.
        n: number of samples.
        standing: who is left; ``plain`` what the full attacks at the suite's eps left.
        full: outcomes of the attacks on all samples, the curve's included.
        ranking: of the pre-screen.
        log: every step in order, ``curve_log`` those of the curve.
        verdict: the clean pass over the winning images.
    """

    suite: Suite
    config: RunConfig
    model: ModelIdentity
    data: DataIdentity
    n: int
    standing: Standing
    full: dict[AttackSpec, Outcome] = field(default_factory=dict)
    curve_full: dict[AttackSpec, Outcome] = field(default_factory=dict)
    ranking: Ranking | None = None
    log: list[StepLog] = field(default_factory=list)
    curve_log: list[StepLog] = field(default_factory=list)
    verdict: Verdict | None = None
    probes: dict[AttackSpec, Outcome] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def plain(self) -> np.ndarray:
        """Right after the full attack of most steps at the suite's eps, bool [n]."""
        at_eps = [
            spec for spec in self.full if spec != CLEAN and spec.params.get("eps") == self.suite.eps
        ]
        if not at_eps:
            return self.standing.clean.copy()
        longest = max(at_eps, key=lambda spec: int(spec.params.get("steps", 1)))
        return self.full[longest].robust & self.standing.clean

    @property
    def counted_files(self) -> list[ImageFile | None]:
        """For each sample the file of an image that fools the model within the suite's eps."""
        return [
            file if file is not None and file.eps <= self.suite.eps else None
            for file in self.standing.files
        ]


def check_suite(suite: Suite, config: RunConfig, worker: SuiteWorker) -> None:
    """Refuse what would end in numbers without meaning, before anything is computed.

    Raises:
        UsageError: a model without spiking units in a suite about them.
    """
    for name in config.models:
        model = worker.model(name)
        if suite.needs_spikes and not spiking_units(model):
            raise UsageError(
                f"suite '{suite.name}' attacks through several ways to differentiate spikes, and "
                f"model '{name}' has no spiking units: use --suite standard for it."
            )
        if model.stochastic and _without_eot(suite):
            raise UsageError(
                f"model '{name}' encodes images at random, and attacks of suite '{suite.name}' "
                "follow single gradients, which would overstate its robustness: give the suite's "
                "steps eot = 10 (print them with --print-config, edit, and use the file)."
            )


def _without_eot(suite: Suite) -> bool:
    tables = resolved((*suite.full, *suite.step, *suite.curve.full, *suite.curve.step), (), ())
    return any(follows_single_gradients(attack_at(table, suite.eps)) for table in tables)


def _least(suite: Suite, others: Sequence[str]) -> tuple[str, ...]:
    """The loss whose gradient a suite cannot do without: of several, the one that cannot saturate.

    Cross-entropy without a gradient is what diagnostics D10 and D14 tell, beside the attacks that
    do without it.
    """
    tables = (*suite.full, *suite.step, *suite.curve.full, *suite.curve.step)
    specs = [attack_at(table, suite.eps) for table in resolved(tables, (), others)]
    losses = climbed(specs)
    return ("margin",) if "margin" in losses else losses


class ModelRun:
    """Takes one model through a suite.

    Args:
        suite, config: what to do; ``config`` names all models of the run.
        worker: opens models and data and runs steps.
        name: the model.
        say: told what happens, one line at a time.
    """

    def __init__(
        self, suite: Suite, config: RunConfig, worker: SuiteWorker, name: str, say: Say
    ) -> None:
        self.suite, self.worker, self.say = suite, worker, say
        self.config = replace(config, models=(name,), attacks=(CLEAN,))
        self.others = [other for other in config.models if other != name]
        session = prepare(self.config, worker, new_run_id(), _least(suite, self.others))
        for note in session.notes:
            say(f"note: {note}")
        self.tasks: list[Task] = list(session.tasks)
        self.model, self.data = session.models[0], self.tasks[0].data
        passes = [worker.clean(task) for task in self.tasks]
        labels = np.concatenate([part.y for part in passes])
        clean = np.concatenate([part.scores.predicted for part in passes]) == labels
        ids = [name for part in passes for name in part.ids]
        self.found = Evaluation(
            suite, self.config, self.model, self.data, len(ids), Standing(ids, labels, clean)
        )

    def run(self) -> Evaluation:
        """The whole suite but for the diagnostics and what ``settle`` does after them."""
        begun = time.perf_counter()
        found, suite = self.found, self.suite
        self.say(f"{self.model.name}: clean {100 * found.standing.clean.mean():.1f} % of {found.n}")
        found.full = self.attacks(
            [CLEAN, *(attack_at(t, suite.eps) for t in resolved(suite.full, (), self.others))]
        )
        self.say(f"{self.model.name}: plain {100 * found.plain.mean():.1f} %")
        found.ranking = screened(suite, self.config, self.worker, self.model)
        if found.ranking.accuracy:
            best = ", ".join(found.ranking.names[: suite.screen.keep])
            where = f"ε {format_distance(found.ranking.eps)}"
            self.say(f"{self.model.name}: screen at {where} on {found.ranking.n} chose {best}")
        for table in resolved(suite.step, self.chosen, self.others, self.searched):
            found.log.append(self.step(attack_at(table, suite.eps), range(found.n)))
        self._check_attacked()
        self._curve()
        found.seconds = time.perf_counter() - begun
        return found

    @property
    def chosen(self) -> tuple[str, ...]:
        """The estimators kept by the screen, best first."""
        ranking = self.found.ranking
        return ranking.names[: self.suite.screen.keep] if ranking else ()

    @property
    def searched(self) -> tuple[str, ...]:
        """The estimators tuned by the screen, in the suite's order."""
        return self.found.ranking.searched if self.found.ranking else ()

    def attacks(
        self, specs: Sequence[AttackSpec], n: int | None = None
    ) -> dict[AttackSpec, Outcome]:
        """Outcomes of attacks on all of the first ``n`` samples."""
        config = replace(self.config, n=min(n or self.found.n, self.found.n))
        return measured(config, specs, self.model, self.data, self.worker.device.type)

    def step(self, spec: AttackSpec, samples: Sequence[int]) -> StepLog:
        """Attack the survivors among ``samples`` (rows, ascending), shard by shard."""
        eps, standing = float(spec.params["eps"]), self.found.standing
        log = StepLog(short_label(spec), eps)
        left = standing.survivors(eps, samples)
        for task in self.tasks:
            rows = [row for row in left if task.shard.start <= row < task.shard.stop]
            if not rows:
                continue
            try:
                row = self.worker.step(task, spec, [at - task.shard.start for at in rows])
            except NotApplicable as reason:
                log = replace(log, reason=str(reason))
                break
            log = _added(log, row, len(rows), standing.take(spec, row) if _ok(row) else 0)
        self._tell(log)
        return log

    def _check_attacked(self) -> None:
        """Raise UsageError when nothing but clean predictions stands behind the worst case."""
        steps, full = self.found.log, set(self.found.full) - {CLEAN}
        if full or any(not log.reason for log in steps):
            return
        why = steps[0].reason if steps else "none applies to a model like it."
        raise UsageError(
            f"no attack of suite '{self.suite.name}' can be run on '{self.model.name}', so its "
            f"worst case would be clean accuracy: {why}"
        )

    def _tell(self, log: StepLog) -> None:
        if log.reason:
            self.say(f"  {log.label}: {log.reason}")
        elif log.attacked:
            left = log.attacked - log.fooled
            where = f"ε {levels(log.eps)}"
            self.say(f"  {where} {log.label}: {log.attacked} -> {left}  ({log.seconds:.0f} s)")

    def _curve(self) -> None:
        """Worst case at every eps of the curve; attacks on all samples as curves of their own."""
        curve, n = self.suite.curve, min(self.suite.curve.n, self.found.n)
        if not n:
            return
        specs = [attack_at(t, eps) for eps in curve.eps for t in resolved(curve.full, (), ())]
        self.found.curve_full = self.attacks(specs, n) if specs else {}
        for eps in curve.eps:
            for table in resolved(curve.step, self.chosen, self.others, self.searched):
                self.found.curve_log.append(self.step(attack_at(table, eps), range(n)))

    def settle(self, moved: Mapping[str, NDArray[np.bool_]]) -> None:
        """Let everything computed on the samples enter their worst case, then predict again.

        Args:
            moved: what the model was attacked with at the suite's eps beside ``Evaluation``'s
                attacks, to bool [m]: the first m samples that are right afterwards.
        """
        found = self.found
        largest = max([self.suite.eps, *(self.suite.curve.eps if self.suite.curve.n else ())])
        for spec, outcome in [
            *found.full.items(),
            *found.curve_full.items(),
            *found.probes.items(),
        ]:
            if 0 < float(spec.params.get("eps", 0)) <= largest:
                self._take_in(spec, outcome.robust)
        if not self.worker.model(self.model.name).stochastic:
            for label, right in moved.items():
                found.standing.lose(label, self.suite.eps, np.flatnonzero(~right))
        self.reevaluate()

    def _take_in(self, spec: AttackSpec, right: NDArray[np.bool_]) -> None:
        """Count the samples that ``spec`` fooled and nothing else did."""
        found, eps = self.found, float(spec.params["eps"])
        rows = found.standing.survivors(eps, np.flatnonzero(~right).tolist())
        new = [row for row in rows if found.standing.broken_eps[row] > self.suite.eps]
        if new and eps <= self.suite.eps:
            # Once more on these alone: only steps keep the images that the clean pass predicts.
            found.standing.forget(new)
            found.log.append(replace(self.step(spec, new), again=True))
        # One answer of a random model proves nothing; its steps are judged by votes.
        if not self.worker.model(self.model.name).stochastic:
            found.standing.lose(short_label(spec), eps, rows)

    def reevaluate(self) -> None:
        """The clean pass the reported accuracies come from."""
        found, model = self.found, self.worker.model(self.model.name)
        x = np.concatenate([self.worker.clean(task).x for task in self.tasks])
        size = other_batch_size(self.config.batch_size)
        found.verdict = reevaluate(
            model,
            x,
            found.standing.labels,
            found.standing.ids,
            found.counted_files,
            self.config.out,
            size,
        )


def _ok(row: dict[str, Any]) -> bool:
    return bool(row["status"] == "ok")


def _added(log: StepLog, row: dict[str, Any], attacked: int, fooled: int) -> StepLog:
    return replace(
        log,
        attacked=log.attacked + attacked,
        fooled=log.fooled + fooled,
        failed=log.failed + (0 if _ok(row) else attacked),
        gradients=log.gradients + (row.get("gradients") or 0),
        forward_calls=log.forward_calls + (row.get("forward_calls") or 0),
        nonfinite=log.nonfinite + (row.get("nonfinite_answers") or 0),
        seconds=log.seconds + (row.get("seconds") or 0.0),
    )
