"""Video: streams remember what clips tell, settings are the papers', and what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld.errors import UserError
from innerworld.models.video import Video
from innerworld.models.video_config import VideoConfig
from innerworld.testing.world_model import random_clip
from innerworld.types import Clip, Spec, each
from innerworld.world import WorldModel, at

SPEC = Spec({"pixels": (16, 16, 3)}, 2)
TINY: dict[str, Any] = {
    "codec": {"width": 4},
    "backbone": {"dim": 16, "depth": 2, "heads": 2, "mlp": 2.0, "window": 3},
    "steps": 3,
    "reward": 0.0,
    "continues": 0.0,
    "units": 16,
    "bins": 11,
}
NOT_CAUSAL: dict[str, Any] = {"noise": "shared", "blank": 0.0, "backbone": TINY["backbone"] | {"causal": False}}


def build(spec: Spec = SPEC, **words: Any) -> Video:
    """With weights that are nowhere zero, so that every part counts."""
    torch.manual_seed(0)
    model = Video(VideoConfig.model_validate(TINY | words), spec)
    for p in model.net.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.2)
    return model.eval()


def count(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


@pytest.mark.parametrize(
    "words", [{"renoise": 1.0}, {"guidance": 1.5, "action_dropout": 0.1}, {"context": 1.0}], ids=str
)
@torch.no_grad()
def test_a_cached_roll_out_equals_one_that_computes_all_frames_anew(words: dict[str, Any]) -> None:
    """With generators, twice as far as the window: each frame is drawn knowing all that the window holds."""
    model = build(**words)
    clip = random_clip(SPEC, 2, 8)
    state = at(model.watch(clip.cut(0, 2)), 2)
    tokens = [model.codec.look(clip.at(t)) for t in range(3)]
    noises = [torch.randn(2, 4, 4, generator=Generator().manual_seed(t)) for t in range(8)]
    for t in range(2, 8):
        state = model.predict(state, clip.action[:, t], Generator().manual_seed(t))
        tokens.append(_anew(model, tokens, clip, t, Generator().manual_seed(t), noises))
        assert torch.allclose(state["z"], tokens[-1], atol=1e-5)


def _anew(model: Video, tokens: list[Tensor], clip: Clip, t: int, rng: Generator, noises: list[Tensor]) -> Tensor:
    """Frame t+1 by whole clips of all frames, no memory."""
    acts = model._acts(clip)[:, : t + 2]
    x = torch.randn(2, 4, 4, generator=rng)
    noises[t] = torch.randn(2, 4, 4, generator=rng)
    held = [model.settings.context] * (t + 1)
    mixed = [
        model.flow.mix(z, model.settings.renoise * noises[i - 1] * (i > 2), torch.full((2,), held[i]))
        for i, z in enumerate(tokens)
    ]

    def denoise(x: Tensor, level: float) -> Tensor:
        found = []
        for last in (acts[:, -1], model.net.unknown.expand(2, -1)):
            frames = torch.stack([*mixed, x], dim=1)
            levels = torch.tensor([*held, level]).expand(2, -1)
            steer = model.net.steer(levels, torch.cat([acts[:, :-1], last[:, None]], dim=1))
            found.append(model.net.leave(model.net.body(model.net.enter(frames), steer)[:, -1]))
        return found[1] + model.settings.guidance * (found[0] - found[1])

    for i in range(3):
        clean = denoise(x, i / 3)
        x = clean if i == 2 else model.flow.moved(x, clean, torch.full((2,), i / 3), torch.full((2,), (i + 1) / 3))
    return x


@pytest.mark.parametrize("words", [{"renoise": 1.0}, NOT_CAUSAL], ids=["causal", "not causal"])
@torch.no_grad()
def test_a_roll_from_a_trace_draws_what_predict_draws_from_copies(words: dict[str, Any]) -> None:
    """Same generator, twice as far as the window; an episode begins within the clip."""
    model, clip = build(**words), random_clip(SPEC, 2, 4)
    first = torch.zeros(2, 5, dtype=torch.bool)
    first[1, 3] = True
    starts = model.watch(replace(clip, first=first))
    alone = each(lambda value: value.flatten(0, 1).clone(), starts)
    roll, one, other = model.roll(starts, 6), Generator().manual_seed(0), Generator().manual_seed(0)
    for t in range(6):
        action = torch.randn(10, 2, generator=Generator().manual_seed(t)).clamp(-1, 1)
        alone = model.predict(alone, action, other)
        for name, value in roll(action, one).items():
            assert torch.allclose(value, alone[name], atol=1e-4), name


@torch.no_grad()
def test_an_action_leads_to_the_frame_after_it() -> None:
    """One of another clip at time 2 changes what is made of frames from 3 on, and the guess of frame 3."""
    model, clip = build(), random_clip(SPEC, 1, 4)
    action = clip.action.clone()
    action[:, 2] = -action[:, 2]
    found, other = model.watch(clip)["made"], model.watch(replace(clip, action=action))["made"]
    assert (found != other).any(-1)[0].tolist() == [False, False, False, True, True]
    state = at(model.watch(clip), 2)
    assert not torch.allclose(model.predict(state, clip.action[:, 2])["z"], model.predict(state, action[:, 2])["z"])


@torch.no_grad()
def test_a_belief_reaches_back_as_far_as_windows_of_blocks_do() -> None:
    """A window of 3 in 2 blocks: four frames before now."""
    model, clip, other = build(), random_clip(SPEC, 1, 8), random_clip(SPEC, 1, 8, seed=1)
    made = at(model.watch(clip), 8)["made"]
    for n, same in ((4, True), (5, False)):
        pixels = torch.cat([other.obs["pixels"][:, :n], clip.obs["pixels"][:, n:]], dim=1)
        mixed = Clip({"pixels": pixels}, clip.action, clip.reward, clip.terminated)
        assert torch.allclose(at(model.watch(mixed), 8)["made"], made, atol=1e-5) == same


@torch.no_grad()
def test_actions_steer_and_guidance_makes_them_steer_more() -> None:
    clip = random_clip(SPEC, 3, 4)
    moved = []
    for scale in (0.5, 1.0, 2.0):
        model = build(guidance=scale, action_dropout=0.1)
        state = model.encode(clip.at(0))
        one, other = (model.predict(state, clip.action[:, t])["z"] for t in (0, 1))
        moved.append(float((one - other).square().mean()))
    assert 0 < moved[0] < moved[1] < moved[2]


@torch.no_grad()
def test_without_a_generator_one_step_from_nothing_if_that_was_learnt() -> None:
    clip = random_clip(SPEC, 2, 2)
    for blank, steps in ((0.1, 1), (0.0, 3)):
        model, calls = build(blank=blank), []
        model.net.leave.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model.predict(model.encode(clip.at(0)), clip.action[:, 0])
        assert len(calls) == steps


def test_levels_are_as_the_setting_says() -> None:
    z = torch.zeros(64, 9, 4, 4)
    level, blank = build(blank=0.25)._levels(z)
    assert 0.15 < float(blank.float().mean()) < 0.35 and not level[blank].any()
    assert len(level.unique()) > 300
    shared, blank = build(**NOT_CAUSAL)._levels(z)
    assert not blank.any() and torch.equal(shared, shared[:, :1].expand(-1, 9))
    before, _ = build(noise="history", augment=0.2, blank=0.0)._levels(z)
    assert float((before > 0.8).float().mean()) > 0.5 and float(before[:, -1].min()) < 0.2


def test_a_dropped_action_is_unknown_in_training_only() -> None:
    model = build(action_dropout=0.5)
    clip = random_clip(SPEC, 16, 8)
    assert torch.equal(model._acts(clip, drop=True), model._acts(clip))
    known = (model.train()._acts(clip, drop=True) != model.net.unknown).any(-1)
    assert not known[:, 0].any() and 0.3 < float(known[:, 1:].float().mean()) < 0.7


def test_reward_and_end_are_told_and_read_without_painting() -> None:
    model = build(reward=0.1, continues=0.1)
    clip = random_clip(SPEC, 2, 4)
    _, parts = model.loss(clip)
    assert {"denoise", "reward", "continue"} <= parts.keys()
    state = model.encode(clip.at(0))
    told = model.decode(state)
    reward, going = model.prospects(state)
    assert torch.equal(told["reward"], reward) and torch.equal(told["continue"], going)
    with pytest.raises(UserError, match="reward=0"):
        build().prospects(build().encode(clip.at(0)))


@torch.no_grad()
def test_energy_is_the_error_of_the_pixels_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    clip = random_clip(SPEC, 5, 1)
    a, b = model.encode(clip.at(0)), model.encode(clip.at(1))
    apart = (model.decode(a)["pixels"] - model.decode(b)["pixels"]).square().mean(dim=(1, 2, 3))
    assert torch.allclose(model.energy(a, b), apart, atol=1e-6)
    monkeypatch.setattr("innerworld.models.video.PAINTED", 2)
    assert torch.allclose(model.energy(a, b), apart, atol=1e-6)


def test_oasis_has_the_published_number_of_parameters() -> None:
    """607.9 M, as open-oasis' `DiT_models["DiT-S/2"]()` has; ours has one vector more, of an action not known."""
    spec = Spec({"pixels": (360, 640, 3)}, 25)
    with torch.device("meta"):
        net = Video(Video.presets["oasis"], spec).net  # pyright: ignore[reportArgumentType]
    d, patch = 1024, 2 * 2 * 16
    attention, mlp = 3 * d * d + d * d + d, 8 * d * d + 5 * d
    block = 2 * (attention + mlp + 6 * d * d + 6 * d)
    level, action = 256 * d + d + d * d + d, 25 * d + d
    ends = (patch * d + d) + (d * patch + patch) + (2 * d * d + 2 * d)
    assert 16 * block + level + action + ends == 607_943_744
    assert count(net) - net.unknown.numel() == 607_943_744
    assert net.body.s == 9 * 16


def test_the_small_preset_is_the_cards() -> None:
    config = VideoConfig.model_validate(Video.presets["small"].model_dump())
    model = Video(config, Spec({"pixels": (32, 32, 3)}, 3, discrete=True))
    assert model.net.body.s == 16 and 0.9e6 < count(model.net) < 1.0e6


@pytest.mark.parametrize("name", Video.presets)
def test_every_preset_fits_together(name: str) -> None:
    config = Video.presets[name]
    assert isinstance(config, VideoConfig)
    shape = (360, 640, 3) if name == "oasis" else (24, 24, 3)
    with torch.device("meta"):
        Video(config, Spec({"pixels": shape}, 3))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"noise": "shared"}, "each other both ways"),
        ({"backbone": TINY["backbone"] | {"causal": False}}, "each other both ways"),
        (NOT_CAUSAL | {"backbone": NOT_CAUSAL["backbone"] | {"window": 1}}, "no room for a past"),
        ({"guidance": 2.0}, "set action_dropout"),
        (NOT_CAUSAL | {"blank": 0.1}, "know nothing of those"),
        ({"bins": 10}, "odd number"),
        ({"backbone": TINY["backbone"] | {"steering": "none"}}, "steering=none"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(words: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(**words)


def test_bad_input_is_refused() -> None:
    model, clip = build(), random_clip(SPEC, 2, 3)
    state = model.encode(clip.at(0))
    starts = each(lambda value: value[:, None], state)
    with pytest.raises(UserError, match="3 numbers, this model was made for 2"):
        model.predict(state, torch.zeros(2, 3))
    with pytest.raises(UserError, match="3 numbers, this model was made for 2"):
        model.roll(starts, 2)(torch.zeros(2, 3), None)
    with pytest.raises(UserError, match="16×24"):
        model.encode({"pixels": torch.zeros(2, 16, 24, 3, dtype=torch.uint8)})
    with pytest.raises(UserError, match="both"):
        model.encode(clip.at(0), state)
    roll = model.roll(each(lambda value: value.expand(-1, 2, *value.shape[2:]), starts), 1)
    actions = clip.action[:, 0].repeat(2, 1)
    roll(actions, None)
    with pytest.raises(UserError, match="longer horizon"):
        roll(actions, None)
    long = build(**NOT_CAUSAL)
    with pytest.raises(UserError, match="sees 3 at once"):
        long.loss(clip)


@torch.no_grad()
def test_not_causal_beliefs_of_a_long_clip_slide() -> None:
    """Longer than the window a clip can be watched, and imagined on from, though not learnt from at once."""
    model = build(**NOT_CAUSAL)
    clip = random_clip(SPEC, 2, 6)
    slow = WorldModel.watch(model, clip)
    for name, value in model.watch(clip).items():
        assert torch.allclose(value.float(), slow[name].float(), atol=1e-5), name


def test_a_codec_that_learns_is_taught_alone_first() -> None:
    model = build(codec={"kind": "fsq", "patch": 8, "steps": 2})
    clip = random_clip(SPEC, 2, 3)
    told = []
    model.train()
    for _ in range(3):
        loss, parts = model.loss(clip)
        loss.backward()
        model.after_step()
        told.append("denoise" in parts)
    assert told == [False, False, True]
