"""What a suite is: attacks on every sample, then steps that only survivors take; no torch.

A suite is a TOML file: ``paper``, ``standard`` and ``reliable`` come with the package, any other
is named by its path. Settings of an ordinary run stand at its top.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from robustbench_snn.attack_spec import AttackSpec, format_distance
from robustbench_snn.attacks import attack_type, make_spec
from robustbench_snn.attacks.values import parse_eps
from robustbench_snn.errors import UsageError
from robustbench_snn.estimators import estimator_name
from robustbench_snn.presets import SETTINGS, AttackTable, check_setting, expand_attack
from robustbench_snn.registry import did_you_mean

BUILT_IN = ("paper", "standard", "reliable")
SCREENED, SEARCHED, OTHERS = "screen:", "search:", "others"

_TABLES = (
    *("suite", "summary", "eps", "needs_spikes"),
    *("full", "step", "screen", "curve", "probes", "times"),
)


@dataclass(frozen=True)
class Screen:
    """Which estimators are tried on held-out samples before the suite begins.

    Attributes:
        estimators: candidates.
        keep: how many of the best take part as ``screen:1`` to ``screen:keep``.
        search: parameters to tune, as ``assg:target=0.35..0.49``; the best value of each joins the
            candidates, and ``search:1``, ``search:2``, ... name it in steps.
        split, n, steps: where, on how many samples, and for how many PGD steps.
    """

    estimators: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    keep: int = 4
    split: str = "holdout"
    n: int = 512
    steps: int = 10


@dataclass(frozen=True)
class Curve:
    """Accuracy against eps.

    Attributes:
        eps: distances, ascending, in pixel units.
        n: the first so many samples; 0 leaves the curve out.
        step: attacks on those not yet fooled at a smaller eps; their eps is left out.
        full: attacks on all of these samples at every eps, each a curve of its own.
    """

    eps: tuple[float, ...] = ()
    n: int = 0
    step: tuple[AttackTable, ...] = ()
    full: tuple[AttackTable, ...] = ()


@dataclass(frozen=True)
class Probes:
    """The diagnostics: on the first ``n`` samples, Square with ``queries``; 0 samples for none."""

    n: int = 128
    queries: int = 300


@dataclass(frozen=True)
class Times:
    """Attack-T against test-T: ``steps`` of PGD at each of ``attack``, tested at each of ``test``.

    Empty lists stand for half, once and twice the model's own number of time steps.
    """

    n: int = 0
    steps: int = 20
    attack: tuple[int, ...] = ()
    test: tuple[int, ...] = ()


@dataclass(frozen=True)
class Suite:
    """One suite, every table read but names such as ``screen:1`` not yet resolved.

    Attributes:
        name: ``reliable``.
        summary: one line.
        eps: the distance the headline is about; attacks without an eps of their own take it.
        needs_spikes: whether it makes sense for spiking models only.
        full: attacks on all samples, clean mistakes included, stored as ordinary results.
        step: attacks on the samples no earlier one has fooled, cheapest first.
        screen, curve, probes, times: the other parts.
        settings: settings of an ordinary run at the top of the file.
    """

    name: str
    eps: float
    summary: str = ""
    needs_spikes: bool = False
    full: tuple[AttackTable, ...] = ()
    step: tuple[AttackTable, ...] = ()
    screen: Screen = field(default_factory=Screen)
    curve: Curve = field(default_factory=Curve)
    probes: Probes = field(default_factory=Probes)
    times: Times = field(default_factory=Times)
    settings: Mapping[str, Any] = field(default_factory=dict)


def suite_path(name: str) -> Path:
    """The file of a suite that comes with the package, or the path ``name`` itself.

    Raises:
        UsageError: neither.
    """
    if name in BUILT_IN:
        return Path(str(files("robustbench_snn") / "suites" / f"{name}.toml"))
    if name.endswith(".toml"):
        return Path(name)
    raise UsageError(f"unknown suite '{name}': {did_you_mean(name, list(BUILT_IN))}")


def read_suite(name: str) -> Suite:
    """The suite called ``name`` or stored in the file ``name``.

    Raises:
        UsageError: it cannot be read, or holds something no suite has.
    """
    path = suite_path(name)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"suite '{name}' cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"suite '{name}' is not valid TOML: {error}.") from None
    settings = {key: value for key, value in content.items() if key not in _TABLES}
    for key, value in settings.items():
        if key == "attack" or key not in SETTINGS:
            hint = did_you_mean(key, [*_TABLES, *SETTINGS])
            raise UsageError(f"suite '{name}' has an unknown setting '{key}': {hint}")
        check_setting(name, key, value)
    return Suite(
        name=str(content.get("suite", path.stem)),
        eps=parse_eps(content.get("eps", "8/255")),
        summary=str(content.get("summary", "")),
        needs_spikes=bool(content.get("needs_spikes", False)),
        full=_tables(name, content.get("full", [])),
        step=_tables(name, content.get("step", [])),
        screen=_screen(name, content.get("screen", {})),
        curve=_curve(name, content.get("curve", {})),
        probes=_part(name, Probes, content.get("probes", {})),
        times=_part(name, Times, content.get("times", {})),
        settings=settings,
    )


@dataclass(frozen=True)
class Search:
    """One parameter of an estimator between two values."""

    estimator: str
    low: float
    high: float

    def at(self, value: float) -> str:
        """The estimator with ``value``, every parameter written out."""
        return estimator_name(f"{self.estimator}={value:.4g}")


def parse_search(text: str) -> Search:
    """A search from ``assg:target=0.35..0.49``.

    Raises:
        UsageError: another form, or values the parameter cannot have.
    """
    head, _, span = text.rpartition("=")
    low, dots, high = span.partition("..")
    try:
        found = Search(head, float(low), float(high))
    except ValueError:
        dots = ""
    if not dots or ":" not in head or not found.low < found.high:
        raise UsageError(
            f"[screen] search '{text}' is not of the form NAME:PARAMETER=LOW..HIGH, as "
            "assg:target=0.35..0.49."
        )
    for value in (found.low, found.high):
        found.at(value)
    return found


def _tables(name: str, tables: Sequence[Mapping[str, Any]]) -> tuple[AttackTable, ...]:
    return tuple(pair for table in tables for pair in expand_attack(name, table))


def _part(name: str, kind: type, table: Mapping[str, Any]) -> Any:
    known = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for key in table:
        if key not in known:
            place = f"[{kind.__name__.lower()}]"
            raise UsageError(f"suite '{name}' {place} has no '{key}': {did_you_mean(key, known)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})


def _screen(name: str, table: Mapping[str, Any]) -> Screen:
    screen: Screen = _part(name, Screen, table)
    for text in screen.search:
        parse_search(text)
    return screen


def _curve(name: str, table: Mapping[str, Any]) -> Curve:
    parts = dict(table)
    steps = _tables(name, parts.pop("step", []))
    full = _tables(name, parts.pop("full", []))
    eps = tuple(sorted(parse_eps(value) for value in parts.pop("eps", [])))
    plain: Curve = _part(name, Curve, parts)
    return Curve(eps, plain.n, steps, full)


def attack_at(table: AttackTable, eps: float) -> AttackSpec:
    """The attack in ``table`` at distance ``eps`` unless it has one; steps are then eps / 4.

    Raises:
        UsageError: an unknown attack or option.
    """
    name, given = table
    if name == "clean":
        return AttackSpec("clean")
    known = {option.name for option in attack_type(name).options()}
    filled = dict(given)
    norm = str(filled.get("norm", "linf")).lower()
    if "eps" in known and "eps" not in filled and norm != "linf":
        raise UsageError(
            f"attack '{name}' of the suite is bounded in {norm}, and the suite's eps of "
            f"{format_distance(eps)} is meant in linf: give the attack an eps of its own."
        )
    if "eps" in known and "eps" not in filled:
        filled["eps"] = eps
        if "step_size" in known and eps > 0:
            filled.setdefault("step_size", eps / 4)
    return make_spec(name, filled)


def resolved(
    tables: Sequence[AttackTable],
    screened: Sequence[str],
    others: Sequence[str],
    searched: Sequence[str] = (),
) -> list[AttackTable]:
    """``tables`` with ``screen:K`` replaced by the K-th estimator and ``others`` by each model.

    ``search:K`` stands for the K-th of ``searched``. What cannot be replaced, because fewer
    estimators or no other models are there, is left out; a table that repeats an earlier one too.
    """
    found: list[AttackTable] = []
    for name, options in tables:
        filled = dict(options)
        kind, _, rank = str(filled.get("estimator", "")).partition(":")
        ranked = {SCREENED: screened, SEARCHED: searched}.get(f"{kind}:")
        if ranked is not None:
            place = int(rank) - 1
            if place >= len(ranked):
                continue
            filled["estimator"] = ranked[place]
        sources = others if filled.get("source") == OTHERS else [filled.get("source")]
        for source in sources:
            table = (name, filled | ({"source": source} if source is not None else {}))
            if "estimator" in table[1]:
                table[1]["estimator"] = estimator_name(str(table[1]["estimator"]))
            if table not in found:
                found.append(table)
    return found


def at_eps(eps: float) -> str:
    """``ε = 8/255`` for captions."""
    return f"ε = {format_distance(eps)}"
