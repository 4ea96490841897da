"""Edges: one step of brightness, its contrast on both sides of it, whatever the channel; borders are none."""

from __future__ import annotations

import torch

from innerworld.nn.edges import edges


def test_a_step_has_its_contrast_on_both_sides() -> None:
    frames = torch.zeros(2, 3, 6, 8, 3)
    frames[:, :, :, 4:, 1] = 0.5  # green only
    found = edges(frames)
    assert found.shape == (2, 3, 6, 8, 1)
    wanted = torch.zeros(6, 8)
    wanted[:, 3:5] = 0.5
    assert torch.allclose(found, wanted[:, :, None].expand_as(found), atol=1e-6)
    assert torch.equal(edges(frames.transpose(2, 3)), found.transpose(2, 3))


def test_a_threshold_makes_it_yes_or_no_and_bytes_are_as_floats() -> None:
    frames = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    contrast = edges(frames)
    assert float(contrast.min()) > 0 and float(contrast.max()) <= 1
    assert torch.equal(edges(frames, 0.4), (contrast > 0.4).float())
    assert torch.allclose(edges(frames.float() / 255), contrast, atol=1e-6)


def test_a_corner_counts_once_at_most() -> None:
    frames = torch.zeros(1, 6, 6, 1)
    frames[:, 3:, 3:] = 1
    assert float(edges(frames).max()) == 1.0
    assert not edges(torch.full((1, 6, 6, 1), 200, dtype=torch.uint8)).any()
