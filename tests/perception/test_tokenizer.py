"""What all tokenizers share: a grid of tokens and back, sizes that are refused, impressions that tell where."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.perception import ENCODERS, PCA, Tokenizer
from innerworld.perception.sight import SightConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

TOKENIZERS = [name for name, kind in ENCODERS.items() if issubclass(kind, Tokenizer)]
SPEC = Spec({"pixels": (16, 24, 3), "speed": (2,)}, 2)


def build(name: str, spec: Spec = SPEC, **change: object) -> Tokenizer:
    torch.manual_seed(0)
    kind = ENCODERS[name]
    made = kind(kind.presets["tiny"].model_copy(update=change), spec)
    assert isinstance(made, Tokenizer)
    return made.eval()


def test_they_are_registered() -> None:
    assert TOKENIZERS == ["pca", "vq", "fsq", "mae"]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@torch.no_grad()
def test_a_picture_becomes_tokens_and_comes_back(name: str, channels: int) -> None:
    spec = Spec({"pixels": (16, 24, channels)}, 2)
    model, clip = build(name, spec), random_clip(spec, b=3, t=2)
    model.prepare(clip)
    tokens = model.encode(clip.at(0))
    y, x = model.grid
    assert (y * model.patch, x * model.patch) == (16, 24) and tokens.shape == (3, y * x, model.width)
    shown = model.decode(tokens)
    assert shown.keys() == {"pixels"} and shown["pixels"].shape == (3, 16, 24, channels)
    assert shown["pixels"].is_floating_point() and shown["pixels"].min() >= 0 and shown["pixels"].max() <= 1


@pytest.mark.parametrize("name", TOKENIZERS)
@torch.no_grad()
def test_seen_smaller_it_is_drawn_at_the_sensors_size(name: str) -> None:
    spec = Spec({"pixels": (30, 40, 3)}, 2)
    model = build(name, spec, sight=SightConfig(size=16))
    assert model.grid[0] == model.grid[1] == 16 // model.patch
    assert model.decode(model.encode(random_clip(spec, b=2, t=1).at(0)))["pixels"].shape == (2, 30, 40, 3)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_patches_do_not_tile_is_refused(name: str) -> None:
    with pytest.raises(
        UserError, match=r"a picture of 18×24 cannot be cut into patches of \d: choose a patch that div"
    ):
        build(name, Spec({"pixels": (18, 24, 3)}, 2))


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 24, 1)])
def test_other_sizes_and_channels_are_refused(shape: tuple[int, ...]) -> None:
    model, other = build("pca"), random_clip(Spec({"pixels": shape}, 2), b=1, t=1)
    found = "×".join(map(str, shape))
    for ask in (lambda: model.encode(other.at(0)), lambda: model.loss(other), lambda: model.prepare(other)):
        with pytest.raises(UserError, match=rf"'pixels' is {found} \(y, x, channels\), .* made for 16×24×3: resize"):
            ask()


def test_one_picture_sensor_each() -> None:
    with pytest.raises(UserError, match=r"name one as sight\.sensor"):
        build("pca", Spec({"one": (16, 16, 3), "two": (16, 16, 3)}, 1))
    with pytest.raises(UserError, match=r"leave sight\.pixels out"):
        build("pca", sight=SightConfig(pixels="imagenet"))


@pytest.mark.parametrize("name", ["pca", "mae"])
def test_continuous_tokens_have_no_indices(name: str) -> None:
    model = build(name)
    with pytest.raises(UserError, match="are continuous, they have no indices: choose vq or fsq"):
        model.indices(torch.zeros(1, 6, model.width))


@torch.no_grad()
def test_impressions_tell_where_things_are() -> None:
    model, clip = build("pca"), random_clip(SPEC, b=2, t=1)
    found = model.impressions(clip)
    assert found.shape == (2, 2, 6 * 32)
    clip.obs["pixels"][:, :, :8, :8], clip.obs["pixels"][:, :, 8:, 8:16] = (
        clip.obs["pixels"][:, :, 8:, 8:16].clone(),
        clip.obs["pixels"][:, :, :8, :8].clone(),
    )
    assert not torch.allclose(model.impressions(clip), found)  # a mean of tokens would be the same


def test_a_tokenizer_lends_no_eyes() -> None:
    with pytest.raises(UserError, match=r"PCA is a tokenizer and lends no eyes: .* codec\.checkpoint"):
        build("pca").vision()


def test_all_frames_count_in_the_loss_and_actions_do_not() -> None:
    model, clip = build("pca"), random_clip(SPEC, b=2, t=3)
    x = model.pictures(clip.obs["pixels"])
    assert isinstance(model, PCA) and x.shape == (8, 3, 16, 24)
    torch.testing.assert_close(model.loss(clip)[0], (model.paint(model.code(x)) - x).square().mean())
