"""PSNR and SSIM against their definitions, and drift parted into what the codec loses and what time does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Generator, Tensor

from innerworld.evaluate.pictures import Drift, drift, likeness, psnr, ssim


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=Generator().manual_seed(seed)).to(torch.uint8)


def test_psnr_is_its_definition() -> None:
    a, b = noise(3, 2, 8, 6, 3), noise(3, 2, 8, 6, 3, seed=1)
    error = ((a.numpy().astype(float) - b.numpy()) ** 2).mean((2, 3, 4))
    np.testing.assert_allclose(psnr(a, b), 10 * np.log10(255**2 / error), rtol=1e-5)
    off = torch.full((1, 4, 4, 1), 100).to(torch.uint8)
    assert psnr(off, off + 1).item() == pytest.approx(20 * math.log10(255), rel=1e-5)
    assert psnr(off, off).item() == pytest.approx(10 * math.log10(12 * 255**2), rel=1e-5)  # 58.9: what 8 bits tell


def by_hand(a: np.ndarray, b: np.ndarray, side: int = 11) -> float:
    """Wang et al.'s index, patch by patch: `y x` floats in [0, 1]."""
    i = np.arange(side) - (side - 1) / 2
    weight = np.exp(-(i[:, None] ** 2 + i[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    found = []
    for y in range(a.shape[0] - side + 1):
        for x in range(a.shape[1] - side + 1):
            p, q = a[y : y + side, x : x + side], b[y : y + side, x : x + side]
            mp, mq = (weight * p).sum(), (weight * q).sum()
            vp, vq = (weight * (p - mp) ** 2).sum(), (weight * (q - mq) ** 2).sum()
            both = (weight * (p - mp) * (q - mq)).sum()
            found.append(
                (2 * mp * mq + 0.01**2) * (2 * both + 0.03**2) / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2))
            )
    return float(np.mean(found))


@pytest.mark.parametrize(("shape", "side"), [((16, 14), 11), ((11, 20), 11), ((8, 12), 7), ((5, 5), 5)])
def test_ssim_is_its_definition(shape: tuple[int, int], side: int) -> None:
    a = noise(2, 3, *shape, 3)
    b = (0.6 * a + 0.4 * noise(2, 3, *shape, 3, seed=1)).to(torch.uint8)
    found = ssim(a, b)
    assert found.shape == (2, 3)
    for i, j in ((0, 0), (1, 2)):
        p, q = (picture[i, j].numpy() / 255 for picture in (a, b))
        assert found[i, j].item() == pytest.approx(
            np.mean([by_hand(p[..., c], q[..., c], side) for c in range(3)]), abs=1e-5
        )


def test_ssim_is_that_of_scikit_image() -> None:
    a = noise(1, 32, 32, 3)
    b = (0.7 * a + 0.3 * noise(1, 32, 32, 3, seed=1)).to(torch.uint8)
    _, whole = structural_similarity(
        a[0].numpy(), b[0].numpy(), channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=255, full=True,
    )  # fmt: skip
    assert ssim(a, b).item() == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-4)


def test_equal_pictures_are_1_and_structure_counts_more_than_light() -> None:
    a = noise(1, 16, 16, 3) // 2
    assert ssim(a, a).item() == pytest.approx(1, abs=1e-5)
    assert ssim(a, a + 10).item() > 0.9 > 0.3 > ssim(a, noise(1, 16, 16, 3, seed=1) // 2).item()


def test_drift_is_parted_from_the_codec() -> None:
    true = noise(4, 5, 8, 8, 3) // 2 + 60
    codec = true + 8  # loses as much of every frame
    shown = codec + torch.arange(5).to(torch.uint8)[None, :, None, None, None]  # and is farther off with every step
    found = drift(shown, codec, true, true[:, 0])
    assert isinstance(found, Drift) and found.psnr.shape == (4, 5)
    db = lambda off: pytest.approx(20 * math.log10(255 / off), rel=1e-4)
    metrics = found.metrics([1, 3, 5])
    assert (metrics["psnr_1"], metrics["psnr_3"], metrics["psnr_5"]) == (db(8), db(10), db(12))
    assert (metrics["psnr_codec"], metrics["psnr_to_codec_5"]) == (db(8), db(4))
    assert metrics["psnr_still_1"] == pytest.approx(10 * math.log10(12 * 255**2), rel=1e-4)
    assert metrics["psnr_still_5"] < metrics["psnr_5"] and metrics["psnr_5_low"] <= metrics["psnr_5"]
    like = likeness(shown, true, true[:, 0], [5])
    assert like.keys() == {f"ssim{who}_5{end}" for who in ("", "_still") for end in ("", "_low", "_high")}
    assert like["ssim_still_5"] < like["ssim_5"] <= 1
