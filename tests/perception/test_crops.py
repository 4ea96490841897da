"""Random windows and colours."""

from __future__ import annotations

import torch
from torch import Generator
from torch.nn import functional as F

from innerworld.perception.crops import jitter, random_crop


def test_the_whole_is_the_whole() -> None:
    x = torch.rand(2, 3, 12, 16)
    whole = {"scale": (1.0, 1.0), "aspect": (16 / 12, 16 / 12), "flip": False}
    torch.testing.assert_close(random_crop(x, (12, 16), **whole), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(random_crop(x, (6, 8), **whole), F.avg_pool2d(x, 2), atol=1e-5, rtol=0)


def test_windows_differ_between_rows_not_between_frames_and_cover_their_share() -> None:
    ramp = torch.linspace(0, 1, 32).expand(8, 1, 3, 32, 32).contiguous()
    found = random_crop(
        ramp, (16, 16), scale=(0.25, 0.25), aspect=(1.0, 1.0), flip=False, rng=Generator().manual_seed(0)
    )
    assert found.shape == (8, 1, 3, 16, 16)
    torch.testing.assert_close(found[:, :, 0], found[:, :, 2])
    width = found[:, 0, 0, 0, -1] - found[:, 0, 0, 0, 0]
    torch.testing.assert_close(width, torch.full_like(width, 0.5 * 15 / 16 * 32 / 31), atol=1e-3, rtol=0)
    assert found[:, 0, 0, 0, 0].std() > 0.05


def test_half_are_mirrored() -> None:
    ramp = torch.linspace(0, 1, 8).expand(200, 1, 8, 8).contiguous()
    found = random_crop(ramp, (8, 8), (1.0, 1.0), (1.0, 1.0), rng=Generator().manual_seed(0))
    assert 0.35 < (found[:, 0, 0, 0] > 0.5).float().mean() < 0.65


def test_colours() -> None:
    x = torch.rand(64, 3, 4, 4)
    assert torch.equal(jitter(x, strength=0.0, gray=0.0), x.clamp(0, 1)) or torch.allclose(
        jitter(x, 0.0, 0.0), x, atol=1e-6
    )
    pale = jitter(x, 0.0, 1.0)
    torch.testing.assert_close(pale[:, 0], pale[:, 2])
    found = jitter(x, 0.4, 0.2, Generator().manual_seed(0))
    assert float(found.min()) >= 0 and float(found.max()) <= 1 and not torch.allclose(found, x)
