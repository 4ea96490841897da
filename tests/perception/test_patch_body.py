"""The two halves of a learned tokenizer: they begin as PCA and least squares, and their patches see each other."""

from __future__ import annotations

import pytest
import torch

from innerworld.perception.patch_body import BodyConfig, PatchBody
from innerworld.perception.pca import principal

BODY = BodyConfig(dim=16, depth=1, heads=2, mlp=16)


def made(width: int = 48, **change: object) -> PatchBody:
    torch.manual_seed(0)
    return PatchBody(BODY.model_copy(update=change), channels=3, patch=4, grid=(2, 3), width=width)


def pictures(b: int = 40) -> torch.Tensor:
    return torch.rand(b, 3, 8, 12, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_way_in_begins_at_the_main_directions() -> None:
    body, x = made(width=6), pictures()
    body.begin_seeing(x, deviation=0.5)
    rows = body(x).flatten(0, 1)
    torch.testing.assert_close(rows.std(dim=0, correction=0), torch.full((6,), 0.5), atol=1e-3, rtol=0)
    basis, mean, scale = principal(body.patches(x).flatten(0, 1), 6)
    torch.testing.assert_close(rows, 0.5 * (body.patches(x).flatten(0, 1) - mean) @ basis.mT / scale, atol=1e-4, rtol=0)
    body.begin_seeing(x, deviation=1.0, each=False)
    rows = body(x).flatten(0, 1)
    assert float(rows.square().mean()) == pytest.approx(1, abs=1e-3) and rows.std(dim=0)[0] > rows.std(dim=0)[-1]


@torch.no_grad()
def test_the_way_back_begins_at_the_least_squares() -> None:
    whole, x = made(), pictures()
    whole.begin_seeing(x, 1.0)
    whole.begin_drawing(whole(x), x)
    torch.testing.assert_close(whole.paint(whole(x)), x, atol=1e-3, rtol=0)  # as many numbers as a patch has
    blind, nothing = made(width=2), torch.zeros(40, 6, 2)
    blind.begin_drawing(nothing, x)
    mean = blind.patches(x).mean(dim=(0, 1))
    torch.testing.assert_close(blind.draw(nothing)[0, 0], mean, atol=1e-4, rtol=0)  # they tell nothing


@torch.no_grad()
def test_a_token_may_have_more_numbers_than_a_patch() -> None:
    body, x = made(width=60), pictures()
    body.begin_seeing(x, 1.0)
    assert not body(x)[..., 48:].any()
    body.begin_drawing(body(x), x)
    torch.testing.assert_close(body.paint(body(x)), x, atol=1e-3, rtol=0)


@torch.no_grad()
def test_patches_of_a_picture_see_each_other_and_no_others() -> None:
    body, x = made(width=4, begin="random"), pictures(2)
    before, other = body(x), x.clone()
    other[0, :, :4, :4] = 0
    after = body(other)
    assert bool((before[0] != after[0]).any(dim=-1).all()) and torch.equal(before[1], after[1])
