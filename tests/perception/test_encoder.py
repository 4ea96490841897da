"""What all eyes share: impressions of a clip's moments, clips told in frames, the part that can be lent."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.perception import ENCODERS, Encoder, Tokenizer
from innerworld.perception.encoder import FRAMES
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
EYES = [name for name, kind in ENCODERS.items() if not issubclass(kind, Tokenizer)]  # those: test_tokenizer.py


def build(name: str) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[name](ENCODERS[name].presets["tiny"], SPEC).eval()


@pytest.mark.parametrize("name", EYES)
@torch.no_grad()
def test_impressions_are_the_mean_tokens_of_each_frame(name: str) -> None:
    encoder, clip = build(name), random_clip(SPEC, b=5, t=FRAMES // 4)  # of more frames than are seen together
    found = encoder.impressions(clip)
    assert found.shape == (5, FRAMES // 4 + 1, 96)
    for b, t in ((0, 0), (4, FRAMES // 4), (3, 7)):
        alone = encoder.encode({"pixels": clip.obs["pixels"][b : b + 1, t]}).mean(dim=1)[0]
        torch.testing.assert_close(found[b, t], alone)


def test_clips_are_told_in_frames() -> None:
    assert Encoder.actions_in(16) == 15
    with pytest.raises(UserError, match="2 frames or more"):
        Encoder.actions_in(1)


@pytest.mark.parametrize("name", EYES)
@torch.no_grad()
def test_what_is_lent_sees_what_encode_sees(name: str) -> None:
    encoder, frames = build(name), random_clip(SPEC, b=2, t=1).at(0)
    vit, sight = encoder.vision()
    assert sight.pixels == "centred" and vit.config.dim == 96
    picture = 2 * (frames["pixels"].permute(0, 3, 1, 2) / 255) - 1
    torch.testing.assert_close(vit(picture)[:, vit.prefix :], encoder.encode(frames))
    learning = encoder.vision(learning=True)[0]
    assert all(value.requires_grad for value in learning.parameters())
    assert learning is encoder.get_submodule("online")


def test_eyes_that_have_nothing_to_lend_say_so() -> None:
    with pytest.raises(UserError, match="has no vision transformer to lend"):
        Encoder.vision(build("ijepa"))
