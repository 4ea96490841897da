"""The vision transformer: sizes as published, any picture or film, only the tokens that are asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from innerworld.errors import UserError
from innerworld.nn.vision import SIZES, VisionTransformer, ViTConfig, sized

SMALL: dict[str, Any] = {"dim": 48, "depth": 2, "heads": 2, "mlp": 96, "patch": 8}


def count(module: nn.Module) -> float:
    return sum(value.numel() for value in module.parameters()) / 1e6


@pytest.mark.parametrize(
    ("size", "millions"),
    # V-JEPA 2's table says 631.7 for "huge"; it is 631,648,000.
    [("tiny", 5.63), ("small", 21.88), ("base", 86.24), ("large", 303.9), ("huge", 631.648), ("giant22", 1012.2)],
)
def test_vjepa2_sizes(size: str, millions: float) -> None:
    with torch.device("meta"):
        vit = VisionTransformer(sized(size, patch=16, tubelet=2))
    digits = len(str(millions).partition(".")[2])
    assert round(count(vit), digits) == millions


@pytest.mark.parametrize(("size", "millions"), [("base", 85.7), ("large", 303.2), ("huge", 630.8)])
def test_ijepa_sizes_with_patches_of_14(size: str, millions: float) -> None:
    """Published counts include the frozen position table, which is computed here."""
    with torch.device("meta"):
        vit = VisionTransformer(sized(size, patch=14, positions="sincos_2d"))
    assert round(count(vit) + 16 * 16 * SIZES[size].dim / 1e6, 1) == millions


KINDS: list[dict[str, Any]] = [
    {"tubelet": 2},
    {"tubelet": 2, "pairing": "vjepa2"},
    {"tubelet": 2, "rope_grid": 16, "image_patch": True, "levels": (0, 1)},
    {"tubelet": 2, "positions": "sincos_3d"},
    {"positions": "sincos_2d"},
    {"positions": "table", "table": (3, 3), "class_token": True, "registers": 2, "layer_scale": 0.1, "gated": True},
    {"class_token": True, "registers": 1},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 3, 16, 24), (2, 3, 4, 16, 24), (2, 3, 6, 24, 8)])
def test_any_size_and_only_what_is_asked_for(kind: dict[str, Any], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(ViTConfig(**SMALL, **kind)).eval()
    x = torch.randn(shape)
    t, h, w = vit.grid(x)
    tokens = vit(x)
    assert tokens.shape == (2, vit.prefix + t * h * w, 48 * len(vit.levels))
    everything = torch.stack([torch.randperm(t * h * w) for _ in range(2)])
    shuffled = vit(x, everything)
    rows = torch.arange(2)[:, None]
    torch.testing.assert_close(shuffled[:, vit.prefix :], tokens[:, vit.prefix :][rows, everything])
    assert vit(x, everything[:, :3]).shape[1] == vit.prefix + 3


def test_hidden_tokens_are_never_computed() -> None:
    vit = VisionTransformer(ViTConfig(**SMALL, tubelet=2))
    x, keep = torch.randn(1, 3, 4, 16, 16), torch.tensor([[0, 5]])
    before = vit(x, keep)
    blind = torch.full_like(x, float("nan"))
    blind[:, :, :2, :8, :8], blind[:, :, 2:, :8, 8:] = x[:, :, :2, :8, :8], x[:, :, 2:, :8, 8:]
    assert torch.equal(vit(blind, keep), before)
    seen: list[int] = []
    for block in vit.blocks:
        block.register_forward_hook(lambda module, given, out: seen.append(out.shape[1]))
    vit(x, keep)
    assert seen == [2, 2]


def test_place_matters_and_a_stretched_grid_has_its_ends_in_place() -> None:
    x = torch.ones(1, 3, 32, 32)
    assert VisionTransformer(ViTConfig(**SMALL))(x).std(dim=1).max() < 1e-5  # rotary: equal tokens stay equal
    assert VisionTransformer(ViTConfig(**SMALL, positions="sincos_2d"))(x).std(dim=1).max() > 0.1
    torch.manual_seed(0)
    vit = VisionTransformer(ViTConfig(**SMALL, rope_grid=8))
    small, large = torch.randn(1, 3, 16, 16), torch.zeros(1, 3, 64, 64)
    for y in range(2):
        for z in range(2):
            patch = small[..., 8 * y : 8 * y + 8, 8 * z : 8 * z + 8]
            large[..., 56 * y : 56 * y + 8, 56 * z : 56 * z + 8] = patch
    corners = torch.tensor([[0, 7, 56, 63]])
    torch.testing.assert_close(vit(large, corners), vit(small))


def test_pictures_and_films_are_marked_where_they_have_embeddings_of_their_own() -> None:
    vit = VisionTransformer(ViTConfig(**SMALL, tubelet=2, image_patch=True))
    picture = torch.randn(1, 3, 16, 16)
    assert vit(picture).shape == (1, 4, 48)
    film = picture[:, :, None].expand(-1, -1, 2, -1, -1)
    assert not torch.allclose(vit(picture), vit(film))
    still = VisionTransformer(ViTConfig(**SMALL, tubelet=2))
    torch.testing.assert_close(still(picture), still(film))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"heads": 6}, "heads of 12 channels or more, got 8"),
        ({"heads": 5}, "a width of 48 cannot be shared by 5 heads"),
        ({"levels": (0, 2)}, r"levels \[0, 2\] are not blocks of a ViT of depth 2"),
    ],
)
def test_what_cannot_be_built_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        VisionTransformer(ViTConfig(**(SMALL | change)))


def test_what_is_neither_picture_nor_film_is_refused() -> None:
    with pytest.raises(UserError, match=r"pictures \(b, c, y, x\) or films"):
        VisionTransformer(ViTConfig(**SMALL))(torch.zeros(3, 16, 16))
