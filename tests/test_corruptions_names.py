"""Names, groups, severities: what a user may type and what they are told when it is wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

from robustbench_snn.corruptions import names
from robustbench_snn.corruptions.constants import CIFAR, IMAGENET
from robustbench_snn.errors import UsageError


def test_fifteen_common_and_four_extra_in_the_canonical_order() -> None:
    assert len(names.COMMON) == 15
    assert names.COMMON[0] == "gaussian_noise"
    assert names.COMMON[-1] == "jpeg_compression"
    assert names.resolve("all") == list(names.CORRUPTIONS)
    assert names.resolve("common15") == list(names.COMMON)


def test_names_and_groups_mix_and_come_back_in_order_without_repeats() -> None:
    assert names.resolve(["fog,noise", "shot_noise"]) == [
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "fog",
    ]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("gausian_noise", "did you mean 'gaussian_noise'"),
        ("wether", "did you mean 'weather'"),
        ("", "no corruption was named"),
    ],
)
def test_unknown_corruption_gets_one_sentence(asked: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        names.resolve(asked)


@pytest.mark.parametrize(
    ("text", "severities"),
    [("1-5", [1, 2, 3, 4, 5]), ("3", [3]), ("5,1,3", [1, 3, 5]), ("2-3,3", [2, 3])],
)
def test_severities(text: str, severities: list[int]) -> None:
    assert names.parse_severities(text) == severities


@pytest.mark.parametrize("text", ["", "0", "6", "3-2", "one", "1-", "-1", "1.5", "²"])
def test_bad_severities_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="severit"):
        names.parse_severities(text)


def test_both_tables_hold_five_strengths_of_every_corruption() -> None:
    for table in (CIFAR, IMAGENET):
        assert set(table) == set(names.CORRUPTIONS)
        assert {len(rows) for rows in table.values()} == {5}
    assert all(CIFAR[name] != IMAGENET[name] for name in names.CORRUPTIONS)


def test_preset_follows_the_size_and_refuses_to_guess_between() -> None:
    assert names.preset_for(32, 32) == "cifar"
    assert names.preset_for(224, 224) == "imagenet"
    with pytest.raises(UsageError, match="choose the preset"):
        names.preset_for(64, 64)


def test_listing_names_imports_nothing_heavy() -> None:
    code = (
        "import sys, robustbench_snn.corruptions as c; c.resolve('all');"
        "print([m for m in ('torch', 'cv2', 'scipy', 'PIL', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
