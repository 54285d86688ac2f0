"""Command-line options of a run, in two stages: first which attacks, then their own options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from robustbench_snn.attack_spec import format_param
from robustbench_snn.attacks.specs import ATTACKS, BRIDGE_PREFIX, attack_type
from robustbench_snn.attacks.values import parse_count, parse_number
from robustbench_snn.config import RunConfig
from robustbench_snn.errors import UsageError
from robustbench_snn.presets import (
    CORRUPTION_TEXTS,
    EXECUTION_TEXTS,
    AttackTable,
    read_preset,
)
from robustbench_snn.registry import did_you_mean

CLEAN_NAMES = ("clean", "none")

_DEFAULTS = RunConfig((), ())
_EXAMPLES = """examples:
  python -m robustbench_snn.run --attack pgd --steps 10
  python -m robustbench_snn.run --model 'qkformer*' --attack fgsm --eps 2/255,4/255,8/255
  python -m robustbench_snn.run --corruption all --severity 1-5
  python -m robustbench_snn.run --attack pgd --help        options of one attack
"""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are UsageErrors and whose options are never abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UsageError(f"{message}; --help lists the options.")


def _first_stage() -> Parser:
    parser = Parser(add_help=False)
    parser.add_argument("--attack", action="append", default=[])
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--allow-plugins", action="store_true")
    parser.add_argument("--preset")
    parser.add_argument("--corruption", action="append", default=[])
    return parser


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as settings, the preset's below the flags; nothing is resolved yet.

    Returns:
        Namespace with the flags given; ``settings`` holds the preset's settings overruled by
        the flags, its ``attack`` (name, options) pairs with the attack options filled in.

    Raises:
        UsageError: an unknown or malformed option, or an option none of the attacks has.
    """
    first, _ = _first_stage().parse_known_args(list(argv))
    settings = read_preset(first.preset) if first.preset else {}
    named = settings.get("plugins", [])
    check_trusted(named, first.plugin, first.allow_plugins, f"preset '{first.preset}'")
    settings["plugins"] = list(dict.fromkeys([*named, *first.plugin]))
    if settings["plugins"]:
        from robustbench_snn.catalogue import load_plugin

        for path in settings["plugins"]:
            load_plugin(path)
    if first.attack:
        settings["attack"] = [(name, {}) for name in first.attack]
    corrupted = first.corruption or settings.get("corruptions")
    settings.setdefault("attack", [("clean" if corrupted else "pgd", {})])
    parser = full_parser([name for name, _ in settings["attack"]])
    found, unknown = parser.parse_known_args(list(argv))
    if unknown:
        hint = did_you_mean(unknown[0].partition("=")[0], sorted(parser._option_string_actions))
        raise UsageError(f"unknown option '{unknown[0]}': {hint}")
    found.settings = _overrule(settings, found)
    return found


def check_trusted(named: Sequence[str], given: Sequence[str], allowed: bool, where: str) -> None:
    """Make sure that no file runs which only a settings file asks for.

    Args:
        named: plug-ins that the settings file names.
        given: those on the command line.
        allowed: whether ``--allow-plugins`` was given.
        where: the settings file, for the message.

    Raises:
        UsageError: a plug-in is neither on the command line nor allowed.
    """
    known = {Path(path).resolve() for path in given}
    for path in [] if allowed else named:
        if Path(path).resolve() not in known:
            raise UsageError(
                f"{where} names the plug-in '{path}', which is code and was not run: add "
                "--allow-plugins if you trust it, or name it with --plugin."
            )


def full_parser(attacks: Sequence[str]) -> Parser:
    """All options of a run, those of ``attacks`` documented, those of others hidden."""
    parser = Parser(
        prog="python -m robustbench_snn.run",
        description="Clean and robust accuracy of spiking transformers, from one command.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _what(parser.add_argument_group("what to run"))
    _corruptions(parser.add_argument_group("common corruptions"))
    _how(parser.add_argument_group("how to run it"))
    _show(parser.add_argument_group("instead of running"))
    _attack_options(parser, attacks)
    return parser


def _what(group: Any) -> None:
    group.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="model, glob or 'all'; repeatable (default: the shipped models of the data set)",
    )
    group.add_argument("--dataset", metavar="NAME", help=f"data set ({_DEFAULTS.dataset})")
    group.add_argument("--split", metavar="NAME", help=f"split ({_DEFAULTS.split})")
    group.add_argument("--data-dir", metavar="DIR", help="folder with the data set's files")
    group.add_argument("--weights", metavar="FILE", help="checkpoint for the one model named")
    group.add_argument(
        "--attack",
        action="append",
        metavar="NAME",
        help="attack, or 'clean' for clean accuracy alone; repeatable (pgd); its options appear "
        "with --attack NAME --help",
    )
    group.add_argument(
        "--suite",
        metavar="NAME",
        help="worst case over many attacks instead of --attack: paper, standard, reliable or a "
        "file.toml; --eps sets its distance, --print-config shows all of it",
    )
    group.add_argument("--n", metavar="N", help="first N samples (1000, or all if fewer)")
    group.add_argument("--seed", metavar="N", help=f"seed of the attacks ({_DEFAULTS.seed})")
    group.add_argument(
        "--plugin", action="append", metavar="FILE", help="Python file with models; it is run"
    )
    group.add_argument(
        "--allow-plugins",
        action="store_true",
        help="run the plug-ins that --preset or --suite names",
    )
    group.add_argument(
        "--model-arg",
        action="append",
        metavar="KEY=VALUE",
        help="constructor argument that replaces the card's; repeatable",
    )
    group.add_argument("--preset", metavar="FILE.toml", help="settings; flags overrule them")


def _corruptions(group: Any) -> None:
    group.add_argument(
        "--corruption",
        action="append",
        metavar="NAME",
        help="corruption, group (noise, blur, weather, digital, extra), common15 or all; "
        "repeatable; without --attack the corrupted images are classified, with it they are "
        "attacked",
    )
    group.add_argument("--severity", metavar="S", help="3, 1,3,5 or 1-5 (1-5)")
    group.add_argument(
        "--corruptions-dir",
        metavar="DIR",
        help="folder with official files; what it lacks is generated",
    )
    group.add_argument(
        "--corruption-preset",
        metavar="NAME",
        help="constants of generated corruptions: cifar or imagenet (by image size)",
    )
    group.add_argument(
        "--frost-dir", metavar="DIR", help="folder with the official frost textures (synthetic)"
    )


def _how(group: Any) -> None:
    group.add_argument(
        "--batch-size", metavar="N", help=f"samples at a time at most ({_DEFAULTS.batch_size})"
    )
    group.add_argument(
        "--shard-size", metavar="N", help=f"samples in one results file ({_DEFAULTS.shard_size})"
    )
    group.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N (auto)")
    group.add_argument("--out", metavar="DIR", help=f"results folder ({_DEFAULTS.out})")
    group.add_argument(
        "--executor",
        metavar="NAME",
        help="inline, processes (one per core), ray, or auto: processes where it pays (auto)",
    )
    group.add_argument("--workers", metavar="N", help="of that executor (one per core or GPU)")
    group.add_argument("--ray-address", metavar="ADDRESS", help="of a running Ray cluster")
    group.add_argument(
        "--fast",
        metavar="LEVEL",
        help="none; early-stop: pgd leaves a sample at the first wrong answer; "
        "bf16: gradients in bfloat16, predictions in float32. Both may change outcomes; "
        "docs/scaling.md says how often (none)",
    )
    group.add_argument(
        "--shard", metavar="I/N", help="part I of N of the work, for schedulers; then merge"
    )
    group.add_argument(
        "--keep-older",
        action="store_true",
        help="take results on disk that another version of this package's source computed; they "
        "are computed again otherwise",
    )
    group.add_argument("--quiet", action="store_true", help="print the final table only")


def _show(group: Any) -> None:
    group.add_argument("--list", action="store_true", help="name models, data sets and attacks")
    group.add_argument(
        "--plan", action="store_true", help="shards, gradients, time and memory the run will take"
    )
    group.add_argument(
        "--print-config", action="store_true", help="print the run as TOML, a valid --preset"
    )


def _attack_options(parser: Parser, attacks: Sequence[str]) -> None:
    chosen = [name for name in dict.fromkeys(attacks) if name not in CLEAN_NAMES]
    shown: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for name in chosen:
        if name.startswith(BRIDGE_PREFIX):
            continue
        for option in attack_type(name).options():
            shown.setdefault(option.flag, []).append(name)
            texts.setdefault(
                option.flag, f"{option.help} ({format_param(option.name, option.default)})"
            )
    title = f"options of {', '.join(chosen)}" if chosen else "attack options"
    group = parser.add_argument_group(title, _bridge_options(chosen))
    for name in ATTACKS.names():
        for option in attack_type(name).options():
            if option.flag in parser._option_string_actions:
                continue
            owners = shown.get(option.flag)
            text = texts.get(option.flag, "").replace("%", "%%")
            only = f"[{', '.join(owners)}] " if owners and len(chosen) > 1 else ""
            group.add_argument(
                option.flag,
                dest=f"attack:{option.name}",
                metavar="VALUE",
                help=only + text if owners else argparse.SUPPRESS,
            )
    group.add_argument(
        "--attack-arg",
        action="append",
        metavar="KEY=VALUE",
        help="any option of the attack, for those without a flag; repeatable",
    )


def _bridge_options(chosen: Sequence[str]) -> str | None:
    parts = []
    for name in chosen:
        if name.startswith(BRIDGE_PREFIX):
            options = attack_type(name).options()
            parts.append(f"{name}: " + ", ".join(f"{o.name}={o.default}" for o in options))
    return "given with --attack-arg KEY=VALUE; " + "; ".join(parts) if parts else None


def _overrule(settings: dict[str, Any], found: argparse.Namespace) -> dict[str, Any]:
    settings = dict(settings)
    if found.model:
        settings["models"] = found.model
    if found.corruption:
        settings["corruptions"] = found.corruption
    if found.keep_older:
        settings["keep_older"] = True
    plain = ("dataset", "split", "data_dir", "weights", "device", "out", "severity")
    for key in (*plain, *EXECUTION_TEXTS, *CORRUPTION_TEXTS):
        if getattr(found, key) is not None:
            settings[key] = getattr(found, key)
    for key in ("n", "batch_size", "shard_size", "seed", "workers"):
        given = getattr(found, key)
        if given is not None or key in settings:
            settings[key] = _count(key, given if given is not None else settings[key])
    arguments = dict(pair(text, "--model-arg") for text in found.model_arg or ())
    settings["model_args"] = {**settings.get("model_args", {}), **arguments}
    settings["attack"] = _with_options(settings["attack"], found)
    return settings


def _count(key: str, given: str | int) -> int:
    flag = "--" + key.replace("_", "-")
    if key != "seed":
        return parse_count(given, flag)
    value = parse_number(given, flag)
    if value != int(value) or value < 0:
        raise UsageError(f"--seed '{given}' is not a whole number of at least 0.")
    return int(value)


def pair(text: str, flag: str) -> tuple[str, str]:
    """``KEY=VALUE`` as (key, value); raises UsageError on anything else."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{flag} '{text}' is not of the form KEY=VALUE.")
    return key, value


def _with_options(tables: list[AttackTable], found: argparse.Namespace) -> list[AttackTable]:
    """Give each option to every attack that has it; a list of values makes several attacks."""
    given: dict[str, list[str]] = {
        dest.partition(":")[2]: [part.strip() for part in value.split(",")]
        for dest, value in vars(found).items()
        if dest.startswith("attack:") and value is not None
    }
    given |= {
        key.replace("-", "_"): [value]
        for key, value in (pair(text, "--attack-arg") for text in found.attack_arg or ())
    }
    known = [_option_names(name) for name, _ in tables]
    for key, values in given.items():
        takers = [names is not None and key in names for names in known]
        if not any(takers):
            # The attack itself gives the best reason why it lacks the option.
            takers = [True] + [False] * (len(tables) - 1)
        tables, known = _spread(tables, known, takers, key, values)
    return tables


def _option_names(name: str) -> set[str]:
    if name in CLEAN_NAMES:
        return set()
    return {option.name for option in attack_type(name).options()}


def _spread(
    tables: list[AttackTable],
    known: list[set[str]],
    takers: list[bool],
    key: str,
    values: list[str],
) -> tuple[list[AttackTable], list[set[str]]]:
    wide: list[AttackTable] = []
    names: list[set[str]] = []
    for (name, options), has, takes in zip(tables, known, takers, strict=True):
        copies = (
            [(name, options | {key: value}) for value in values] if takes else [(name, options)]
        )
        wide += copies
        names += [has] * len(copies)
    return wide, names
