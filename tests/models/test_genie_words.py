"""Words of a codec: numbers at levels that lie where they do, or entries of its own vocabulary."""

from __future__ import annotations

import torch
from torch import Generator

from innerworld.models.codec import CodecConfig
from innerworld.models.genie_words import Words
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3), "speed": (2,)}, 2)


def test_words_of_numbers_come_back_as_the_nearest_levels() -> None:
    words = Words(CodecConfig(width=4), SPEC, 5)
    clip = random_clip(SPEC, 3, 4)
    words.prepare(clip)
    found = words.look(clip.obs)
    assert found.shape == (3, 5, 4, 4) and words.levels is not None
    tokens = words.codec.look({"pixels": clip.obs["pixels"]})
    apart = (tokens[..., None] - words.levels).abs()  # to every level
    assert torch.equal(found, apart.argmin(dim=-1))
    assert torch.equal(words.tokens(found), words.levels[torch.arange(4), found])


def test_levels_lie_where_numbers_do() -> None:
    """Half of the error of even steps at least, where most numbers are alike, as those of a still background."""
    words = Words(CodecConfig(width=4), SPEC, 8)
    clip = random_clip(SPEC, 8, 8)
    clip.obs["pixels"][torch.rand(clip.obs["pixels"].shape[:2], generator=Generator().manual_seed(0)) < 0.9] = 100
    words.prepare(clip)
    tokens = words.codec.look({"pixels": clip.obs["pixels"]})
    error = (words.tokens(words.look(clip.obs)) - tokens).square().mean()
    low, high = tokens.amin(dim=(0, 1, 2)), tokens.amax(dim=(0, 1, 2))
    step = (high - low) / 7
    even = (((tokens - low) / step).round() * step + low - tokens).square().mean()
    assert error < 0.5 * even


def test_a_vocabulary_has_one_word_for_a_token() -> None:
    kind = CodecConfig.model_validate(
        {
            "kind": "vq",
            "width": 4,
            "vq": {"book": {"codes": 16}, "body": {"dim": 16, "depth": 1, "heads": 2, "mlp": 16}},
        }
    )
    words = Words(kind, SPEC, 5)
    clip = random_clip(SPEC, 2, 3)
    found = words.look(clip.obs)
    assert found.shape == (2, 4, 4, 1) and words.classes == 16 and words.levels is None
    tokens = words.codec.look({"pixels": clip.obs["pixels"]})
    assert torch.allclose(words.tokens(found), tokens, atol=1e-5)
    assert words.show(found[:, 0])["pixels"].shape == (2, 16, 16, 3)
