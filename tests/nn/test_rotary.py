"""Rotary positions against the published code's numbers, and against what a rotation must keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from innerworld.errors import UserError
from innerworld.nn.rotary import Pairing, grid_positions, rotate, turn

GOLDEN = json.loads((Path(__file__).parents[1] / "perception" / "golden.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("pairing", "entry"),
    [("vjepa2", "rope_tile_vjepa2"), ("standard", "rope_interleave_vjepa21_and_standard")],
)
def test_one_axis_is_the_published_one(pairing: Pairing, entry: str) -> None:
    x = torch.sin(0.37 * torch.arange(1, 33, dtype=torch.float64)).reshape(1, 1, 4, 8)
    position = torch.tensor([0, 1, 2, 5])[:, None]  # s 1
    found = rotate(x, turn(position, 8, pairing, torch.float64)).flatten()
    torch.testing.assert_close(found, torch.tensor(GOLDEN[entry], dtype=torch.float64), rtol=0, atol=1e-9)


def test_positions_are_time_row_and_column_time_first() -> None:
    assert grid_positions(2, 2, 3)[[0, 1, 3, 6, 11]].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 2]]


def test_a_standard_turn_keeps_lengths_and_sees_only_distances() -> None:
    q, k = torch.randn(2, 1, 1, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def score(at: list[int], other: list[int]) -> torch.Tensor:
        turned = [
            rotate(x[None], turn(torch.tensor([p]), 32, "standard", torch.float64)) for x, p in ((q, at), (k, other))
        ]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score([1, 2, 3], [4, 4, 0]), score([3, 7, 5], [6, 9, 2]))
    assert not torch.allclose(score([1, 2, 3], [4, 4, 0]), score([1, 2, 3], [4, 5, 0]))
    assert rotate(q[None], turn(torch.tensor([[5, 6, 7]]), 32, "standard", torch.float64)).norm() == pytest.approx(
        q.norm()
    )


def test_channels_that_three_axes_cannot_share_do_not_turn() -> None:
    x = torch.randn(1, 1, 4, 64)
    found = rotate(x, turn(grid_positions(1, 2, 2) + 3, 64, "vjepa2"))
    assert torch.equal(found[..., 60:], x[..., 60:]) and not torch.allclose(found[..., :60], x[..., :60])


def test_rows_may_have_places_of_their_own() -> None:
    x, place = torch.randn(2, 3, 4, 24), torch.randint(0, 5, (2, 4, 3))
    found = rotate(x, turn(place, 24, "standard"))
    for b in range(2):
        torch.testing.assert_close(found[b : b + 1], rotate(x[b : b + 1], turn(place[b], 24, "standard")))


def test_bfloat16_stays_bfloat16() -> None:
    assert (
        rotate(torch.ones(1, 1, 4, 12, dtype=torch.bfloat16), turn(grid_positions(1, 2, 2), 12, "vjepa2")).dtype
        == torch.bfloat16
    )


def test_narrow_heads_are_refused() -> None:
    with pytest.raises(UserError, match="heads of 12 channels or more, got 8"):
        turn(grid_positions(1, 2, 2), 8, "standard")
