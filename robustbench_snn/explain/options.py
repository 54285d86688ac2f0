"""Command-line options of ``python -m robustbench_snn.explain``; nothing heavy is imported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustbench_snn.attacks.values import parse_count, parse_free
from robustbench_snn.config import RunConfig
from robustbench_snn.errors import UsageError
from robustbench_snn.explain.kinds import KINDS, REFUSED, parse_maps
from robustbench_snn.explain.settings import (
    DEFAULT_UNDER,
    GROUPS,
    ExplainConfig,
    parse_change,
    parse_groups,
)
from robustbench_snn.options import Parser

DEFAULT_RESULTS = "explanations"
DEFAULT_SHOWN = 8
_EXAMPLES = """examples:
  python -m robustbench_snn.explain --image photo.jpg --map rate --out overlay.png
  python -m robustbench_snn.explain --dataset digit-scenes --n 100 --metrics
  python -m robustbench_snn.explain --dataset digit-scenes --n 100 --show 8 --out sheet.png
  python -m robustbench_snn.explain --list                 maps and groups of metrics
"""


def parser() -> Parser:
    """All options, documented."""
    made = Parser(
        prog="python -m robustbench_snn.explain",
        description="What spiking transformers look at: maps over images, and numbers for them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _what(made.add_argument_group("what to explain"))
    _maps(made.add_argument_group("maps"))
    _metrics(made.add_argument_group("metrics"))
    _picture(made.add_argument_group("picture"))
    _how(made.add_argument_group("how to run it"))
    return made


def _what(group: Any) -> None:
    group.add_argument(
        "--image", action="append", metavar="FILE", help="a photograph of any size; repeatable"
    )
    group.add_argument("--dataset", metavar="NAME", help="explain samples of a data set instead")
    group.add_argument("--split", metavar="NAME", default=RunConfig.split, help="split (test)")
    group.add_argument("--data-dir", metavar="DIR", help="folder with the data set's files")
    group.add_argument("--n", metavar="N", help="first N samples (1000, or all if fewer)")
    group.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="model, glob or 'all'; repeatable (default: the shipped models of the data set)",
    )
    group.add_argument("--weights", metavar="FILE", help="checkpoint for the one model named")
    group.add_argument("--plugin", action="append", metavar="FILE", help="Python file with models")
    group.add_argument("--model-arg", action="append", metavar="KEY=VALUE", help="see run --help")


def _maps(group: Any) -> None:
    group.add_argument(
        "--map",
        action="append",
        metavar="NAME",
        help=f"one or several of {', '.join(KINDS)}; 'attention' or 'all' (rate)",
    )
    group.add_argument(
        "--block", metavar="B", default="last", help="attention block: last, a place from 1, a name"
    )
    group.add_argument(
        "--layer",
        metavar="NAME",
        default="",
        help="module that grad_cam weighs, of any network, as conv3 (the attention block)",
    )
    group.add_argument(
        "--pass",
        dest="number",
        metavar="N",
        help="pass of a model with feedback (the predicting one)",
    )
    group.add_argument(
        "--target",
        choices=("predicted", "label"),
        default="predicted",
        help="class that class-specific maps explain (predicted)",
    )


def _metrics(group: Any) -> None:
    group.add_argument(
        "--metrics",
        nargs="?",
        const="location,concentration",
        metavar="GROUPS",
        help=f"table of map metrics; groups of {', '.join(GROUPS)} or 'all' (the first two)",
    )
    group.add_argument(
        "--under",
        action="append",
        metavar="CHANGE",
        help="stability: corruption NAME:SEVERITY or attack NAME:KEY=VALUE,...; repeatable "
        f"({', '.join(DEFAULT_UNDER)})",
    )
    group.add_argument(
        "--costly-n",
        metavar="N",
        default="100",
        help="samples of all but the first two groups (100)",
    )
    group.add_argument("--steps", metavar="N", default="16", help="points of a deletion curve (16)")
    group.add_argument("--boxes", metavar="DIR", help="CLS-LOC XML files, as masks for ImageNet")
    group.add_argument(
        "--table", metavar="STEM", help="also write STEM.md, .csv, _paired.csv, _samples.parquet"
    )


def _picture(group: Any) -> None:
    group.add_argument(
        "--out", metavar="FILE", help="picture (.png; overlay.png); .pdf, .csv, .json beside it"
    )
    group.add_argument(
        "--show", metavar="N", help=f"images drawn from a data set ({DEFAULT_SHOWN})"
    )
    group.add_argument(
        "--choose",
        metavar="RULE",
        default="random",
        help="random, first, lift or outcomes (random)",
    )
    group.add_argument("--style", metavar="NAME", default="perceptual", help="perceptual or paper")
    group.add_argument(
        "--scale", metavar="NAME", default="per_map", help="per_map, shared, percentile or raw"
    )
    group.add_argument(
        "--upsampling", metavar="NAME", default="bilinear", help="bilinear or nearest"
    )


def _how(group: Any) -> None:
    plain = RunConfig((), ())
    group.add_argument("--batch-size", metavar="N", help=f"samples at a time ({plain.batch_size})")
    group.add_argument(
        "--shard-size", metavar="N", help=f"samples in one file ({plain.shard_size})"
    )
    group.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N")
    group.add_argument("--seed", metavar="N", default="0", help="seed of all random choices (0)")
    group.add_argument(
        "--results",
        metavar="DIR",
        default=DEFAULT_RESULTS,
        help=f"folder of stored maps ({DEFAULT_RESULTS})",
    )
    group.add_argument(
        "--keep-older",
        action="store_true",
        help="take stored maps that another version of this package's source computed",
    )
    group.add_argument("--quiet", action="store_true", help="print results only")
    group.add_argument("--list", action="store_true", help="name maps and groups of metrics")


def read(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked as far as that needs no torch.

    Raises:
        UsageError: an unknown or malformed option, or options that do not go together.
    """
    found = parser().parse_args(list(argv))
    found.maps = parse_maps(found.map or ["rate"])
    found.number = None if found.number is None else parse_count(found.number, "--pass")
    found.show_given = 0 if found.show is None else parse_count(found.show, "--show")
    found.show = found.show_given or DEFAULT_SHOWN
    if found.n is not None and found.show_given > parse_count(found.n, "--n"):
        raise UsageError(
            f"--show {found.show_given} asks for more pictures than the {found.n} samples of --n: "
            f"give --show {found.n} or less."
        )
    if found.image and (found.dataset or found.metrics):
        raise UsageError(
            "--image explains your own pictures, whose classes and objects are unknown: leave out "
            "--dataset and --metrics."
        )
    if not (found.image or found.dataset or found.list):
        raise UsageError(
            "nothing to explain was named: give --image FILE, or --dataset NAME (digit-scenes)."
        )
    if found.layer and "grad_cam" not in found.maps:
        raise UsageError(
            f"--layer '{found.layer}' is where grad_cam is read, and no --map grad_cam was asked "
            "for: add it, or leave --layer out."
        )
    if found.out and Path(found.out).suffix.lower() not in (".png", ".pdf"):
        raise UsageError(f"--out '{found.out}' must end in .png or .pdf.")
    return found


def explain_config(found: argparse.Namespace, models: Sequence[str], dataset: str) -> ExplainConfig:
    """The evaluation of maps that the options ask for, with models resolved.

    Raises:
        UsageError: an option that cannot be read.
    """
    seed = found.seed if found.seed == "0" else str(parse_count(found.seed, "--seed"))
    counts: dict[str, Any] = {
        key: parse_count(getattr(found, key), f"--{key.replace('_', '-')}")
        for key in ("n", "batch_size", "shard_size")
        if getattr(found, key) is not None
    }
    run = RunConfig(
        models=tuple(models),
        attacks=(),
        dataset=dataset,
        split=found.split,
        data_dir=found.data_dir,
        weights=found.weights,
        device=found.device,
        seed=int(seed),
        out=found.results,
        plugins=tuple(found.plugin or ()),
        model_args=dict(_pair(text) for text in found.model_arg or ()),
        keep_older=found.keep_older,
        **counts,
    )
    groups = parse_groups(found.metrics) if found.metrics else ("location", "concentration")
    under = found.under or (DEFAULT_UNDER if "stability" in groups else ())
    return ExplainConfig(
        run=run,
        maps=found.maps,
        groups=groups,
        block=found.block,
        number=found.number,
        target=found.target,
        layer=found.layer,
        under=tuple(parse_change(text) for text in under),
        costly_n=parse_count(found.costly_n, "--costly-n"),
        steps=parse_count(found.steps, "--steps"),
        boxes=found.boxes,
    )


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--model-arg '{text}' is not of the form KEY=VALUE.")
    return key, parse_free(value)


def listing() -> str:
    """Maps, refused maps and groups of metrics, as tables."""
    from robustbench_snn.report.tables import folded

    maps = [
        {"map": kind.name, "what": f"{kind.summary} [{kind.unit}; from {kind.source}]"}
        for kind in KINDS.values()
    ]
    refused = [{"not offered": name, "why": why} for name, why in REFUSED.items()]
    groups = [{"group of metrics": name, "measured": how} for name, how in GROUPS.items()]
    return "\n".join(
        [
            folded(maps, ["map", "what"]),
            folded(refused, ["not offered", "why"]),
            folded(groups, ["group of metrics", "measured"]),
        ]
    )
