"""On a GPU: the official models' numbers, and the CPU's answers. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustbench_snn import RunConfig, make_spec, runner
from robustbench_snn.golden import compare, read_golden
from robustbench_snn.loading import resolve_device
from robustbench_snn.store import Results

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.pt"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_numbers_equal_the_official_models(path: Path) -> None:
    found = compare(read_golden(path), device=str(resolve_device("cuda")))
    assert found.passed, found


def test_answers_are_those_of_the_cpu(tmp_path: Path) -> None:
    predictions = {}
    for device in ("cpu", "cuda"):
        config = RunConfig(
            models=("qkformer-tiny.digit-scenes",),
            attacks=(make_spec("pgd", {"steps": 10}),),
            n=128,
            device=device,
            out=str(tmp_path / device),
        )
        runner.run(config)
        row = Results.load(config.out).frame().iloc[0]
        predictions[device] = {name: np.array(row[name]) for name in ("pred_clean", "pred_adv")}
    same = {
        name: np.mean(predictions["cpu"][name] == predictions["cuda"][name])
        for name in ("pred_clean", "pred_adv")
    }
    assert same["pred_clean"] == 1
    # Sums in another order flip spikes near the threshold, and ten steps amplify that.
    assert same["pred_adv"] > 0.9
