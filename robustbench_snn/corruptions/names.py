"""Names, groups and severities of the 19 common corruptions; imports nothing heavy.

Hendrycks and Dietterich 2019 (arXiv:1903.12261): 15 corruptions make the benchmark, four extra ones
are for validation and never enter its mean.
"""

from __future__ import annotations

from collections.abc import Iterable

from robustbench_snn.errors import UsageError
from robustbench_snn.registry import did_you_mean

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
EXTRA = GROUPS["extra"]
COMMON = tuple(name for group, names in GROUPS.items() if group != "extra" for name in names)
CORRUPTIONS = COMMON + EXTRA
SEVERITIES = (1, 2, 3, 4, 5)
PRESETS = ("cifar", "imagenet")


def group_of(name: str) -> str:
    """The group of one corruption; raises UsageError when there is no such corruption."""
    for group, names in GROUPS.items():
        if name in names:
            return group
    hint = did_you_mean(name, list(CORRUPTIONS))
    raise UsageError(f"unknown corruption '{name}': {hint}")


def resolve(asked: str | Iterable[str]) -> list[str]:
    """Corruption names, in the canonical order and without repeats.

    Args:
        asked: names, groups (``noise`` ... ``extra``), ``common15`` or ``all``; one string may hold
            several, separated by commas.

    Raises:
        UsageError: nothing was asked, or a word is neither a name nor a group.
    """
    texts = [asked] if isinstance(asked, str) else list(asked)
    words = [word.strip() for text in texts for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError("no corruption was named: give names, groups, 'common15' or 'all'.")
    sets = {"all": CORRUPTIONS, "common15": COMMON, **GROUPS}
    chosen: set[str] = set()
    for word in words:
        if word not in sets and word not in CORRUPTIONS:
            hint = did_you_mean(word, [*CORRUPTIONS, *sets])
            raise UsageError(f"unknown corruption '{word}': {hint}")
        chosen.update(sets.get(word, (word,)))
    return [name for name in CORRUPTIONS if name in chosen]


def parse_severities(text: str) -> list[int]:
    """Severities from ``3``, ``1,3,5`` or ``1-5``, ascending and without repeats.

    Raises:
        UsageError: not of that form, or outside 1..5.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first.strip(), last.strip() if dash else first.strip())
        if not all(end.isascii() and end.isdigit() for end in ends):
            raise UsageError(f"severity '{text}' is not of the form '3', '1,3,5' or '1-5'.")
        low, high = int(ends[0]), int(ends[1])
        if not 1 <= low <= high <= 5:
            raise UsageError(f"severity '{text}': severities are 1 (weakest) to 5 (strongest).")
        chosen.update(range(low, high + 1))
    return sorted(chosen)


def check_cell(name: str, severity: int, preset: str) -> None:
    """Raise UsageError unless this corruption, severity and preset exist."""
    group_of(name)
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity}: severities are 1 (weakest) to 5 (strongest).")
    if preset not in PRESETS:
        raise UsageError(f"unknown corruption preset '{preset}': use 'cifar' or 'imagenet'.")


def preset_for(height: int, width: int) -> str:
    """The preset whose constants were made for images of this size, in pixels.

    Raises:
        UsageError: the size is far from both 32 and 224; the caller must choose.
    """
    side = max(height, width)
    if side <= 48:
        return "cifar"
    if side >= 160:
        return "imagenet"
    raise UsageError(
        f"no corruption constants were published for {height}x{width} images: "
        "choose the preset 'cifar' (made for 32 px) or 'imagenet' (made for 224 px) yourself."
    )
