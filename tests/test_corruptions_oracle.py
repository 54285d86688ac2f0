"""ImageNet constants at 224 px against two other implementations.

The golden file holds fingerprints of their images (golden/make_corruption_oracle.py made it); where
`imagecorruptions-imaug` is installed the comparison is also made live.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption_images import image

from robustbench_snn.corruptions import corrupt
from robustbench_snn.corruptions.constants import strength
from robustbench_snn.corruptions.motion import motion_blur

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

from make_corruption_oracle import EXACT, digest, oracle  # noqa: E402

HAS_ORACLE = importlib.util.find_spec("imagecorruptions") is not None


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads((GOLDEN / "corruption_oracle.json").read_text(encoding="utf-8"))


def replay(name: str, seed: int) -> np.random.Generator | np.random.RandomState:
    """The generator that draws what the reference drew."""
    # Its impulse noise alone draws from the new generators.
    return np.random.default_rng(seed) if name == "impulse_noise" else np.random.RandomState(seed)


def test_the_pictures_are_those_of_the_golden_file(golden: dict[str, Any]) -> None:
    assert [digest(image(i, golden["side"])) for i in range(2)] == golden["images"]


@pytest.mark.parametrize("name", EXACT)
def test_bit_equal_to_the_reference_at_every_severity(name: str, golden: dict[str, Any]) -> None:
    ours = [
        [
            digest(corrupt(image(i, 224), name, s, "imagenet", replay(name, golden["seed"])))
            for i in range(2)
        ]
        for s in range(1, 6)
    ]
    assert ours == golden["exact"][name]


def test_motion_blur_is_bit_equal_to_imagemagick(golden: dict[str, Any]) -> None:
    ours = [
        [
            digest(motion_blur(image(i, 224), *strength("motion_blur", s, "imagenet"), angle))
            for i, angle in enumerate(golden["motion_angles"])
        ]
        for s in range(1, 6)
    ]
    assert ours == golden["motion"]


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_snow_does_as_much_damage_as_the_reference(severity: int, golden: dict[str, Any]) -> None:
    errors = []
    for index in range(2):
        clean = image(index, 224)
        for seed in range(golden["mse_seeds"]):
            out = corrupt(clean, "snow", severity, "imagenet", np.random.RandomState(seed))
            errors.append(np.mean((out.astype(float) - clean) ** 2))
    # It crops the flakes at a corner and truncates elsewhere: documented differences.
    assert np.mean(errors) == pytest.approx(golden["mse"]["snow"][severity - 1], rel=0.03)


@pytest.mark.skipif(not HAS_ORACLE, reason="imagecorruptions-imaug is not installed")
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_bit_equal_to_the_installed_reference(name: str, severity: int) -> None:
    for index, seed in ((2, 11), (3, 12)):
        clean = image(index, 224)
        wanted = oracle(name, clean, severity, seed)
        ours = corrupt(clean, name, severity, "imagenet", replay(name, seed))
        assert np.array_equal(ours, wanted)
