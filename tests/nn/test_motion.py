"""What moves in a patch: squares that are shifted, pictures that stand still, and empty ones."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from innerworld.nn.motion import patch_motion


def film(right: int, down: int) -> Tensor:
    """Two frames `1 2 3 16 16` of soft spots, the second one shifted."""
    noise = torch.rand(1, 1, 3, 16, 16, generator=Generator().manual_seed(0))
    soft = F.avg_pool2d(noise.flatten(0, 1), 5, 1, 2)[:, None]
    return torch.cat([soft, soft.roll((down, right), dims=(-2, -1))], dim=1)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_a_shift_is_found(right: int, down: int) -> None:
    moved = patch_motion(film(right, down), 8)
    assert moved.shape == (1, 2, 4, 2)
    assert torch.allclose(moved[:, 1].mean(dim=1), torch.tensor([[right, down]]).float(), atol=0.3)


def test_nothing_moves_at_the_first_frame_nor_where_all_is_flat_or_still() -> None:
    assert not patch_motion(film(2, 0), 8)[:, 0].any()
    assert not patch_motion(film(0, 0), 8).any()
    flat = torch.cat([torch.zeros(1, 1, 3, 16, 16), torch.ones(1, 1, 3, 16, 16)], dim=1)
    assert not patch_motion(flat, 8).any()


def test_patches_come_rows_first() -> None:
    """What moves in the lower left corner is in the third of four patches."""
    still, moved = film(1, 0).unbind(dim=1)
    moved = torch.cat([still[..., :8, :], torch.cat([moved[..., 8:, :8], still[..., 8:, 8:]], dim=-1)], dim=-2)
    found = patch_motion(torch.stack([still, moved], dim=1), 8)[0, 1].abs().sum(dim=-1)
    assert int(found.argmax()) == 2
