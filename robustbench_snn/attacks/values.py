"""Values of attack options as people write them: ``8/255``, ``0.05``, ``on``, ``10``."""

from __future__ import annotations

import math
from fractions import Fraction

from robustbench_snn.attack_spec import Scalar
from robustbench_snn.errors import UsageError

Given = str | float | int | bool

_BOOLEANS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


def parse_number(text: Given, what: str) -> float:
    """A finite number from ``"8/255"``, ``"0.05"`` or a number.

    Raises:
        UsageError: the text is neither a number nor a fraction, or it is not finite.
    """
    try:
        if isinstance(text, bool):
            raise ValueError
        value = _fraction(text) if isinstance(text, str) and "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"{what} '{text}' is not a number: write a decimal such as 0.03 or a fraction "
            "such as 8/255."
        ) from None
    if not math.isfinite(value):
        raise UsageError(f"{what} '{text}' is not finite: write a decimal or a fraction.")
    return value


def _fraction(text: str) -> float:
    """``8/255`` or ``0.5/255``, rounded once."""
    top, bottom = text.split("/")
    return float(Fraction(top) / Fraction(bottom))


def parse_eps(text: Given, what: str = "eps") -> float:
    """A distance in pixel units, in [0, 1], from ``"8/255"``, ``"0.05"`` or a number.

    Raises:
        UsageError: not a number, negative, or above 1 (the whole range of a pixel).
    """
    value = parse_number(text, what)
    if 0.0 <= value <= 1.0:
        return value
    levels = 1.0 < value <= 255.0 and "/" not in str(text)
    hint = f": {value:g} grey levels are written {value:g}/255" if levels else ""
    raise UsageError(
        f"{what} '{text}' is outside [0, 1]; distances are in pixel units of images whose "
        f"values lie in [0, 1]{hint}."
    )


def parse_step(text: Given, what: str = "step_size") -> float:
    """A distance in pixel units, in (0, 1].

    Raises:
        UsageError: not a number, or outside (0, 1].
    """
    value = parse_eps(text, what)
    if value == 0.0:
        raise UsageError(f"{what} '{text}' moves nothing: write a distance above 0, as 2/255.")
    return value


def parse_count(text: Given, what: str) -> int:
    """A whole number of at least 1.

    Raises:
        UsageError: not a whole number, or below 1.
    """
    value = parse_number(text, what)
    if value != int(value) or value < 1:
        raise UsageError(f"{what} '{text}' is not a whole number of at least 1.")
    return int(value)


def parse_switch(text: Given, what: str) -> bool:
    """A boolean from ``on``/``off``, ``true``/``false``, ``yes``/``no`` or a bool.

    Raises:
        UsageError: anything else.
    """
    if isinstance(text, bool):
        return text
    if str(text).lower() not in _BOOLEANS:
        raise UsageError(f"{what} '{text}' is neither on nor off.")
    return _BOOLEANS[str(text).lower()]


def parse_free(text: Given) -> Scalar:
    """The closest scalar to a text whose type is not known: bool, int, float, else the text."""
    if not isinstance(text, str):
        return text
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return parse_number(text, "value")
    except UsageError:
        return text
