"""Settings in TOML: reading a preset, and writing a resolved run as one."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustbench_snn.attack_spec import AttackSpec, format_param
from robustbench_snn.config import RunConfig
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

CORRUPTION_TEXTS = ("corruptions_dir", "corruption_preset", "frost_dir")
_LISTS = ("models", "plugins", "corruptions")
EXECUTION_TEXTS = ("executor", "ray_address", "shard", "fast")
_TEXTS = (
    *("dataset", "split", "data_dir", "weights", "device", "out"),
    *EXECUTION_TEXTS,
    *CORRUPTION_TEXTS,
)
_COUNTS = ("n", "batch_size", "shard_size", "seed", "workers")
SETTINGS = (*_LISTS, *_TEXTS, *_COUNTS, "severity", "model_args", "attack")

AttackTable = tuple[str, dict[str, Any]]


def read_preset(path: str | Path) -> dict[str, Any]:
    """The settings in a preset file, checked for names and types but not resolved.

    An option of an ``[[attack]]`` table may be a list: the attack then runs once for each value
    (each combination, if several options are lists).

    Returns:
        The settings present; ``attack`` holds (name, options) pairs.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown or ill-typed setting.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"preset '{path}' cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"preset '{path}' is not valid TOML: {error}.") from None
    for key, value in content.items():
        check_setting(str(path), key, value)
    if "attack" in content:
        content["attack"] = [
            pair for table in content["attack"] for pair in expand_attack(path, table)
        ]
    return content


def check_setting(path: str, key: str, value: Any) -> None:
    """Raise UsageError unless ``key`` is a setting and ``value`` has its type."""
    if key not in SETTINGS:
        hint = did_you_mean(key, list(SETTINGS))
        raise UsageError(f"preset '{path}' has an unknown setting '{key}': {hint}")
    if key in _LISTS:
        fits, wanted = _is_list_of(value, str), "a list of texts"
    elif key in _TEXTS or key == "severity":
        fits, wanted = isinstance(value, str), "a text in quotes"
    elif key in _COUNTS:
        fits, wanted = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    elif key == "model_args":
        fits, wanted = isinstance(value, dict), "a table"
    else:
        fits, wanted = _is_list_of(value, dict), "tables written [[attack]]"
    if not fits:
        raise UsageError(f"preset '{path}': '{key}' is {value!r}, but must be {wanted}.")


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def expand_attack(path: str | Path, table: Mapping[str, Any]) -> list[AttackTable]:
    """An attack's table as (name, options), once for each value of options that are lists."""
    if not isinstance(table.get("name"), str):
        raise UsageError(f"preset '{path}': an [[attack]] table has no name = \"…\".")
    options = {key: value for key, value in table.items() if key != "name"}
    choices = [value if isinstance(value, list) else [value] for value in options.values()]
    return [
        (table["name"], dict(zip(options, values, strict=True)))
        for values in itertools.product(*choices)
    ]


def toml_value(value: Any) -> str:
    """``value`` as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isascii() and bare.isalnum() else toml_value(key)


def _attack_table(spec: AttackSpec) -> list[str]:
    lines = ["", "[[attack]]", f"name = {toml_value(spec.name)}"]
    for key, value in spec.params.items():
        shown = format_param(key, value)
        exact = isinstance(value, float) and shown.endswith("/255")
        lines.append(f"{_key(key)} = {toml_value(shown if exact else value)}")
    return lines


def to_toml(config: RunConfig) -> str:
    """``config`` as TOML that ``read_preset`` reads back into the same run."""
    lines = [f"models = {toml_value(config.models)}"]
    for key in (*_TEXTS, *_COUNTS):
        value = getattr(config, key)
        if value is not None:
            lines.append(f"{key} = {toml_value(value)}")
    if config.plugins:
        lines.append(f"plugins = {toml_value(config.plugins)}")
    if config.corruptions:
        lines.append(f"corruptions = {toml_value(config.corruptions)}")
        lines.append(f"severity = {toml_value(','.join(map(str, config.severities)))}")
    if config.model_args:
        lines += ["", "[model_args]"]
        lines += [f"{_key(key)} = {toml_value(value)}" for key, value in config.model_args.items()]
    for spec in config.attacks:
        lines += _attack_table(spec)
    return "\n".join(lines) + "\n"
