"""A run's rows as the lines of its final table, its caption and the command to try next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from robustbench_snn.attack_spec import AttackSpec, format_distance, format_param
from robustbench_snn.config import CLEAN, FAST, RunConfig, canonical_json
from robustbench_snn.corruptions.names import COMMON, CORRUPTIONS
from robustbench_snn.presets import CORRUPTION_TEXTS
from robustbench_snn.report.tables import format_accuracy

UNTRAINED = "untrained weights: not a result"
COLUMNS = ("model", "attack", "n", "clean % [95 % CI]", "robust % [95 % CI]", "agreement", "flags")

_ALWAYS_SHOWN = {"step_size": "step", "alpha": "step", "steps": "steps"}
_TELLING = ("loss", "queries", "draws", "source")
_UNUSUAL = {"norm": "linf", "estimator": "training", "restarts": 1, "eot": 1}
_LAST_ITERATE = {"clean", "fgsm", "pgd"}
_FAST_TEXTS = {
    FAST["bf16"]: "attacks follow gradients of lower precision, all predictions are float32; "
    "agreement: adversarial images on which both precisions predict the same.",
    FAST["early-stop"]: "pgd leaves a sample at its first iterate that is answered wrongly, which "
    "counts as fooled even where the final iterate would not.",
}


@dataclass
class Line:
    """All shards of one model under one attack.

    Attributes:
        model: catalogue name.
        attack: name and parameters.
        n, clean, robust: samples done, and how many were right before and after the attack.
        failed: shards without numbers.
        checked, agree: adversarial images that a faster path was asked about too, and those on
            which it agrees with the exact one.
        flags: union of the flags of all shards.
        worth: ``clean`` and ``robust`` to how many independent samples those n are worth, where
            that is less (``metrics.effective_size``).
    """

    model: str
    attack: AttackSpec
    n: int = 0
    clean: int = 0
    robust: int = 0
    failed: int = 0
    checked: int = 0
    agree: int = 0
    flags: list[str] = field(default_factory=list)
    worth: dict[str, float | None] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, str, str]:
        """``line_of`` its rows."""
        return self.model, self.attack.name, canonical_json(dict(self.attack.params))

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in one shard."""
        self.flags += [flag for flag in row["flags"] or () if flag not in self.flags]
        if row["status"] != "ok":
            self.failed += 1
            return
        self.n += row["n"]
        self.clean += row["correct_clean"]
        self.robust += row["correct_adv"]
        self.checked += row.get("fast_checked") or 0
        self.agree += row.get("fast_agree") or 0

    def record(self) -> dict[str, str]:
        """The line as text under ``COLUMNS``."""
        shown = [UNTRAINED if flag == "untrained" else flag for flag in self.flags]
        if self.failed:
            shown.append(f"{self.failed} failed shard{'s' if self.failed > 1 else ''}")
        clean = format_accuracy(self.clean, self.n, self.worth.get("clean")) if self.n else ""
        robust = ""
        if self.n and self.attack != CLEAN:
            robust = format_accuracy(self.robust, self.n, self.worth.get("robust"))
        agreement = (
            f"{100 * self.agree / self.checked:.1f} % of {self.checked}" if self.checked else ""
        )
        what = (self.model, describe(self.attack), str(self.n))
        values = (*what, clean, robust, agreement, ", ".join(shown))
        return dict(zip(COLUMNS, values, strict=True))


def lines(rows: Iterable[Mapping[str, Any]]) -> list[Line]:
    """One line per model and attack, in order of first appearance.

    Args:
        rows: results rows of one run, whose shards do not overlap.
    """
    found: dict[tuple[str, str, str], Line] = {}
    for row in rows:
        if line_of(row) not in found:
            spec = AttackSpec(row["attack"], json.loads(row["attack_params"]))
            found[line_of(row)] = Line(row["model"], spec)
        found[line_of(row)].add(row)
    return list(found.values())


def line_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What rows of one line share: model, attack and its parameters."""
    return row["model"], row["attack"], row["attack_params"]


def describe(spec: AttackSpec) -> str:
    """``pgd ε=8/255 px, step=2/255, steps=10``: the bound first, then what matters."""
    params = dict(spec.params)
    shown = []
    if "eps" in params:
        shown.append(f"ε={format_distance(float(params['eps']))} px")
    shown += [
        f"{text}={format_param(key, params[key])}"
        for key, text in _ALWAYS_SHOWN.items()
        if key in params
    ]
    shown += [f"{key}={params[key]}" for key in _TELLING if key in params]
    shown += [
        f"{key}={params[key]}" for key, usual in _UNUSUAL.items() if params.get(key, usual) != usual
    ]
    if params.get("random_start") is False:
        shown.append("no random start")
    return " ".join([spec.name, ", ".join(shown)]).strip()


def caption(config: RunConfig, rows: Sequence[Mapping[str, Any]], told: str = "") -> str:
    """What the numbers were measured on and with, in one paragraph.

    ``told``: what must be said of the intervals (``dependence.allow_for_groups``).
    """

    def every(column: str) -> str:
        return ", ".join(dict.fromkeys(str(row[column]) for row in rows))

    n = max(row["stop"] for row in rows)
    text = (
        f"{config.dataset} ({every('dataset_source')}, revision {every('dataset_revision')}), "
        f"{config.split} split, first {n} samples; surrogate {every('surrogate')}; "
        f"ε in pixel units of images in [0, 1]; adversarial images clamped to "
        f"{every('clamp')}; {_iterate(config)}; seed {config.seed}; Wilson intervals{told}."
    )
    precisions = sorted({row["precision"] for row in rows if row.get("precision")})
    text += "".join(f" {name}: {_FAST_TEXTS[name]}" for name in precisions if name in _FAST_TEXTS)
    layers = set(filter(None, every("ssa_proj_lif").split(", ")))
    return text + (f" ssa_proj_lif {', '.join(sorted(layers))}." if layers else "")


def _iterate(config: RunConfig) -> str:
    worst = [name for name in dict.fromkeys(s.name for s in config.attacks) if _is_worst(name)]
    if not worst:
        return "final iterate" if config.fast != "early-stop" else "final or first wrong iterate"
    return f"worst iterate of {', '.join(worst)}, which spare samples that are wrong already"


def _is_worst(name: str) -> bool:
    return name not in _LAST_ITERATE and not name.startswith("torchattacks:")


def command(config: RunConfig, named: Sequence[str] = (), **changes: str) -> str:
    """A command line that runs the models ``named`` as ``config`` does, with other attacks.

    Args:
        config: settings that differ from the defaults are repeated.
        named: names and patterns of models; none stands for the default ones.
        changes: the attack and its options, or a suite, which has no say in where work is done
            and is asked of clean images.
    """
    plain = RunConfig((), ())
    words = ["python", "-m", "robustbench_snn.run"]
    for name in named:
        words += ["--model", name]
    keys: tuple[str, ...] = ("dataset", "split", "data_dir", "weights", "n", "seed", "out")
    keys += ("batch_size", "shard_size", "device")
    if "suite" not in changes:
        keys += ("executor", "workers", "ray_address", "fast")
    for key in keys:
        value = getattr(config, key)
        if value != getattr(plain, key):
            words += [f"--{key.replace('_', '-')}", str(value)]
    if config.corruptions and "suite" not in changes:
        words += _corruption_words(config)
    words += own_model_words(config)
    for key, value in changes.items():
        words += [f"--{key.replace('_', '-')}", value]
    return shlex.join(words)


def own_model_words(config: RunConfig) -> list[str]:
    """The options without which a user's own models and arguments are not found again."""
    words = [word for plugin in config.plugins for word in ("--plugin", plugin)]
    return words + [
        word
        for key, value in config.model_args.items()
        for word in ("--model-arg", f"{key}={value}")
    ]


def sibling_command(module: str, config: RunConfig, *first: str, model_args: bool = True) -> str:
    """A command of ``check`` or ``verify`` about the models of ``config``.

    Args:
        module: of the command.
        config: of the run.
        first: what comes first.
        model_args: whether the command takes ``--model-arg``.
    """
    words = ["python", "-m", f"robustbench_snn.{module}", *first]
    words += own_model_words(config if model_args else replace(config, model_args={}))
    for key in ("weights", "data_dir", "device"):
        value = getattr(config, key)
        if value not in (None, "auto"):
            words += [f"--{key.replace('_', '-')}", value]
    return shlex.join(words)


def _corruption_words(config: RunConfig) -> list[str]:
    sets = {CORRUPTIONS: "all", COMMON: "common15"}
    words = ["--corruption", sets.get(config.corruptions, ",".join(config.corruptions))]
    words += ["--severity", ",".join(map(str, config.severities))]
    for key in CORRUPTION_TEXTS:
        if getattr(config, key) is not None:
            words += [f"--{key.replace('_', '-')}", getattr(config, key)]
    return words


def next_command(
    config: RunConfig, named: Sequence[str] = (), spikes: bool = True, random: bool = False
) -> str:
    """What to try after this run: a stronger attack than the strongest of it.

    Args:
        config: of the run.
        named: names and patterns of its models.
        spikes: whether all its models have spiking units.
        random: whether one of them encodes images at random, so that gradients are averaged.
    """
    if random:
        name = "apgd" if any(spec.name == "pgd-worst" for spec in config.attacks) else "pgd-worst"
        return command(config, named, attack=name, steps="50", eot="10")
    pgd = [spec for spec in config.attacks if spec.name == "pgd"]
    if not pgd:
        return command(config, named, attack="pgd", steps="10")
    if max(int(spec.params["steps"]) for spec in pgd) < 50:
        eps = format_distance(float(pgd[0].params["eps"]))
        return command(config, named, attack="pgd", eps=eps, steps="50")
    if len({spec.params["eps"] for spec in pgd}) > 1:
        return command(config, named, suite="reliable" if spikes else "standard")
    return command(config, named, attack="pgd", eps="1/255,2/255,4/255,8/255,16/255", steps="50")
