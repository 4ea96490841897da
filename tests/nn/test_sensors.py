"""Pictures there and back, and numbers squeezed and stretched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from innerworld.nn.sensors import image_in, image_out, symexp, symlog, to_uint8

FRAMES = torch.randint(0, 256, (2, 8, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_channels_come_first_and_values_lie_in_0_1() -> None:
    x = image_in(FRAMES)
    assert x.shape == (2, 3, 8, 6) and x.dtype == torch.float32 and x.is_contiguous()
    torch.testing.assert_close(x[1, 2, 5, 4], FRAMES[1, 5, 4, 2] / 255)


def test_a_picture_survives_there_and_back() -> None:
    assert torch.equal(to_uint8(image_out(image_in(FRAMES), (8, 6, 3))), FRAMES)


def test_floats_are_taken_as_they_are_and_leading_axes_are_merged() -> None:
    clip = torch.rand(2, 5, 8, 6, 3)
    torch.testing.assert_close(image_in(clip)[7], clip[1, 2].permute(2, 0, 1))


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_shrinking_is_by_area(size: int) -> None:
    grey = torch.full((1, 12, 12, 1), 100, dtype=torch.uint8)
    torch.testing.assert_close(image_in(grey, size), torch.full((1, 1, size, size), 100 / 255))
    frames = torch.rand(3, 12, 12, 1, generator=torch.Generator().manual_seed(0))
    assert image_in(frames, size).shape == (3, 1, size, size)
    torch.testing.assert_close(image_in(frames, size).mean(), frames.mean(), atol=0.02, rtol=0)


def test_halving_averages_two_by_two() -> None:
    small = image_in(FRAMES[:, :6], 3)
    expected = FRAMES[1, 2:4, 4:6, 0].float().mean() / 255
    torch.testing.assert_close(small[1, 0, 1, 2], expected)


def test_enlarging_repeats() -> None:
    small = torch.tensor([[[[0.0, 1.0]]]])
    assert image_out(small, (2, 4, 1))[0, :, :, 0].tolist() == [[0, 0, 1, 1]] * 2


def test_to_uint8_rounds_and_clips() -> None:
    assert to_uint8(torch.tensor([-0.5, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0])).tolist() == [0, 0, 0, 1, 255, 255]


@given(st.floats(-1e6, 1e6))
def test_symexp_undoes_symlog(value: float) -> None:
    x = torch.tensor(value, dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(symlog(-x), -symlog(x))


def test_symlog_is_its_formula() -> None:
    assert symlog(torch.tensor([0.0, 1.0, -9.0])).tolist() == pytest.approx([0, 0.6931472, -2.3025851])
