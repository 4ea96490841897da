"""Tokens in a store carry the fingerprint of the eyes that made them, and nobody takes those of others."""

from __future__ import annotations

import pytest
import torch

from innerworld.errors import UserError
from innerworld.models.eyes import BorrowConfig, BorrowedEyes, borrow
from innerworld.models.tokens import fingerprint, look, stored_as, to_read
from innerworld.nn.vision import VisionTransformer, ViTConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Spec

VIT = ViTConfig(dim=24, depth=1, heads=2, mlp=32, patch=8)
SPEC = Spec({"pixels": (16, 16, 3), "speed": (3,)}, 2)
OWN, OTHERS = "0123456789ab", "ba9876543210"


def vit(seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    return VisionTransformer(VIT)


def eyes(print_of_them: str = OWN) -> BorrowedEyes:
    torch.manual_seed(0)
    return borrow(BorrowConfig(vit=VIT, fingerprint=print_of_them), SPEC, None)[1][0]


def test_a_fingerprint_tells_eyes_apart() -> None:
    own = fingerprint(vit(), 16, "centred")
    assert own == fingerprint(vit(), 16, "centred") and len(own) == 12 and int(own, 16) >= 0
    slightly = vit()
    with torch.no_grad():
        next(slightly.parameters()).view(-1)[0] += 1e-6
    others = [
        fingerprint(vit(1), 16, "centred"),
        fingerprint(vit(), 24, "centred"),
        fingerprint(vit(), None, "centred"),
        fingerprint(vit(), 16, "imagenet"),
        fingerprint(slightly, 16, "centred"),
    ]
    assert len({own, *others}) == 6


def test_what_is_ready_is_taken_and_what_is_not_is_looked_at() -> None:
    clip, own = random_clip(SPEC, 2, 70), eyes()  # more frames than are looked at together
    seen = look(own, clip.obs, "pixels")
    assert seen.shape == (2, 71, 4, 24)
    torch.testing.assert_close(seen[1, 50:51], look(own, clip.rows(slice(1, 2)).at(50), "pixels"))
    ready = torch.randn(2, 71, 4, 24).half()
    obs = {stored_as("pixels", OWN): ready}  # no pixels at all
    found = look(own, obs, "pixels")
    assert found.dtype == torch.float32 and torch.equal(found, ready.float())
    torch.testing.assert_close(look(own, clip.obs | {stored_as("pixels", OTHERS): ready}, "pixels"), seen)


def test_clips_carry_tokens_instead_of_images_where_there_are_some() -> None:
    store = Spec({**SPEC.obs, f"pixels@{OWN}": (4, 24)}, 2)
    assert to_read(SPEC, store, OWN) == [f"pixels@{OWN}", "speed"]
    assert to_read(SPEC, store, OWN, pixels=True) == [f"pixels@{OWN}", "pixels", "speed"]
    assert to_read(SPEC, SPEC, OWN) == ["pixels", "speed"]
    both = Spec({**store.obs, f"pixels@{OTHERS}": (9, 24)}, 2)
    assert to_read(SPEC, both, OTHERS) == [f"pixels@{OTHERS}", "speed"]
    touch = Spec({**SPEC.obs, f"touch@{OTHERS}": (4, 24)}, 2)
    assert to_read(SPEC, touch, OWN) == ["pixels", "speed"]  # of another sensor


@pytest.mark.parametrize(("own", "named"), [(OWN, OWN), ("", "fresh")])
def test_tokens_of_other_eyes_are_refused(own: str, named: str) -> None:
    store = Spec({**SPEC.obs, f"pixels@{OTHERS}": (4, 24)}, 2)
    with pytest.raises(UserError, match=f"are of the eyes {OTHERS}, the model's are {named}") as caught:
        to_read(SPEC, store, own)
    assert "\n" not in str(caught.value)
