"""How the report writes figures and names."""

import math

NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, without the sign; a dash where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{100 * value:+.{digits}f}".replace("-", _MINUS)
    return text if any(digit in text for digit in "123456789") else text.lstrip("+" + _MINUS)


def p_value(value: float | None) -> str:
    """A p-value as it is printed in papers; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"<{_THIN_SPACE}0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def count(value: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", _THIN_SPACE)


def label(name: str) -> str:
    """A metric's, task's or arm's name as words."""
    return name.replace("_", " ").replace("f1", "F1")
