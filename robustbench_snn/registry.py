"""One small registry: names to objects, resolved on first use."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import sys
from typing import Any, Generic, TypeVar, cast

from robustbench_snn.errors import UsageError

T = TypeVar("T")


def import_target(target: str) -> Any:
    """Import the object named ``"package.module:attribute"``."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def did_you_mean(name: str, known: list[str]) -> str:
    """A short hint: the closest known names, or the list of all of them."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "known: " + ", ".join(known)


def origin(target: object) -> str:
    """Where a registered object was made: its file, or the module a text names."""
    made = getattr(target, "adapter", None) or getattr(target, "impl", None) or target
    if isinstance(made, str):
        return made.partition(":")[0]
    module = sys.modules.get(getattr(made, "__module__", ""))
    return getattr(module, "__file__", None) or type(made).__name__


class Registry(Generic[T]):
    """Names of one kind of thing (models, attacks, data sets) and where each one lives.

    A target is the object itself or the string ``"module:attribute"``, imported on first ``get``,
    so that listing names costs no heavy import.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._targets: dict[str, T | str] = {}

    def add(self, name: str, target: T | str) -> None:
        """Register ``name``; raises UsageError when another target already has it."""
        if name in self._targets and self._targets[name] != target:
            raise UsageError(
                f"{self.kind} name '{name}' is already registered by "
                f"{origin(self._targets[name])}: choose another name."
            )
        self._targets[name] = target

    def get(self, name: str) -> T:
        """The object called ``name``; raises UsageError with the closest known names."""
        if name not in self._targets:
            raise UsageError(f"unknown {self.kind} '{name}': {did_you_mean(name, self.names())}")
        target = self._targets[name]
        return cast(T, import_target(target)) if isinstance(target, str) else target

    def names(self) -> list[str]:
        """All names in the order they were added."""
        return list(self._targets)

    def match(self, pattern: str) -> list[str]:
        """Names that fit ``pattern`` (a name, a glob, or ``all``); raises UsageError on none."""
        if pattern == "all":
            return self.names()
        if pattern in self._targets:
            return [pattern]
        found = fnmatch.filter(self.names(), pattern)
        if not found:
            hint = did_you_mean(pattern, self.names())
            raise UsageError(f"unknown {self.kind} '{pattern}': {hint}")
        return found
