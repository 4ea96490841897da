"""PCA of patches: the closed form against the definition, one basis for the same data, and what training keeps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.perception.pca import GREY_LEVEL, PCA, PCAConfig, principal
from innerworld.perception.tokenizer import cut, paste
from innerworld.types import Clip, Spec


def scene(b: int = 6, t: int = 3, side: int = 16, c: int = 3) -> Clip:
    """A bright square at random places of a grey ground."""
    rng = torch.Generator().manual_seed(0)
    frames = torch.full((b, t, side, side, c), 60, dtype=torch.uint8)
    for i in range(b):
        for j in range(t):
            y, x = torch.randint(side - 4, (2,), generator=rng).tolist()
            frames[i, j, y : y + 4, x : x + 4] = torch.randint(100, 255, (c,), generator=rng, dtype=torch.uint8)
    return Clip({"pixels": frames}, torch.zeros(b, t - 1, 1), torch.zeros(b, t - 1), torch.zeros(b, t - 1))


def made(width: int = 16, c: int = 3, patch: int = 8) -> PCA:
    return PCA(PCAConfig(width=width, patch=patch), Spec({"pixels": (16, 16, c)}, 1)).eval()


def error(model: PCA, clip: Clip) -> float:
    x = model.pictures(clip.obs["pixels"])
    return float((model.paint(model.code(x)) - x).square().mean().detach())


def test_main_directions_are_those_of_the_covariance() -> None:
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 6, generator=rng) @ torch.diag(torch.tensor([3.0, 1.0, 2.0, 0.1, 0.5, 0.0])) + 5
    basis, mean, scale = principal(rows, 5)
    values = torch.linalg.svdvals(rows.double() - rows.double().mean(dim=0)) / math.sqrt(500)
    torch.testing.assert_close(scale, values[:5].float())
    torch.testing.assert_close(mean, rows.mean(dim=0))
    torch.testing.assert_close(basis @ basis.mT, torch.eye(5), atol=1e-5, rtol=0)
    assert basis[0].abs().argmax() == 0 and bool((basis.gather(1, basis.abs().argmax(1, keepdim=True)) > 0).all())


def test_the_same_rows_in_another_order_give_the_same_directions() -> None:
    rows = torch.rand(300, 12, generator=torch.Generator().manual_seed(1))
    for one, two in zip(principal(rows, 4), principal(rows.flip(0), 4), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_what_hardly_varies_is_not_blown_up() -> None:
    _, _, scale = principal(torch.full((50, 4), 0.3), 2)
    torch.testing.assert_close(scale, torch.full((2,), GREY_LEVEL))


def test_before_any_data_a_cosine_basis_is_orthonormal_and_complete() -> None:
    model = made(width=192)
    torch.testing.assert_close(model.basis @ model.basis.mT, torch.eye(192), atol=1e-5, rtol=0)
    assert error(model, scene()) < 1e-10
    flat = torch.full((1, 3, 16, 16), 0.7)
    torch.testing.assert_close(made(width=1).paint(made(width=1).code(flat)), flat)  # the first wave is the mean


@pytest.mark.parametrize("c", [1, 3])
def test_prepared_it_beats_the_cosines_and_its_tokens_have_unit_variance(c: int) -> None:
    clip, model = scene(c=c), made(c=c)
    before = error(model, clip)
    model.prepare(clip)
    assert error(model, clip) < 0.6 * before
    tokens = model.encode({"pixels": clip.obs["pixels"].flatten(0, 1)}).flatten(0, 1)
    covariance = tokens.mT.cov(correction=0)
    alive = model.scale > 2 * GREY_LEVEL
    torch.testing.assert_close(covariance[alive][:, alive], torch.eye(int(alive.sum())), atol=1e-2, rtol=0)
    torch.testing.assert_close(tokens.mean(dim=0), torch.zeros(16), atol=1e-3, rtol=0)


def test_no_sixteen_directions_do_better_than_those_found() -> None:
    clip, model = scene(), made()
    model.prepare(clip)
    x = model.pictures(clip.obs["pixels"])
    patches = cut(x, 8).flatten(0, 1)
    left = torch.linalg.svdvals(patches - patches.mean(dim=0))[16:].square().sum() / patches.numel()
    assert error(model, clip) == pytest.approx(float(left), rel=1e-3)


def test_patches_are_cut_and_pasted() -> None:
    x = torch.rand(2, 3, 8, 12)
    patches = cut(x, 4)
    assert patches.shape == (2, 6, 48)
    assert torch.equal(paste(patches, (2, 3), 4), x)
    assert torch.equal(patches[1, 4].view(3, 4, 4), x[1, :, 4:8, 4:8])  # rows first


def test_training_keeps_the_directions_orthonormal_and_comes_to_the_closed_form() -> None:
    clip, best = scene(), made()
    best.prepare(clip)
    model = made().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss, parts = model.loss(clip)
        assert parts.keys() == {"pixels"}
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.after_step()
    torch.testing.assert_close(model.basis @ model.basis.mT, torch.eye(16), atol=1e-4, rtol=0)
    assert error(model, clip) < 1.2 * error(best, clip)
    spread: Tensor = model.encode({"pixels": clip.obs["pixels"].flatten(0, 1)}).flatten(0, 1).std(dim=0)
    assert bool((spread < 3).all())  # the deviations followed


def test_more_directions_than_numbers_are_refused() -> None:
    with pytest.raises(UserError, match=r"a patch of 2×2×1 has 4 numbers, not 16 directions: choose width=4"):
        made(c=1, patch=2)
