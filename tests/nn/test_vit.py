"""The vision transformer: the published size, and what it must and must not notice."""

from __future__ import annotations

import torch

from innerworld.nn.vit import ViT


def test_the_tiny_one_has_the_published_size() -> None:
    with torch.device("meta"):
        model = ViT(channels=3, size=224, patch=14, dim=192, depth=12, heads=3)
    assert sum(p.numel() for p in model.parameters()) == 5_501_376  # ViT-tiny/14 without head, 16² patches + class


def test_it_gives_one_vector_for_each_picture() -> None:
    torch.manual_seed(0)
    model = ViT(channels=1, size=8, patch=4, dim=12, depth=2, heads=3).eval()
    x = torch.rand(3, 1, 8, 8)
    out = model(x)
    assert out.shape == (3, 12)
    torch.testing.assert_close(model(x[1:2]), out[1:2])
    torch.testing.assert_close(out.mean(dim=-1), torch.zeros(3), atol=1e-5, rtol=0)  # the last norm


def test_it_knows_where_a_patch_is() -> None:
    torch.manual_seed(0)
    model = ViT(channels=1, size=8, patch=4, dim=12, depth=2, heads=3).eval()
    x = torch.rand(1, 1, 8, 8)
    swapped = torch.cat([x[..., 4:, :], x[..., :4, :]], dim=-2)
    assert (model(x) - model(swapped)).abs().max() > 1e-5
    torch.nn.init.zeros_(model.position)  # without positions the order of the patches is lost
    torch.testing.assert_close(model(x), model(swapped))
