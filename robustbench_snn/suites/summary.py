"""The last row of a suite for one model: everything its tables and figures read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.attack_spec import AttackSpec
from robustbench_snn.attacks import ATTACKS, attack_type
from robustbench_snn.config import content_key
from robustbench_snn.data import sample_groups
from robustbench_snn.diagnostics.findings import raised
from robustbench_snn.diagnostics.run import Diagnosis
from robustbench_snn.metrics import Accuracy
from robustbench_snn.plan import CLEAN, UNREADABLE, code_sha256, key_content, older_notes
from robustbench_snn.provenance import utc_now
from robustbench_snn.rows import identity
from robustbench_snn.source_code import own_roots
from robustbench_snn.store import look, read_row, shard_path
from robustbench_snn.suites.evaluate import Evaluation, ModelRun
from robustbench_snn.suites.images import is_stored
from robustbench_snn.suites.layouts import SUITE_VERSION, SUITES
from robustbench_snn.suites.reevaluate import counted
from robustbench_snn.suites.standing import ImageFile
from robustbench_snn.suites.times import TimeCell
from robustbench_snn.suites.toml import tables_toml


def summary_row(
    run: ModelRun, diagnosis: Diagnosis, times: Sequence[TimeCell], settings: str
) -> dict[str, Any]:
    """The row of ``SUITES`` for one finished model.

    Args:
        run: after ``run``.
        diagnosis: findings and gradient health.
        times: the attack-T against test-T matrix.
        settings: the suite in full, as TOML.
    """
    found, verdict = run.found, run.found.verdict
    assert verdict is not None
    task = run.tasks[0]
    base = identity(task, task.cells[0], run.config.seed) | run.worker.constant
    failed = sum(log.failed for log in [*found.log, *found.curve_log])
    row = {name: value for name, value in base.items() if name in SUITES.columns} | {
        "key": suite_key(run),
        "code_sha256": summary_code(run),
        "suite": found.suite.name,
        "settings": settings,
        "eps": found.suite.eps,
        "start": 0,
        "stop": found.n,
        "n": found.n,
        "steps": json.dumps([asdict(log) for log in found.log]),
        "curve_steps": json.dumps([asdict(log) for log in found.curve_log]),
        "screen_split": found.ranking.split if found.ranking else "",
        "screen_n": found.ranking.n if found.ranking else 0,
        "screen": json.dumps(found.ranking.accuracy if found.ranking else {}),
        "screen_eps": found.ranking.eps if found.ranking else None,
        "not_applicable": json.dumps(_refused(found)),
        "image_files": [json.dumps(asdict(file)) for file in _files(found)],
        "verified_batch_size": verdict.batch_size,
        "diagnostics": json.dumps([finding.record() for finding in diagnosis.findings]),
        "gradient_health": json.dumps([unit.record() for unit in diagnosis.health]),
        "times": json.dumps([cell.record() for cell in times]),
        "curves": json.dumps(curves(found)),
        "n_curve": min(found.suite.curve.n, found.n),
        "flags": [*raised(diagnosis.findings), *_row_flags(found, verdict.outside)],
        "status": "ok" if not failed else "failed",
        "error": f"{failed} samples of steps failed" if failed else None,
        "started_at": utc_now(),
        "batch_size": run.config.batch_size,
    }
    return row | _samples(found) | _cost(found)


def suite_key(run: ModelRun) -> str:
    """Content key of the row: the model, the samples, every attack, and the other models."""
    task, config = run.tasks[0], run.config
    content = key_content(config, run.model, run.data, task.shard, CLEAN, run.worker.device.type)
    return content_key(
        content
        | {"suite": SUITE_VERSION, "settings": tables_toml(run.suite), "others": run.others}
        | {"samples": [0, run.found.n], "batch_size": config.batch_size}
    )


def finished(run: ModelRun) -> dict[str, Any] | None:
    """The row of an earlier run of the same suite, its images still there; None without one."""
    root, key = run.config.out, suite_key(run)
    place = {"suite": run.suite.name, "model": run.model.name, "dataset": run.data.name}
    path = shard_path(root, place | {"start": 0, "stop": run.found.n, "key": key}, SUITES)
    code, keep = summary_code(run), run.config.keep_older
    state, _ = look(path, key, SUITES, code)
    if state == "unreadable":
        run.say(f"'{path}' {UNREADABLE} and is computed again.")
    elif state == "older":
        for note in older_notes([path], keep):
            run.say(note)
    row = read_row(path) if state == "ok" or (state == "older" and keep) else None
    if row is None:
        return None
    for file in (ImageFile(**json.loads(text)) for text in row["image_files"]):
        if not is_stored(root, file.path, file.sha256):
            run.say(f"'{file.path}' is missing or damaged and is computed again.")
            return None
    return row


def summary_code(run: ModelRun) -> str:
    """sha256 of the source of this package that a suite's last row depends on."""
    attacks = {home for name in ATTACKS.names() for home in own_roots(attack_type(name).impl)}
    return code_sha256(run.model, run.data, CLEAN, "suites.engine", *attacks)


def _samples(found: Evaluation) -> dict[str, Any]:
    verdict, standing = found.verdict, found.standing
    assert verdict is not None
    files = {file: at for at, file in enumerate(_files(found))}
    chosen = found.counted_files
    image = [-1 if file is None else files[file] for file in chosen]
    clean, claimed = verdict.clean & standing.clean, standing.robust(found.suite.eps)
    plain = found.plain & clean
    robust = counted(verdict.robust, plain, claimed, image)
    check_order(clean, plain, robust)
    won = ~claimed & standing.clean
    return {
        "sample_ids": standing.ids,
        "labels": standing.labels.tolist(),
        "clean": clean.tolist(),
        "plain": plain.tolist(),
        "claimed": claimed.tolist(),
        "robust": robust.tolist(),
        "robust_8bit": counted(verdict.robust_8bit, clean, claimed, image).tolist(),
        "winner": [name if is_so else "" for name, is_so in zip(standing.winner, won, strict=True)],
        "image": image,
        "broken_eps": standing.broken_eps.tolist(),
    }


def check_order(
    clean: NDArray[np.bool_], plain: NDArray[np.bool_], worst: NDArray[np.bool_]
) -> None:
    """Make sure that no sample is right in the worst case but not under a plain attack, or clean.

    Raises:
        RuntimeError: one is, which is a defect of this package.
    """
    if bool((worst & ~plain).any() or (plain & ~clean).any()):
        counts = " <= ".join(str(int(part.sum())) for part in (worst, plain, clean))
        raise RuntimeError(f"worst case <= plain <= clean does not hold by sample ({counts})")


def _cost(found: Evaluation) -> dict[str, Any]:
    logs = [*found.log, *found.curve_log]
    outcomes = [*found.full.values(), *found.curve_full.values(), *found.probes.values()]
    screen = found.ranking
    gradients = sum(log.gradients for log in logs) + sum(o.gradients for o in outcomes)
    seconds = sum(log.seconds for log in logs) + sum(o.seconds for o in outcomes)
    return {
        "gradients_per_sample": (gradients + (screen.gradients if screen else 0)) / found.n,
        "forward_calls": sum(log.forward_calls for log in logs),
        "seconds": seconds + (screen.seconds if screen else 0.0),
    }


def _files(found: Evaluation) -> list[ImageFile]:
    """The files that hold the images of the samples that count as fooled."""
    return list(dict.fromkeys(file for file in found.counted_files if file is not None))


def _refused(found: Evaluation) -> dict[str, str]:
    refused = dict(found.ranking.refused) if found.ranking else {}
    return refused | {log.label: log.reason for log in found.log if log.reason}


def _row_flags(found: Evaluation, outside: Sequence[str]) -> list[str]:
    flags = {
        "untrained": found.model.untrained,
        "official-ssa": found.model.ssa_proj_lif == "official",
        "outside": bool(outside),
        "not-applicable": bool(_refused(found)),
        "nonfinite-answer": _nonfinite(found),
    }
    return [name for name, is_so in flags.items() if is_so]


def _nonfinite(found: Evaluation) -> bool:
    outcomes = [*found.full.values(), *found.curve_full.values(), *found.probes.values()]
    logs = [*found.log, *found.curve_log]
    return any(o.nonfinite for o in outcomes) or any(log.nonfinite for log in logs)


def curves(found: Evaluation) -> list[dict[str, Any]]:
    """Points of the eps curves: plain attacks, one curve each, and the worst case of the steps.

    At eps 0 all are clean accuracy. Bounds are 95 % Wilson intervals.
    """
    n = min(found.suite.curve.n, found.n)
    if not n:
        return []
    groups = sample_groups(found.data.name, found.standing.ids[:n])
    clean = found.standing.clean[:n]
    names = dict.fromkeys(_curve_name(spec) for spec in found.curve_full)
    points = [_point(name, 0.0, clean, groups) for name in [*names, "worst case"]]
    worst = {eps: found.standing.robust(eps)[:n] for eps in found.suite.curve.eps}
    for spec, outcome in found.curve_full.items():
        # A sample that is wrong on its clean image counts as wrong at every eps.
        right = outcome.robust & outcome.clean
        eps = float(spec.params["eps"])
        points.append(_point(_curve_name(spec), eps, right, groups))
        for at, standing in worst.items():
            worst[at] = standing & right if at >= eps else standing
    return points + [_point("worst case", at, left, groups) for at, left in worst.items()]


def _curve_name(spec: AttackSpec) -> str:
    return f"{spec.name}-{spec.params['steps']}" if "steps" in spec.params else spec.name


def _point(
    name: str, eps: float, right: NDArray[np.bool_], groups: NDArray[np.int64] | None
) -> dict[str, Any]:
    accuracy = Accuracy.of(right, groups)
    low, high = accuracy.interval
    counts = {"correct": accuracy.correct, "n": accuracy.n}
    return {"curve": name, "eps": eps, **counts, "low": low, "high": high}
