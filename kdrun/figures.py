"""Numbers as text for people. All output uses these, so that a figure looks the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ABSENT = "-"
"""In a table: a figure that was not measured or has no meaning."""


def percent(value: float, digits: int = 1) -> str:
    """`90.4`."""
    return _no_minus_zero(f"{value:.{digits}f}")


def signed(value: float, digits: int = 1) -> str:
    """`+3.9`, `-0.2`, and `0.0` if it rounds to zero."""
    text = _no_minus_zero(f"{value:.{digits}f}")
    return text if text.startswith("-") or not text.strip("0.") else f"+{text}"


def interval(ends: Sequence[float], digits: int = 1) -> str:
    """`+2.1 to +5.6`: the two ends of an interval of a difference."""
    return " to ".join(signed(end, digits) for end in ends)


def digits_for(values: Iterable[float]) -> int:
    """One digit behind the point, or two if one would round one of the values to zero."""
    return 2 if any(value and not signed(value).strip("0.") for value in values) else 1


def count(value: float) -> str:
    """`121,994`."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """`994`, `3.78 k`, `969 k`, `1.08 G`: three significant digits."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size * 0.9995:
            return three_digits(value / size) + unit
    return f"{value:.0f}"


def file_size(value: float) -> str:
    """`488 kB`; a kB is 1,000 bytes."""
    text = short(value)
    return f"{text}B" if " " in text else f"{text} B"


def three_digits(value: float) -> str:
    """`0.0246`, `1.23`, `-12.3`, `1,234`: three significant digits, and all digits before the point."""
    if value < 0:
        return _no_minus_zero(f"-{three_digits(-value)}")
    for limit, digits in ((99.95, 0), (9.995, 1), (0.9995, 2), (0.09995, 3)):
        if value >= limit:
            return f"{value:,.{digits}f}"
    return f"{value:.4f}"


def measured(value: float, unit: str = "") -> str:
    """A figure by its unit and type: a percentage, a whole number, or three significant digits."""
    if unit == "%":
        return percent(value)
    return count(value) if isinstance(value, int) else three_digits(value)


def times(value: float) -> str:
    """`123 x`, `3.4 x`."""
    return f"{value:,.0f} x" if value >= 9.95 else f"{value:.1f} x"


def duration(seconds: float) -> str:
    """`0:05`, `12:03`, `1:02:03`."""
    total = round(seconds)
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def roughly(seconds: float) -> str:
    """`8 s`, `12 min`, `1 h 50 min`, `3 days`, `4 years`: as exact as an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(round(minutes, -1 if minutes > 100 else 0), 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days = hours / 24
    return f"{days:.0f} days" if days < 2 * 365 else f"{days / 365:,.0f} years"


def as_typed(value: object) -> str:
    """A value of a key as one types it: `2` for 2 and 2.0, `true`, `null`, `[1,a]`, `{from:0,to:1}`."""
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{as_typed(part)}' for key, part in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def minute(time: str) -> str:
    """A time in ISO 8601 as `2026-01-02 03:04`."""
    return time[:16].replace("T", " ")


def p_value(value: float) -> str:
    """`= 0.031`, `< 0.001`."""
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def listed(names: Sequence[str], most: int = 10) -> str:
    """`a, b, c`, or `a, b and 8 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(number: float, noun: str, many: str = "") -> str:
    """`1 seed`, `3 seeds`, `1,000 images`. many: of a noun whose plural is no s more."""
    return f"{count(number)} {noun if number == 1 else many or f'{noun}s'}"


def points(value: float) -> str:
    """`1 point`, `0.5 points`."""
    return f"{as_typed(value)} point{'s' * (value != 1)}"


def _no_minus_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.") else text
