"""``python -m robustbench_snn.check``: is an adapter, or a network, what it claims to be?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_snn.endings import ended_politely
from robustbench_snn.errors import UsageError

if TYPE_CHECKING:
    from robustbench_snn.adapter import ModelAdapter


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m robustbench_snn.check",
        description="Conformance of models (default: all that are shipped with weights), or "
        "agreement with the official ones on golden files.",
    )
    found.add_argument("models", nargs="*", metavar="MODEL", help="names, globs or 'all'")
    found.add_argument("--golden", nargs="+", metavar="FILE", help="golden files to compare with")
    found.add_argument("--weights", help="checkpoint of the one model named")
    found.add_argument("--data-dir", help="folder with the model's data set")
    found.add_argument("--n", type=int, default=64, help="images to check on (default: 64)")
    found.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    found.add_argument("--plugin", action="append", default=[], help="file that adds models")
    found.add_argument(
        "--model-arg",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="constructor argument that replaces the card's; repeatable",
    )
    return found


@ended_politely
def main(argv: list[str] | None = None) -> int:
    """Run the command: 0 when everything passes, 1 when something fails, 2 on wrong use."""
    args = parser().parse_args(argv)
    try:
        if args.golden:
            return check_golden([Path(path) for path in args.golden], args.device)
        return check_models(args)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def check_golden(paths: list[Path], device: str = "auto") -> int:
    """Compare with every golden file on ``device``; a line each."""
    from robustbench_snn.golden import report
    from robustbench_snn.loading import resolve_device

    failed, chosen = 0, str(resolve_device(device))
    for path in paths:
        line, passed = report(path, chosen)
        print(line, flush=True)
        failed += not passed
    return 1 if failed else 0


def check_models(args: argparse.Namespace) -> int:
    """Run every conformance check on every model asked for; a line each."""
    from robustbench_snn.adapter import load_model
    from robustbench_snn.attacks.values import parse_free
    from robustbench_snn.catalogue import MODELS, load_plugin, model_card, own_line
    from robustbench_snn.conformance import conformance
    from robustbench_snn.loading import resolve_device
    from robustbench_snn.options import pair
    from robustbench_snn.registry import origin

    if args.n < 1:
        raise UsageError(f"--n {args.n} leaves nothing to check: give at least 1.")
    added = [name for path in args.plugin for name in load_plugin(path)]
    names = list(dict.fromkeys(n for pattern in args.models for n in MODELS.match(pattern)))
    if not names:
        cards = map(model_card, MODELS.names())
        names = added or [c.name for c in cards if c.checkpoint and not c.checkpoint.fetched]
    if args.weights and len(names) != 1:
        raise UsageError(f"--weights fits one model, but {len(names)} are named: name one.")
    arguments = {key: parse_free(v) for key, v in (pair(t, "--model-arg") for t in args.model_arg)}
    failed = 0
    for name in names:
        model = load_model(
            name, args.weights, str(resolve_device(args.device)), model_args=arguments
        )
        x, y, what = samples(model, args)
        try:
            findings = conformance(model, x, y)
        except UsageError:
            raise
        except Exception as error:
            where = own_line(error, origin(type(model)))
            print(f"{name}: cannot answer: {where}{type(error).__name__}: {error}: FAIL")
            failed += 1
            continue
        for finding in findings:
            print(f"{name}: {finding.name}: {finding.detail}: {finding.verdict}", flush=True)
            failed += not finding.passed
        state = "untrained" if model.weights_sha256 == "untrained" else model.weights_sha256[:12]
        print(f"{name}: {len(findings)} checks on {len(y)} {what}, weights {state}")
    return 1 if failed else 0


def samples(model: ModelAdapter, args: argparse.Namespace) -> tuple[Any, Any, str]:
    """Images and labels of the model's data set, or seeded noise where it is not at hand."""
    import torch

    from robustbench_snn.data import DATASETS, load_dataset

    card, device = model.card, next(model.parameters()).device
    known = card.dataset in DATASETS.names()
    if known and (args.data_dir or DATASETS.get(card.dataset).hub_id is None):
        folder = Path(args.data_dir) if args.data_dir else None
        data = load_dataset(card.dataset, "test", folder, card.preprocess)
        batch = data.batch(range(min(args.n, len(data))))
        x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
        return x.to(device), y.to(device), f"images of {card.dataset}"
    generator = torch.Generator().manual_seed(0)
    count = min(args.n, 4 if max(card.input_shape) > 64 else 16)
    x = torch.rand(count, *card.input_shape, generator=generator)
    y = torch.randint(card.num_classes, (count,), generator=generator)
    return x.to(device), y.to(device), "noise images (no --data-dir: accuracy not checked)"


if __name__ == "__main__":
    sys.exit(main())
