"""IMPALA's encoder: the width it names, its size, and sides that do not halve."""

from __future__ import annotations

import pytest
import torch

from innerworld.nn.impala import ImpalaEncoder


@pytest.mark.parametrize("size", [(64, 64), (65, 33), (20, 7)])
def test_its_width_is_what_comes_out(size: tuple[int, int]) -> None:
    encoder = ImpalaEncoder(3, size)
    assert encoder(torch.rand(2, 3, *size)).shape == (2, encoder.width)


def test_it_has_the_published_size() -> None:
    """Three stages of 16, 32 and 32 channels, two residual blocks each."""
    encoder = ImpalaEncoder(2, (65, 65))
    assert sum(p.numel() for p in encoder.parameters()) == 97_456 and encoder.width == 2_592
