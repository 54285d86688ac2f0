"""``run --suite NAME``: the command line of a suite, its final table, and where results are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustbench_snn.attack_spec import format_distance
from robustbench_snn.attacks import ATTACKS, attack_type
from robustbench_snn.attacks.values import parse_eps
from robustbench_snn.config import RunConfig
from robustbench_snn.errors import UsageError
from robustbench_snn.presets import AttackTable
from robustbench_snn.report.summary import sibling_command
from robustbench_snn.suites.spec import (
    OTHERS,
    Suite,
    attack_at,
    parse_search,
    read_suite,
    resolved,
)

# What each is followed by.
SUITE_OPTIONS = {
    "--suite": "paper, standard, reliable, or a file.toml",
    "--eps": "a decimal such as 0.03 or a fraction such as 8/255",
}


def wants_suite(words: Sequence[str]) -> bool:
    """Whether a command line asks for a suite."""
    return any(word == "--suite" or word.startswith("--suite=") for word in words)


def read_command(words: Sequence[str]) -> tuple[Suite, RunConfig, list[str], Any]:
    """The suite and the run that ``words`` ask for.

    Returns:
        (suite with its settings resolved, run, notes for the user, parsed flags).

    Raises:
        UsageError: an unknown suite or option, or an option that suites settle themselves.
    """
    from robustbench_snn.catalogue import load_plugin
    from robustbench_snn.options import check_trusted, read_arguments
    from robustbench_snn.resolve import resolve

    given, rest = _taken(words)
    _refuse_attacks(rest)
    suite = read_suite(given["--suite"] or "")
    if given["--eps"] is not None:
        suite = _at(suite, parse_eps(given["--eps"], "--eps"))
    arguments = read_arguments([*rest, "--attack", "clean"])
    given_plugins = arguments.settings["plugins"]
    named = suite.settings.get("plugins", [])
    check_trusted(named, given_plugins, arguments.allow_plugins, f"suite '{given['--suite']}'")
    for path in named:
        load_plugin(path)
    # An empty list or table of the flags says nothing, so the file's stands.
    flags = {key: value for key, value in arguments.settings.items() if value not in ([], {})}
    config, notes = resolve(dict(suite.settings) | flags)
    check_attacks(suite, config)
    return replace(suite, settings={}), replace(config, attacks=()), notes, arguments


def _taken(words: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    given: dict[str, str | None] = dict.fromkeys(SUITE_OPTIONS)
    rest, waiting = [], ""
    for word in words:
        name, equals, value = word.partition("=")
        if waiting and not word.startswith("--"):
            given[waiting], waiting = word, ""
        elif waiting:
            break
        elif name in given:
            given[name], waiting = (value, "") if equals else (None, name)
        else:
            rest.append(word)
    if waiting:
        raise UsageError(f"{waiting} needs a value: {SUITE_OPTIONS[waiting]}.")
    return given, rest


def _refuse_attacks(words: Sequence[str]) -> None:
    asked = [word.partition("=")[0] for word in words]
    of_attacks = {
        "--" + option.name.replace("_", "-")
        for name in ATTACKS.names()
        for option in attack_type(name).options()
    }
    if "--plan" in asked:
        raise UsageError(
            "--plan counts attacks beforehand, and those of a suite depend on who is left: print "
            "the suite with --print-config."
        )
    for option in asked:
        if option in {"--attack", "--preset", "--attack-arg"} | of_attacks:
            raise UsageError(
                f"{option} and --suite exclude each other: a suite brings its own attacks "
                "(print it with --print-config, edit it, and give the file to --suite)."
            )


def _at(suite: Suite, eps: float) -> Suite:
    """``suite`` at another eps: attacks that were at the suite's own move along, others stay."""
    if eps == 0:
        raise UsageError("--eps 0 leaves nothing to attack: run --attack clean instead.")

    def moved(tables: Sequence[AttackTable]) -> tuple[AttackTable, ...]:
        return tuple((name, _unbound(options, suite.eps)) for name, options in tables)

    return replace(suite, eps=eps, full=moved(suite.full), step=moved(suite.step))


def _unbound(options: dict[str, Any], eps: float) -> dict[str, Any]:
    """``options`` without the distances that follow from the suite's ``eps``."""
    if "eps" not in options or parse_eps(options["eps"]) != eps:
        return options
    follows = parse_eps(options.get("step_size", eps / 4)) == eps / 4
    dropped = {"eps", "step_size"} if follows else {"eps"}
    return {key: value for key, value in options.items() if key not in dropped}


def check_attacks(suite: Suite, config: RunConfig) -> None:
    """Make every attack once, so that mistakes are told before anything is computed.

    Raises:
        UsageError: an unknown attack, option or source, or a source of another data set.
    """
    from robustbench_snn.catalogue import model_card

    if config.corruptions:
        raise UsageError(
            "--suite attacks the images as they are; corruptions are evaluated on their own: "
            "leave --corruption out."
        )
    candidates = [f"screen:{rank}" for rank in range(1, suite.screen.keep + 1)]
    chosen = list(suite.screen.estimators[: len(candidates)]) or ["training"] * len(candidates)
    tables = [*suite.full, *suite.step, *suite.curve.step, *suite.curve.full]
    tuned = [parse_search(text) for text in suite.screen.search]
    searched = [search.at(search.low) for search in tuned]
    for table in resolved(tables, chosen, config.models, searched):
        attack_at(table, suite.eps)
        source = str(table[1].get("source", "")).partition("@")[0]
        if source and source != OTHERS and model_card(source).dataset != config.dataset:
            raise UsageError(
                f"transfer source '{source}' classifies '{model_card(source).dataset}', but the "
                f"suite runs on '{config.dataset}', so it would aim at other classes: name a "
                "source of that data set (--list)."
            )


def check_something_attacks(suite: Suite, models: Sequence[str]) -> None:
    """Refuse a suite whose worst case would be clean accuracy.

    Raises:
        UsageError: no attack within the suite's eps would run on some model.
    """
    candidates = ["training"] * max(suite.screen.keep, 0) if suite.screen.estimators else []
    searched = ["training"] * len(suite.screen.search)
    for model in models:
        others = [other for other in models if other != model]
        specs = [
            attack_at(table, suite.eps)
            for table in resolved((*suite.full, *suite.step), candidates, others, searched)
        ]
        if not any(0 < float(spec.params.get("eps", 0)) <= suite.eps for spec in specs):
            raise UsageError(
                f"suite '{suite.name}' runs no attack within its eps of "
                f"{format_distance(suite.eps)} on '{model}', so its worst case would be clean "
                "accuracy: add a [[step]], or run --attack clean."
            )


def main(words: Sequence[str]) -> int:
    """Run the suite that ``words`` name, or print it; returns the exit code.

    Raises:
        UsageError, PreflightRefused: before anything was computed.
    """
    suite, config, notes, arguments = read_command(words)
    if arguments.print_config:
        from robustbench_snn.suites.toml import suite_toml

        print(suite_toml(suite, config), end="")
        return 0
    check_something_attacks(suite, config.models)
    from robustbench_snn.store import check_writable

    check_writable(config.out)
    from robustbench_snn.suites.engine import run_suite
    from robustbench_snn.suites.tables import report, write

    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    say = _silent if arguments.quiet else _say
    rows = run_suite(suite, config, say)
    print(report(rows))
    for path in write(rows, Path(config.out), f"suite_{suite.name}_{config.dataset}"):
        print(f"wrote {path}")
    print(f"next: {sibling_command('verify', config, config.out, model_args=False)}")
    return 3 if any(row["status"] != "ok" for row in rows) else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """Say nothing."""
