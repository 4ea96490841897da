"""The arithmetic of axes: positions, round bounds, ticks and how numbers are written, against known values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerworld.report.scale import Scale, bounds, number, tick_labels, ticks


def test_scale_is_linear_between_its_ends() -> None:
    scale = Scale(10, 20, start=100, stop=0)
    assert [scale(value) for value in (10, 12.5, 20)] == [100, 75, 0]


def test_log_scale_gives_each_decade_the_same_room() -> None:
    scale = Scale(0.01, 10, start=0, stop=300, log=True)
    assert [scale(value) for value in (0.01, 0.1, 1, 10)] == pytest.approx([0, 100, 200, 300])


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0.3, 9.1, False, (0, 10)),  # 0 is near: it belongs on the axis
        (97, 103, False, (96, 104)),  # 0 is far: it does not
        (-9, -1, False, (-10, 0)),
        (-3, 4, False, (-4, 4)),
        (5, 5, False, (2, 8)),
        (0, 0, False, (-1, 1)),
        (0, 5e-324, False, (-1, 1)),
        (-2.1, 6.1, False, (-5, 10)),  # steps of 2 would end at -4 and 8, which is too wide for steps of 2
        (0.013, 0.8, True, (0.01, 1)),
        (3, 30, True, (2, 50)),
        (1, 1, True, (0.5, 2)),
    ],
)
def test_bounds_are_round(low: float, high: float, log: bool, expected: tuple[float, float]) -> None:
    assert bounds(low, high, log) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (0, 20_000, False, [0, 5_000, 10_000, 15_000, 20_000]),
        (1, 16, False, [5, 10, 15]),
        (-0.2, 0.2, False, [-0.2, -0.1, 0, 0.1, 0.2]),
        (0.01, 10, True, [0.01, 0.1, 1, 10]),
        (1e-9, 1, True, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
        (0.05, 1, True, [0.05, 0.1, 0.2, 0.5, 1]),
    ],
)
def test_ticks(low: float, high: float, log: bool, expected: list[float]) -> None:
    assert ticks(low, high, log) == pytest.approx(expected)


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_bounds_hold_the_values_and_ticks_lie_within(a: float, b: float) -> None:
    low, high = bounds(min(a, b), max(a, b), log=False)
    room = 1e-6 * (high - low)
    assert low < high and low - room <= min(a, b) and max(a, b) <= high + room
    found = ticks(low, high)
    assert 3 <= len(found) <= 12 and found == sorted(set(found))
    assert all(low - room <= value <= high + room for value in found)
    assert len(set(tick_labels(found))) == len(found)


@given(st.floats(1e-12, 1e12), st.floats(1e-12, 1e12))
def test_log_bounds_and_ticks(a: float, b: float) -> None:
    low, high = bounds(min(a, b), max(a, b), log=True)
    assert 0 < low < high and low <= min(a, b) * (1 + 1e-6) and max(a, b) <= high * (1 + 1e-6)
    found = ticks(low, high, log=True)
    assert 2 <= len(found) <= 12 and found == sorted(set(found))
    assert len(set(tick_labels(found))) == len(found)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], ["0.0", "0.5", "1.0"]),
        ([0, 5_000, 10_000], ["0", "5,000", "10,000"]),
        ([-0.25, 0.0, 0.25], ["−0.25", "0.00", "0.25"]),
        ([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"]),
        ([0, 1e6, 2e6], ["0", "10⁶", "2×10⁶"]),
        ([1.00001, 1.00002], ["1.00001", "1.00002"]),
    ],
)
def test_tick_labels(values: list[float], expected: list[str]) -> None:
    assert tick_labels(values) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.012345, "0.0123"), (-1.5, "−1.5"), (19600, "19,600"), (3.2e-7, "3.2×10⁻⁷"), (math.nan, "–")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text
