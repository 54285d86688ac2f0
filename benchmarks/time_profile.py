"""Where the time of an input gradient goes, with eager and with compiled layers, and the floor.

    python benchmarks/time_profile.py [MODEL] [--batch 16]

The floor is the arithmetic of convolutions and products, forward and backward, at the rates that
a large matrix product and a large convolution reach on this machine: one thread, processor time.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import arguments
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from robustbench_snn.adapter import ModelAdapter, load_model
from robustbench_snn.attacks.base import cross_entropy_gradient
from robustbench_snn.memory import keep_large_blocks
from robustbench_snn.models import neuron

KINDS = {
    "convolution": ("convolution",),
    "matrix product": ("aten::bmm", "aten::mm", "aten::addmm"),
    "neurons": ("NativeLIF", "LIF", "aten::ge", "aten::sub", "aten::sigmoid", "aten::addcmul"),
    "neurons, too": ("aten::mul_", "aten::rsub", "aten::mul"),
    "max-pooling": ("max_pool", "NativePool"),
    "batch norm": ("batch_norm",),
}


def processor_seconds(compute: Callable[[], object], repeats: int) -> float:
    """Least processor time of several calls."""
    best = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        compute()
        best = min(best, time.process_time() - begun)
    return best


def rates() -> dict[str, float]:
    """Floating-point operations per second of one large product and one large convolution.

    The library of convolutions is not that of products; on some processors it is the faster one.
    """
    a = torch.randn(1024, 1024)
    x, weight = torch.randn(8, 256, 32, 32), torch.randn(256, 256, 3, 3)
    convolve = partial(torch.nn.functional.conv2d, x, weight, padding=1)
    with FlopCounterMode(display=False) as counter:
        convolve()
    return {
        "product": 2 * 1024**3 / processor_seconds(lambda: a @ a, 20),
        "convolution": counter.get_total_flops() / processor_seconds(convolve, 5),
    }


def operations(model: ModelAdapter, x: torch.Tensor) -> int:
    """Floating-point operations of products and convolutions in one gradient of ``x``."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    # Backward to the input alone repeats each product once; frozen weights need none.
    return 2 * counter.get_total_flops()


def shares(compute: Callable[[], object]) -> Counter[str]:
    """Seconds by kind of operation."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        compute()
    found: Counter[str] = Counter()
    for event in recorded.key_averages():
        kind = next(
            (kind for kind, words in KINDS.items() if any(word in event.key for word in words)),
            "the rest",
        )
        found[kind.removesuffix(", too")] += event.self_cpu_time_total / 1e6
    return found


def main() -> None:
    """Print both profiles of a model, and the floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "model", nargs="?", type=arguments.model, default="qkformer-tiny.digit-scenes"
    )
    parser.add_argument("--batch", type=arguments.count, default=16, help="images (16)")
    parser.add_argument("--repeats", type=arguments.count, default=5, help="gradients timed (5)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_blocks()
    torch.manual_seed(0)
    model = load_model(given.model)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(given.batch, *model.card.input_shape, generator=generator)
    y = torch.zeros(given.batch, dtype=torch.int64)
    print(f"{given.model}, batch {given.batch}, T={model.time_steps}, one thread")
    for kind in ("eager", "native"):
        neuron.use(kind)
        cross_entropy_gradient(model, x, y)
        each = processor_seconds(lambda: cross_entropy_gradient(model, x, y), given.repeats)
        print(f"\n{kind}: {1e3 * each / given.batch:.2f} ms per gradient of an image")
        found = shares(lambda: cross_entropy_gradient(model, x, y))
        for name, seconds in found.most_common():
            print(f"  {name:16s}{100 * seconds / sum(found.values()):5.1f} %")
    count = operations(model, x) / given.batch
    for kind, rate in rates().items():
        floor = count / rate
        print(
            f"\nat the rate of a large {kind}: {count / 1e6:.0f} MFLOP per gradient at "
            f"{rate / 1e9:.0f} GFLOP/s = {1e3 * floor:.2f} ms; the compiled layers take "
            f"{each / given.batch / floor:.2f} times that"
        )


if __name__ == "__main__":
    main()
