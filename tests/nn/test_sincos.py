"""Frozen position tables against the published code's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from innerworld.errors import UserError
from innerworld.nn.sincos import resized, sincos_2d, sincos_3d

GOLDEN = json.loads((Path(__file__).parents[1] / "perception" / "golden.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("row", "golden"),
    [
        (sincos_3d(12, 2, 2, 2)[5], GOLDEN["sincos"]["vjepa_3d_dim12_grid2_depth2_uniform"]),
        (sincos_2d(8, 3, 3, "row_first")[5], GOLDEN["sincos"]["vjepa_2d_dim8_grid3"]),
        (sincos_2d(24, 4, 4, "column_first")[5], GOLDEN["ijepa"]["pos_row5"]),
    ],
)
def test_the_tables_are_the_published_ones(row: torch.Tensor, golden: list[float]) -> None:
    torch.testing.assert_close(row, torch.tensor(golden, dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_orders_are_each_others_mirror() -> None:
    rows, columns = sincos_2d(16, 3, 5, "row_first"), sincos_2d(16, 3, 5, "column_first")
    assert torch.equal(rows[:, :8], columns[:, 8:]) and torch.equal(rows[:, 8:], columns[:, :8])
    assert not torch.equal(rows, columns)


def test_three_axes_are_cut_at_the_width() -> None:
    table = sincos_3d(16, 2, 3, 4)
    assert table.shape == (24, 16)
    assert torch.equal(table[0], table[0].round())  # at the origin: zeros and ones


def test_a_table_of_its_own_size_is_itself_and_another_one_is_smooth() -> None:
    table = torch.linspace(0, 1, 4, dtype=torch.float64)[:, None, None].expand(4, 4, 2)
    assert torch.equal(resized(table, 4, 4), table.flatten(0, 1))
    larger = resized(table, 8, 6).unflatten(0, (8, 6))
    assert larger.shape == (8, 6, 2) and bool((larger.diff(dim=0) > 0).all())


def test_odd_widths_are_refused() -> None:
    with pytest.raises(UserError, match="that 4 divides, got 10"):
        sincos_2d(10, 2, 2, "row_first")
