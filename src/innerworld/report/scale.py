"""Where a value goes on an axis, which ticks the axis has, and how a number is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MINUS = "−"
TINY = 1e-300  # what is smaller counts as 0: its powers of ten cannot be computed


@dataclass(frozen=True)
class Scale:
    """From values in [low, high] to positions in [start, stop], linear or in decades; `stop` may be below `start`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        at = math.log10(value) if self.log else value
        return self.start + (at - low) / (high - low) * (self.stop - self.start)


def bounds(low: float, high: float, log: bool) -> tuple[float, float]:
    """A range around [low, high] that ends on round numbers; it holds 0 when that is near enough to matter."""
    if log:
        low, high = _round_down(low), _round_up(high)
        return (low, high) if low < high else (low / 2, high * 2)
    if low >= 0 and low <= 0.5 * high:
        low = 0.0
    if high <= 0 and high >= 0.5 * low:
        high = 0.0
    if high - low <= max(1e-9 * max(abs(low), abs(high)), TINY):  # equal, as far as an axis can tell
        margin = abs(low) / 2 if abs(low) > TINY else 1.0
        low, high = low - margin, high + margin
    step = 0.0
    while step < (wider := _step(low, high, 5)):  # a wider range may need a wider step
        step = wider
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return low, high


def ticks(low: float, high: float, log: bool = False, count: int = 5) -> list[float]:
    """About `count` round numbers in [low, high], in ascending order."""
    if not log:
        step = _step(low, high, count)
        first = math.ceil(low / step - 1e-9)
        return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
    decades = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    if len(decades) >= 3:
        return [10.0**i for i in decades[:: math.ceil(len(decades) / (count + 1))]]
    finer = [m * 10.0**i for i in range(decades.start - 1, decades.stop + 1) for m in (1, 2, 5)]
    inside = [value for value in finer if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return inside if len(inside) >= 3 else ticks(low, high, count=count)


def tick_labels(values: list[float]) -> list[str]:
    """Each tick as text, all with the decimals that the finest of them needs."""
    largest = max((abs(value) for value in values), default=0)
    gap = min((b - a for a, b in pairwise(values)), default=largest)
    if largest >= 1e6 or 0 < largest < 1e-3:
        digits = math.ceil(math.log10(largest / gap) - 1e-9)
        return [_scientific(value, max(2, digits)) for value in values]
    ratio = max(values) / min(values) if values and min(values) > 0 else 1
    if ratio > 20:  # decades: each needs its own decimals
        return [number(value) for value in values]
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9)) if gap > 0 else 0
    if round(gap * 10**decimals, 6) != round(gap * 10**decimals):
        decimals += 1
    return [f"{value:,.{decimals}f}".replace("-", MINUS) for value in values]


def number(value: float) -> str:
    """A number for people: three significant digits, thousands parted, powers of ten when very large or small."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return _scientific(value)
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", MINUS)


def _step(low: float, high: float, count: int) -> float:
    """The round step (1, 2 or 5 times a power of ten) that makes about `count` of the range."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(m for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return power * max(m for m in (1, 2, 5) if m * power <= value * (1 + 1e-9))


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return power * min(m for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9))


def _scientific(value: float, digits: int = 2) -> str:
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".").replace("-", MINUS)
    power = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa}×{power}"
