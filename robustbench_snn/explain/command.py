"""What ``python -m robustbench_snn.explain`` does with its options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_snn.endings import INTERRUPTED, ended_politely
from robustbench_snn.errors import UsageError
from robustbench_snn.explain.options import explain_config, listing, read
from robustbench_snn.explain.settings import ExplainConfig

if TYPE_CHECKING:
    from robustbench_snn.explain.evaluation import Report
    from robustbench_snn.explain.sheet import Look
    from robustbench_snn.explain.stored import Measured

OK, USAGE, FAILED = 0, 2, 3

_ERRORS_SHOWN = 3


@ended_politely
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process); returns the exit code.

    0 done, 2 a mistake in what was asked, 3 done but for failed shards or pictures that could not
    be read, or a result that could not be written, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(read(words))
    except UsageError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("\ninterrupted; finished results are kept: run the same again.", file=sys.stderr)
        return INTERRUPTED


def _main(options: argparse.Namespace) -> int:
    if options.list:
        print(listing(), end="")
        return OK
    from robustbench_snn.catalogue import load_plugin
    from robustbench_snn.data import DATASETS
    from robustbench_snn.resolve import choose_models

    for path in options.plugin or ():
        load_plugin(path)
    dataset = options.dataset or _dataset_of(options.model or [])
    if options.dataset:
        DATASETS.get(dataset)
    models, notes = choose_models(options.model or [], dataset, bool(options.weights))
    config = explain_config(options, models, dataset)
    kept = [] if options.quiet else notes
    return _photographs(options, config, kept) if options.image else _dataset(options, config, kept)


def _show(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _dataset_of(patterns: Sequence[str]) -> str:
    from robustbench_snn.catalogue import MODELS, model_card

    named = [model_card(name).dataset for name in patterns if name in MODELS.names()]
    return named[0] if named else "digit-scenes"


def _look(options: argparse.Namespace, kind: str) -> Look:
    from robustbench_snn.explain.sheet import Look

    return Look(kind, options.scale, options.style, options.upsampling)


def _stems(options: argparse.Namespace, kinds: Sequence[str]) -> dict[str, Path]:
    """Kind of map to the stem of its picture; the folder is made before anything is computed."""
    stem = Path(options.out or "overlay.png").with_suffix("")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out '{options.out}' cannot be written ({error.strerror}).") from None
    if len(kinds) == 1:
        return {kinds[0]: stem}
    return {kind: stem.with_name(f"{stem.name}-{kind}") for kind in kinds}


def _check_defined(
    maps: Sequence[str], models: Sequence[str], undefined: Mapping[Any, str]
) -> None:
    """Raise UsageError when no model has any of the maps."""
    if all((model, kind) in undefined for model in models for kind in maps):
        why = "; ".join(
            f"'{kind}' of model '{model}': {reason}" for (model, kind), reason in undefined.items()
        )
        raise UsageError(
            f"no map asked for is defined ({why}): choose another map, --block or --layer."
        )


def _photographs(options: argparse.Namespace, config: ExplainConfig, notes: Sequence[str]) -> int:
    from robustbench_snn.explain.photographs import readable

    # Before the seconds that importing torch takes.
    paths, errors = readable([Path(name) for name in options.image])
    for error in errors:
        print(f"left out: {error}", file=sys.stderr)
    stems = _stems(options, config.maps)
    from robustbench_snn.explain.compute import Reading
    from robustbench_snn.explain.photo_sheet import photo_sheet
    from robustbench_snn.loading import open_model, resolve_device

    device = resolve_device(config.run.device)
    models = [open_model(config.run, name, device) for name in config.run.models]
    looks = {kind: _look(options, kind) for kind in config.maps}
    for look in looks.values():
        look.check()
    reading = Reading(config.maps, config.block, config.number, layer=config.layer)
    sheets, undefined = photo_sheet(models, paths, looks, reading, config.run.seed)
    _check_defined(config.maps, config.run.models, undefined)
    _show(notes)
    for kind, sheet in sheets.items():
        for path in sheet.write(stems[kind]):
            print(f"wrote {path}")
    return FAILED if errors else OK


def _dataset(options: argparse.Namespace, config: ExplainConfig, notes: Sequence[str]) -> int:
    drawn = bool(options.out) or not options.metrics
    for kind in config.maps if drawn else ():
        _look(options, kind).check()
    stems = _stems(options, config.maps) if drawn else {}
    from robustbench_snn.explain.evaluation import evaluate
    from robustbench_snn.explain.progress import Bar
    from robustbench_snn.explain.stored import load

    report = evaluate(config, Bar(options.quiet))
    _check_defined(config.maps, config.run.models, report.undefined)
    _show(notes)
    if report.keys:
        order = {name: i for i, name in enumerate(config.run.models)}
        found = sorted(load(config.run.out, report.keys), key=lambda one: order[one.model])
        if options.metrics:
            _tables(options, config, report, found)
        for kind, stem in stems.items():
            _draw(options, kind, stem, config, report, found)
    return _finish(config, report)


def _tables(
    options: argparse.Namespace, config: ExplainConfig, report: Report, found: list[Measured]
) -> None:
    from robustbench_snn.explain.summary import lines, paired
    from robustbench_snn.explain.tables import caption, text, write

    about = caption(config, found)
    made, differences = lines(found, config.groups), paired(found, config.groups)
    print(text(made, differences, report.undefined, about), end="")
    if options.table:
        for path in write(found, config.groups, report.undefined, about, Path(options.table)):
            print(f"wrote {path}")


def _draw(
    options: argparse.Namespace,
    kind: str,
    stem: Path,
    config: ExplainConfig,
    report: Report,
    found: list[Measured],
) -> None:
    from robustbench_snn.explain.choose import choose
    from robustbench_snn.explain.settings import MAPS
    from robustbench_snn.explain.sheets import stored_sheet

    mine = [one for one in found if (one.kind, one.measure) == (kind, MAPS)]
    if not mine:
        print(f"note: map '{kind}' is not defined for any of the models; no picture of it.")
        return
    choice = choose(mine, options.show, options.choose, config.run.seed)
    folder = Path(options.data_dir) if options.data_dir else None
    lacking = {model: why for (model, name), why in report.undefined.items() if name == kind}
    sheet = stored_sheet(
        mine, choice, _look(options, kind), folder, undefined=lacking, order=config.run.models
    )
    for path in sheet.write(stem):
        print(f"wrote {path}")


def _finish(config: ExplainConfig, report: Report) -> int:
    failed = [row for row in report.rows if row["status"] != "ok"]
    count = len(report.keys)
    print(f"results: {config.run.out} ({count} file{'s' if count != 1 else ''})")
    for row in failed[:_ERRORS_SHOWN]:
        where = f"{row['model']} {row['map']} {row['measure']} samples {row['start']}-"
        print(f"failed: {where}{row['stop'] - 1}: {row['error']}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} results failed; the same command tries again.", file=sys.stderr)
        return FAILED
    return OK
