"""``python -m robustbench_snn.verify RESULTS``: predict stored adversarial images again.

For a reviewer: no attack runs. Clean and adversarial images of every finished suite go through the
model once more, in batches of another size, and each sample's outcome is compared with the stored
one. Exit codes: 0 all agree, 2 a mistake in what was asked, 3 something does not agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robustbench_snn.endings import ended_politely
from robustbench_snn.errors import UsageError

AGREE, USAGE, DISAGREE = 0, 2, 3


@dataclass(frozen=True)
class Check:
    """One suite of one model, as a reviewer's pass sees it.

    Attributes:
        title: suite, model and data set.
        n: number of samples; ``images`` how many have an adversarial image.
        stored, found: robust samples as stored and as predicted now, float images.
        rounded: robust samples with images rounded to 8 bits, as predicted now.
        differ: ids of samples whose outcome differs; ``outside`` of images out of bounds.
    """

    title: str
    n: int
    images: int
    stored: int
    found: int
    rounded: int
    differ: tuple[str, ...]
    outside: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        return not self.differ and not self.outside

    def line(self) -> str:
        """One line for the reviewer."""
        text = (
            f"{self.title}: {self.images} adversarial images of {self.n} samples; robust "
            f"{100 * self.found / self.n:.1f} % (stored {100 * self.stored / self.n:.1f} %), "
            f"{100 * self.rounded / self.n:.1f} % with 8-bit images: "
        )
        if self.agrees:
            return text + "agrees"
        parts = [f"{len(self.differ)} outcomes differ ({', '.join(self.differ[:3])})"] * bool(
            self.differ
        ) + [f"{len(self.outside)} images out of bounds"] * bool(self.outside)
        return text + "; ".join(parts)


@ended_politely
def main(argv: Sequence[str] | None = None) -> int:
    """Verify every suite in a results folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m robustbench_snn.verify",
        description="Predict the stored adversarial images of suites again.",
        allow_abbrev=False,
    )
    parser.add_argument("results", help="results folder")
    parser.add_argument("--suite", help="only this suite")
    parser.add_argument("--batch-size", type=int, default=17, help="samples at a time (17)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    parser.add_argument("--weights", help="checkpoint, where the suite was run with one")
    parser.add_argument("--data-dir", help="folder with the data set's files")
    parser.add_argument("--plugin", action="append", default=[], help="Python file with models")
    options = parser.parse_args(argv)
    try:
        checks = verify(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    for check in checks:
        print(check.line())
    return AGREE if all(check.agrees for check in checks) else DISAGREE


def verify(options: argparse.Namespace) -> list[Check]:
    """One check for each finished suite and model.

    Raises:
        UsageError: no suites, other weights or data, or missing images.
    """
    if options.batch_size < 1:
        raise UsageError(f"--batch-size {options.batch_size} is below 1.")
    from robustbench_snn.suites.stored import suite_rows

    rows, checks, refused = suite_rows(options.results, options.suite, every=True), [], []
    for row in rows:
        try:
            checks.append(_check(row, options))
        except UsageError as error:
            # Another version of the same model may be the one that was meant.
            if sum(_named(other) == _named(row) for other in rows) == 1:
                raise
            refused.append(error)
    if not checks:
        raise refused[0]
    for reason in refused:
        print(f"note: not verified: {reason}", file=sys.stderr)
    return checks


def _named(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in ("suite", "model", "dataset", "eps", "n"))


def _check(row: dict[str, Any], options: argparse.Namespace) -> Check:
    import numpy as np

    from robustbench_snn.config import RunConfig
    from robustbench_snn.loading import identify, open_dataset, open_model, resolve_device
    from robustbench_snn.suites.reevaluate import reevaluate
    from robustbench_snn.suites.standing import ImageFile

    config = RunConfig(
        (row["model"],),
        (),
        dataset=row["dataset"],
        split=row["split"],
        data_dir=options.data_dir,
        weights=options.weights,
        plugins=tuple(options.plugin),
        model_args=json.loads(row["model_config"] or "{}"),
    )
    model = open_model(config, row["model"], resolve_device(options.device))
    _same("weights", row["weights_sha256"], identify(model).weights_sha256, row["model"])
    data = open_dataset(config, model.card)
    batch = data.batch(range(row["n"]))
    _same_data(row, data.revision, batch.ids, batch.y.tolist())
    files = [ImageFile(**json.loads(text)) for text in row["image_files"]]
    chosen = [files[at] if at >= 0 else None for at in row["image"]]
    found = reevaluate(
        model, batch.x, batch.y, batch.ids, chosen, options.results, options.batch_size
    )
    stored, rounded = np.asarray(row["robust"]), np.asarray(row["robust_8bit"])
    differ = (stored != found.robust) | (rounded != found.robust_8bit)
    return Check(
        title=f"suite {row['suite']}, {row['model']}, {row['dataset']} {row['split']}",
        n=len(batch.ids),
        images=sum(file is not None for file in chosen),
        stored=int(stored.sum()),
        found=int(found.robust.sum()),
        rounded=int(found.robust_8bit.sum()),
        differ=tuple(np.asarray(batch.ids)[differ].tolist()),
        outside=found.outside,
    )


def _same_data(row: dict[str, Any], revision: str, ids: list[str], labels: list[int]) -> None:
    """Rows of releases that did not hash whole files are held to ids and labels instead."""
    older = not isinstance(row.get("code_sha256"), str)
    if older and revision != row["dataset_revision"]:
        if (row["sample_ids"], row["labels"]) == (ids, labels):
            print(
                f"note: the revision {row['dataset_revision']} of '{row['dataset']}' was stored by "
                "an older release, which formed it otherwise; ids and labels are the same.",
                file=sys.stderr,
            )
            return
    _same("data revision", row["dataset_revision"], revision, row["dataset"])


def _same(what: str, stored: str, found: str, name: str) -> None:
    if stored != found:
        raise UsageError(
            f"the suite was run with {what} {stored[:12]} of '{name}', and {found[:12]} is what "
            "was opened now: give the same --weights, --plugin and --data-dir as the suite had."
        )


if __name__ == "__main__":
    sys.exit(main())
