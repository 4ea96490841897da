"""The latent action model: what a code may know, what teaches it, and codes of a small world are its actions."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld.models.genie_config import LatentActionConfig
from innerworld.models.latent_actions import LatentActions
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
BODY: dict[str, Any] = {"dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "window": 3, "steering": "none"}
TINY: dict[str, Any] = {"book": {"codes": 8, "dead": 1.0}, "width": 4, "pixels": 8, "backbone": BODY}


def build(**words: Any) -> LatentActions:
    """With weights that are nowhere zero, so that every part counts."""
    torch.manual_seed(0)
    model = LatentActions(LatentActionConfig.model_validate(TINY | words), SPEC)
    for p in model.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.3)
    return model.eval()


def latents(model: LatentActions, frames: Tensor) -> Tensor:
    obs = {"pixels": frames}
    return model._latents(obs, model.eyes.look(obs), None)[0]


@pytest.mark.parametrize("motion", [True, False])
@pytest.mark.parametrize("t", [0, 2, 5])
@torch.no_grad()
def test_an_action_is_read_from_the_frame_that_follows_and_from_none_later(t: int, motion: bool) -> None:
    """Step t leads to frame t + 1: that frame changes its code, frame t + 2 does not (p-doom/jasmine, issue 122)."""
    model = build(motion=motion)
    frames = random_clip(SPEC, 2, 7).obs["pixels"]
    before = latents(model, frames)
    for changed, matters in ((t + 1, True), (t + 2, False)):
        other = frames.clone()
        other[:, changed] = 255 - other[:, changed]
        apart = (latents(model, other) - before)[:, t].abs().max()
        assert (apart > 1e-2) if matters else (apart == 0)


@torch.no_grad()
def test_codes_of_an_episode_do_not_know_the_one_before() -> None:
    """Nor by what seems to move from its last frame to the next one's first."""
    model = build()
    clip = random_clip(SPEC, 2, 6)
    first = torch.zeros(2, 7, dtype=torch.bool)
    first[:, 3] = True
    joined = model._latents(clip.obs, model.eyes.look(clip.obs), first)[0]
    torch.testing.assert_close(joined[:, 3:], latents(model, clip.obs["pixels"][:, 3:]))


@torch.no_grad()
def test_a_guess_sees_neither_the_frame_that_it_guesses_nor_later_ones() -> None:
    model = build()
    x = model.eyes.look(random_clip(SPEC, 2, 6).obs)
    code = torch.randn(2, 6, 4, generator=Generator().manual_seed(0))
    before = model._guess(x[:, :-1], code, None)
    x = x.clone()
    x[:, 3:] += 1
    after = model._guess(x[:, :-1], code, None)
    assert torch.equal(before[:, :3], after[:, :3])  # those of frames 1, 2 and 3
    assert not torch.equal(before[:, 3], after[:, 3])


@torch.no_grad()
def test_a_masked_decoder_sees_the_first_frame_only() -> None:
    model = build(keep=0.0)
    x = model.eyes.look(random_clip(SPEC, 2, 6).obs)
    code = torch.randn(2, 6, 4, generator=Generator().manual_seed(0))
    before = model._guess(x[:, :-1], code, None)
    later, first = x.clone(), x.clone()
    later[:, 1:] += 1
    first[:, 0] += 1
    assert torch.equal(before, model._guess(later[:, :-1], code, None))
    assert not torch.equal(before, model._guess(first[:, :-1], code, None))


@torch.no_grad()
def test_inferring_leaves_the_codebook_as_it_is() -> None:
    model = build().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.infer(random_clip(SPEC, 2, 6).obs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_latents_that_are_all_alike_are_punished() -> None:
    model = build(motion=False)
    clip = random_clip(SPEC, 3, 4)
    with torch.no_grad():
        cast(nn.Linear, model.squeeze[-1]).weight *= 20
    spread = model.loss(clip)["actions_spread"]
    for p in model.squeeze.parameters():
        nn.init.zeros_(p)
    alike = model.loss(clip)["actions_spread"]
    assert spread == 0 and torch.isclose(alike, torch.tensor(1.0))  # 100 times the 0.01 that is missing
    assert "actions_spread" not in build(spreads=0.0).loss(clip)


def test_guessing_that_nothing_changes_costs_one() -> None:
    """On the clips that it was prepared with: the loss is a share of what changes."""
    model = build()
    clip = random_clip(SPEC, 4, 6)
    model.prepare(clip)
    nn.init.zeros_(model.draw.weight)
    nn.init.zeros_(model.draw.bias)
    assert torch.isclose(model.loss(clip)["actions"], torch.tensor(1.0), atol=1e-4)


@pytest.mark.slow
def test_codes_of_a_square_that_is_pushed_are_the_pushes() -> None:
    """One of four ways a step, by nothing that was seen before: the codes must say which, though nobody told."""
    torch.manual_seed(0)
    config = {"width": 8, "pixels": 16, "book": {"codes": 4, "decay": 0.97, "dead": 1.0}}
    body = BODY | {"dim": 32, "places": "rotary"}
    model = LatentActions(LatentActionConfig.model_validate(TINY | config | {"backbone": body}), SPEC)
    clip, _ = _pushed(512)
    model.prepare(clip)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(240):
        loss = sum(model.loss(clip.rows(slice(step % 16 * 32, step % 16 * 32 + 32))).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.after_step()
    clip, way = _pushed(64, 1)
    codes = model.eval().infer(clip.obs)
    table = torch.zeros(4, 4).index_put_((codes.flatten(), way.flatten()), torch.tensor(1.0), accumulate=True)
    assert len(codes.unique()) == 4
    assert table.amax(dim=1).sum() / table.sum() >= 0.9


def _pushed(b: int, seed: int = 0) -> tuple[Clip, Tensor]:
    """A white square on black, moved by 3 pixels to one side at each of 4 steps, round the edge; and the ways."""
    rng = Generator().manual_seed(seed)
    way = torch.randint(4, (b, 4), generator=rng)
    step = torch.tensor([(3, 0), (-3, 0), (0, 3), (0, -3)])[way]
    at = torch.cat([torch.randint(16, (b, 1, 2), generator=rng), step], dim=1).cumsum(dim=1) % 16  # b 5 2
    near = (torch.arange(16) - at[..., None]) % 16 < 5  # b 5 2 16
    frames = (near[:, :, 0, :, None] & near[:, :, 1, None]).to(torch.uint8)[..., None].expand(-1, -1, -1, -1, 3) * 255
    return Clip({"pixels": frames}, torch.zeros(b, 4, 2), torch.zeros(b, 4), torch.zeros(b, 4, dtype=torch.bool)), way
