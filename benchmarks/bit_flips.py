"""Flip single random bits of stored files and count how many change a result without notice.

Rows of a run and of a suite, and a file of adversarial images, are written to a temporary folder;
each flip is of one random bit of one of them, which is then read as every command reads it.

    python benchmarks/bit_flips.py --flips 10000
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_snn.schema import COLUMNS
from robustbench_snn.store import RUNS, Layout, read_row, write_shard
from robustbench_snn.suites.images import is_stored, read_images, write_images
from robustbench_snn.suites.layouts import SUITES

SAMPLES = 128


def random_row(layout: Layout, generator: np.random.Generator) -> dict[str, Any]:
    """A row of ``layout`` with something in every column."""

    def value(kind: str) -> Any:
        if kind.startswith("list<"):
            return [value(kind[5:-1]) for _ in range(SAMPLES)]
        if kind == "string":
            return "".join(generator.choice(list("abcdef0123456789{}:,"), 40))
        if kind == "bool":
            return bool(generator.integers(2))
        if kind == "int64":
            return int(generator.integers(0, 1000))
        return float(np.float32(generator.normal()))

    row = {name: value(kind) for name, kind in layout.columns.items()}
    return row | {"start": 0, "stop": SAMPLES, "status": "ok", "code_sha256": "c" * 64}


def experiment(flips: int, seed: int = 0) -> Counter[str]:
    """How many of ``flips`` flips were ``noticed``, left the content ``equal``, or were ``silent``.

    Args:
        flips: number of single bits, spread evenly over three files.
        seed: of the rows and of the choice of bits.
    """
    generator = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            write_shard(folder, f"{i}" * 64, random_row(layout, generator), layout)
            for i, layout in enumerate((RUNS, SUITES))
        ]
        x = generator.random((8, 3, 32, 32), dtype=np.float32)
        digest = write_images(folder, "images", [str(i) for i in range(8)], x, levels=True)
        whole = {path: (path.read_bytes(), read_row(path)) for path in paths}
        images = Path(folder, "images")
        kept = images.read_bytes(), read_images(folder, "images", digest)
        for flip in range(flips):
            path = [*paths, images][flip % 3]
            content = bytearray(kept[0] if path == images else whole[path][0])
            at = int(generator.integers(8 * len(content)))
            content[at // 8] ^= 1 << (at % 8)
            path.write_bytes(bytes(content))
            if path == images:
                counts["silent" if is_stored(folder, "images", digest) else "noticed"] += 1
                continue
            found = read_row(path)
            same = found == whole[path][1]
            counts["noticed" if found is None else "equal" if same else "silent"] += 1
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts = experiment(given.flips, given.seed)
    print(f"{given.flips} flips, {len(COLUMNS)} columns of a run's row: {dict(counts)}")


if __name__ == "__main__":
    main()
