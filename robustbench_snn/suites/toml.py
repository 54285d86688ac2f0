"""A resolved suite as TOML that ``read_suite`` reads back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from robustbench_snn.attack_spec import AttackSpec, format_distance, format_param
from robustbench_snn.config import RunConfig
from robustbench_snn.presets import AttackTable, to_toml, toml_value
from robustbench_snn.suites.spec import OTHERS, SCREENED, SEARCHED, Suite, attack_at

_UNITS = (
    "# Distances (eps, step_size) are in pixel units: fractions of the range of images in [0, 1].",
    "# Adversarial images are clamped to the input range of the model, which is [0, 1] for images.",
)
_OPEN = {"estimator": (SCREENED, SEARCHED), "source": (OTHERS,)}


def suite_toml(suite: Suite, config: RunConfig) -> str:
    """Every setting, every attack with every option; parts not yet known keep their names.

    Args:
        suite: the tables.
        config: the run; its attacks are not looked at.
    """
    run = to_toml(RunConfig(**_without_attacks(config))).rstrip()
    return "\n".join([*_UNITS, *_head(suite), run, *_tables(suite)]) + "\n"


def tables_toml(suite: Suite) -> str:
    """``suite_toml`` without the settings of the run: what is asked, not of whom nor where."""
    return "\n".join([*_head(suite), *_tables(suite)]) + "\n"


def _head(suite: Suite) -> list[str]:
    lines = [f"suite = {toml_value(suite.name)}"]
    if suite.summary:
        lines.append(f"summary = {toml_value(suite.summary)}")
    lines.append(f"eps = {toml_value(_distance(suite.eps))}")
    return [*lines, f"needs_spikes = {toml_value(suite.needs_spikes)}"]


def _tables(suite: Suite) -> list[str]:
    lines = _attacks("full", suite.full, suite.eps)
    lines += _attacks("step", suite.step, suite.eps)
    lines += _part("screen", suite.screen)
    lines += _part("probes", suite.probes)
    lines += _part("times", suite.times)
    if suite.curve.n:
        eps = [_distance(value) for value in suite.curve.eps]
        lines += ["", "[curve]", f"n = {suite.curve.n}", f"eps = {toml_value(eps)}"]
        lines += _attacks("curve.full", suite.curve.full, None)
        lines += _attacks("curve.step", suite.curve.step, None)
    return lines


def _without_attacks(config: RunConfig) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in fields(config)} | {"attacks": ()}


def _distance(value: float) -> str | float:
    """``"8/255"`` where that is exact, else every digit."""
    text = format_distance(value)
    return text if text.endswith("/255") else value


def _attacks(place: str, tables: Iterable[AttackTable], eps: float | None) -> list[str]:
    lines: list[str] = []
    for name, options in tables:
        lines += ["", f"[[{place}]]", f"name = {toml_value(name)}"]
        spec = attack_at((name, _named(options)), 8 / 255 if eps is None else eps)
        left = () if eps is not None else ("eps", "step_size")
        for key, value in _shown(spec, options).items():
            if key not in left or key in options:
                lines.append(f"{key} = {toml_value(value)}")
    return lines


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` without what only the run will tell."""
    return {k: v for k, v in options.items() if not _is_open(k, v)}


def _is_open(key: str, value: Any) -> bool:
    return key in _OPEN and str(value).startswith(_OPEN[key])


def _shown(spec: AttackSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in spec.params.items():
        text = format_param(key, value)
        exact = isinstance(value, float) and text.endswith("/255")
        values[key] = text if exact else value
    return values | {k: v for k, v in options.items() if _is_open(k, v)}


def _part(name: str, part: Any) -> list[str]:
    lines = ["", f"[{name}]"]
    return lines + [f"{f.name} = {toml_value(getattr(part, f.name))}" for f in fields(part)]
