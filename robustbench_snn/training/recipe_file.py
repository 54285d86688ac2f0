"""Recipes as TOML: shipped ones by name, a file of one, or a list with one for each model."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from robustbench_snn.attacks.values import parse_eps
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean
from robustbench_snn.training.adversarial import Adversarial
from robustbench_snn.training.recipe import Recipe

_DISTANCES = ("eps", "step_size")


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = files("robustbench_snn") / "training" / "recipes"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if ".toml" in p.name)


def read_recipe(source: str, model: str) -> dict[str, Any]:
    """Settings of a :class:`Recipe` that ``source`` states for ``model``.

    Args:
        source: a shipped recipe's name, or a TOML file: either settings at its top level, or a
            list ``[[entry]]``, each with ``model`` and its settings under ``recipe``.
        model: catalogue name, which chooses among entries.

    Raises:
        UsageError: no such recipe, no entry for the model, an unknown setting or value.
    """
    if source in shipped_recipes():
        folder = files("robustbench_snn") / "training" / "recipes"
        return settings(tomllib.loads((folder / f"{source}.toml").read_text()), source)
    path = Path(source)
    if not path.is_file():
        raise UsageError(
            f"recipe '{source}' is neither a file nor shipped: "
            f"{did_you_mean(source, shipped_recipes())}"
        )
    table = read_toml(path)
    if "entry" not in table:
        return settings(table, str(path))
    for entry in table["entry"]:
        if entry.get("model") == model:
            return settings(entry.get("recipe", {}), f"{path}, {model}")
    known = [str(entry.get("model")) for entry in table["entry"]]
    raise UsageError(f"'{path}' has no entry for '{model}': {did_you_mean(model, known)}")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's content; raises UsageError where it is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"'{path}' is no readable TOML file ({error}).") from error


def settings(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Constructor arguments of :class:`Recipe` from a TOML table.

    Distances may be fractions (``"8/255"``); ``beta`` one number or two.

    Raises:
        UsageError: an unknown setting or a value of another type.
    """
    found = dict(table)
    check_names(found, {field.name for field in fields(Recipe)}, where)
    if (adversary := found.get("adversarial")) is not None:
        if not isinstance(adversary, Mapping):
            raise UsageError(f"{where}: 'adversarial' is a table of settings, not {adversary!r}.")
        check_names(adversary, {field.name for field in fields(Adversarial)}, where)
        given = {k: parse_eps(v, k) if k in _DISTANCES else v for k, v in adversary.items()}
        if "eps" not in given:
            raise UsageError(f"{where}: adversarial training needs eps, for example '8/255'.")
        found["adversarial"] = built(Adversarial, given, where)
    if "beta" in found:
        beta = found["beta"]
        found["beta"] = tuple(beta) if isinstance(beta, list) else (beta, beta)
    for name in ("sides", "augment"):
        if name in found:
            found[name] = tuple(tuple(v) if isinstance(v, list) else v for v in found[name])
    built(Recipe, found, where)
    return found


def check_names(given: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise UsageError with the closest name where a setting is unknown."""
    for name in given:
        if name not in known:
            raise UsageError(
                f"{where}: unknown setting '{name}': {did_you_mean(name, sorted(known))}"
            )


def built(kind: Any, given: Mapping[str, Any], where: str) -> Any:
    """``kind(**given)``; raises UsageError where a value has another type."""
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: a setting has a wrong type ({error}).") from error
