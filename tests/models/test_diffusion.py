"""Diffusion: DIAMOND's sizes and numbers to the last, frames of 8 bit, short pasts, and a mind that learns in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld import checkpoint
from innerworld.errors import UserError
from innerworld.models import Diffusion, Dreamer, config
from innerworld.models.diffusion_config import DIAMOND, DiffusionConfig, EndsConfig
from innerworld.models.dreamer_config import DreamerConfig
from innerworld.policy.actor import ActorConfig
from innerworld.policy.actor_critic import ActorCritic, ActorCriticConfig
from innerworld.policy.critic import CriticConfig
from innerworld.policy.sight import SightConfig
from innerworld.testing.world_model import random_clip
from innerworld.training import TrainConfig
from innerworld.types import Clip, Spec, State
from innerworld.world import WorldModel, at

GAME = Spec({"pixels": (12, 12, 3)}, 4, discrete=True)
TINY = DiffusionConfig(
    image_size=12,
    history=2,
    steer=8,
    channels=(8, 16),
    depths=(1, 2),
    attention=(False, True),
    rounding="down",
    ends=EndsConfig(hidden=6, steer=4, channels=(8, 8), depths=(1, 1), head="sign"),
)


def build(spec: Spec = GAME, **changes: Any) -> Diffusion:
    """With random weights everywhere: it begins with zeros, which would hide mistakes."""
    torch.manual_seed(0)
    model = Diffusion(TINY.model_copy(update=changes), spec).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return model


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(value.numel() for value in module.parameters())


# ---------------------------------------------------------------------- as in DIAMOND


def test_the_preset_is_diamonds_to_the_last_parameter() -> None:
    """Counted in eloialonso/diamond 5bcd159, config/agent/default.yaml, four actions, 64×64: layer by layer."""
    with torch.device("meta"):
        model = Diffusion(DIAMOND, Spec({"pixels": (64, 64, 3)}, 4, discrete=True))
    denoiser, ends = model.denoiser, model.ends
    assert ends is not None
    assert count(denoiser) == 4_405_955 and count(ends) == 5_900_864
    found = {
        "actions": denoiser.action,
        "condition": denoiser.condition,
        "into": denoiser.into,
        "down": denoiser.unet.down,
        "middle": denoiser.unet.middle,
        "up": denoiser.unet.up,
        "halve": denoiser.unet.halve,
        "enlarge": denoiser.unet.enlarge,
        "norm": denoiser.norm,
        "out": denoiser.out,
        "its actions": ends.action,
        "memory": ends.memory,
        "head": ends.head,
    }
    assert {name: count(part) for name, part in found.items()} == {
        "actions": 256,
        "condition": 131_584,
        "into": 8_704,
        "down": 1_117_184,
        "middle": 312_832,
        "up": 2_611_968,
        "halve": 110_784,
        "enlarge": 110_784,
        "norm": 128,
        "out": 1_731,
        "its actions": 512,
        "memory": 5_246_976,
        "head": 265_216,
    }
    assert count(ends.into) + count(ends.body) == 388_160


def weigh(ours: Diffusion) -> Diffusion:
    formula([ours.denoiser.frequencies, *ours.parameters()])
    return ours


@torch.no_grad()
def formula(weights: Iterable[Tensor]) -> None:
    """Weights by a formula, so that none need to be kept."""
    for k, value in enumerate(weights):
        entries = torch.arange(value.numel(), dtype=torch.float64)
        drawn = torch.sin(0.37 * (k + 1) * entries + k) * (2 / max(1, value[0].numel())) ** 0.5
        value.copy_(drawn.view(value.shape))


def wave(*shape: int) -> Tensor:
    """Numbers in [-1, 1] by a formula."""
    entries = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(0.11 * entries + 0.0003 * entries.square()).view(shape)


def test_it_says_draws_and_tells_what_diamonds_code_does() -> None:
    """The numbers are its own, with these weights: `python bench/peer_diamond.py CLONE --golden`, 5bcd159."""
    model = weigh(Diffusion(TINY, GAME).double().eval())
    frames, x = wave(2, 2, 3, 12, 12), wave(2, 3, 12, 12).flip(-1)
    moves = torch.nn.functional.one_hot(torch.tensor([[0, 3], [2, 1]]), 4).double()
    said, _ = model.denoiser(x, torch.tensor([0.3, 4.0], dtype=torch.float64), frames, moves)
    theirs = [
        [-1.4379868616752784, -0.2832796876138087, 1.0148825635592662],
        [-1.460660521151311, -0.2234716262122377, 1.032495841261872],
    ]
    torch.testing.assert_close(said[:, :, 5, 7], torch.tensor(theirs, dtype=torch.float64), rtol=0, atol=1e-9)
    assert said.square().mean().item() == pytest.approx(1.0955857756358525, abs=1e-9)

    drawn = model.denoiser.sample(frames, moves, x, 3)
    assert drawn[:, :, 5, 7].tolist() == [[2, 95, 218], [0, 105, 219]]
    assert (drawn.double() / 255 * 2 - 1).mean().item() == pytest.approx(-0.1533768956583959, abs=1e-6)  # single there

    ends, after = model.ends, wave(2, 2, 3, 12, 12).flip(0)
    assert ends is not None
    h = c = torch.zeros(2, 6, dtype=torch.float64)
    for t in range(2):
        h, c = ends.remember(ends.look(frames[:, t], after[:, t], moves[:, t]), h, c)
    theirs = [
        [0.0020593704886436304, 0.3024984163161254, 0.12894659735907393, -0.2466542436642541, -0.23576757946041282],
        [-0.01761934462250063, 0.3070720589830135, 0.15060606493650147, -0.24184760742719608, -0.25534538975184173],
    ]
    torch.testing.assert_close(ends.head(h), torch.tensor(theirs, dtype=torch.float64), rtol=0, atol=1e-9)


# ---------------------------------------------------------------------- what is imagined


def imagined(model: WorldModel, clip: Clip, rng: Generator | None = None) -> State:
    return model.predict(at(model.watch(clip), 3), clip.action[:, 3], rng)


def test_frames_are_8_bit_and_decoded_between_0_and_1() -> None:
    model, clip = build(), random_clip(GAME, 2, 4)
    state = imagined(model, clip, Generator().manual_seed(0))
    assert state["frame"].dtype == state["past"].dtype == torch.uint8
    shown = model.decode(state)["pixels"]
    assert shown.min() >= 0 and shown.max() <= 1 and shown.std() > 0.05
    torch.testing.assert_close((shown * 255).round() / 255, shown)


def test_noise_comes_from_the_generator_alone() -> None:
    model, clip = build(), random_clip(GAME, 2, 4)
    drawn = [imagined(model, clip, Generator().manual_seed(seed))["frame"] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(imagined(model, clip)["frame"], imagined(model, clip)["frame"])


def test_the_action_and_every_frame_of_the_window_count() -> None:
    model, clip = build(), random_clip(GAME, 1, 4)
    state = at(model.watch(clip), 3)
    frame = model.predict(state, clip.action[:, 3])["frame"]
    others = {
        "action": (state, clip.action[:, 3].roll(1, -1)),
        "frame": (state | {"frame": 255 - state["frame"]}, clip.action[:, 3]),
        "past": (state | {"past": 255 - state["past"]}, clip.action[:, 3]),
        "acts": (state | {"acts": state["acts"].roll(1, -1)}, clip.action[:, 3]),
    }
    for name, (other, action) in others.items():
        assert not torch.equal(model.predict(other, action)["frame"], frame), f"{name} is not heeded"


def test_what_is_not_known_of_the_past_is_not_read() -> None:
    model, clip = build(), random_clip(GAME, 2, 4)
    state = model.encode(clip.at(0))
    garbage = state | {"past": state["past"] + 99, "acts": state["acts"] + 1}
    frame = model.predict(state, clip.action[:, 0])["frame"]
    assert torch.equal(model.predict(garbage, clip.action[:, 0])["frame"], frame)


def test_where_an_episode_begins_what_follows_is_as_after_a_first_look() -> None:
    model, clip = build(), random_clip(GAME, 2, 4)
    first = torch.zeros(2, 5, dtype=torch.bool)
    first[:, 3] = True
    state, fresh = at(model.watch(replace(clip, first=first)), 3), model.encode(clip.at(3))
    after, expected = (model.predict(of, clip.action[:, 3]) for of in (state, fresh))
    assert torch.equal(after["frame"], expected["frame"])
    torch.testing.assert_close(model.features(after), model.features(expected))


def test_patches_are_whole_frames_to_the_pixel() -> None:
    """The U-Net sees squares of pixels as one; every pixel of them is read, and drawn by itself."""
    model, clip = build(patch=3), random_clip(GAME, 1, 4)
    frames, actions = torch.zeros(1, 2, 3, 12, 12, requires_grad=True), torch.zeros(1, 2, 4)
    noisy = torch.zeros(1, 3, 12, 12)
    said, _ = model.denoiser(noisy, torch.ones(1), frames, actions)
    said.square().sum().backward()
    assert frames.grad is not None and bool((frames.grad != 0).all())
    assert said.shape == noisy.shape and said.unique().numel() > 100
    assert model.denoiser.into.in_channels == 3 * 3 * 3**2 and imagined(model, clip)["frame"].shape == (1, 3, 12, 12)


def test_fewer_steps_draw_another_frame() -> None:
    model, clip = build(), random_clip(GAME, 1, 4)
    three = imagined(model, clip)["frame"]
    model.steps = 1
    assert not torch.equal(imagined(model, clip)["frame"], three)


def test_half_the_digits_draw_nearly_the_same() -> None:
    clip = random_clip(GAME, 1, 4)
    full, half = (imagined(build(precision=precision), clip)["frame"] for precision in ("float32", "bfloat16"))
    assert half.dtype == torch.uint8 and (full.int() - half.int()).abs().float().mean() < 5


def test_every_belief_along_clips_can_be_rolled_on_with_inference_mode() -> None:
    model, clip = build(), random_clip(GAME, 2, 4)
    with torch.inference_mode():
        starts = model.watch(clip)
        roll = model.roll(starts, 2)
        states = [roll(clip.action[:, :1].repeat_interleave(5, 0)[:, 0], Generator().manual_seed(0)) for _ in range(2)]
    assert states[-1]["frame"].shape == (10, 3, 12, 12) and "past" not in states[-1]
    assert model.features(states[-1]).shape == (10, model.features(at(starts, 0)).shape[1])


def test_before_anything_was_done_no_reward_is_told_and_going_on_is_certain() -> None:
    model, clip = build(), random_clip(GAME, 2, 4)
    reward, going = model.prospects(model.encode(clip.at(0)))
    assert not reward.any() and bool((going == 1).all())
    reward, going = model.prospects(imagined(model, clip))
    assert bool(reward.all()) and bool((going < 1).all()) and bool((reward.abs() < 1).all())


def test_reward_is_told_of_a_window_of_one_frame() -> None:
    model, clip = build(history=1), random_clip(GAME, 2, 4)
    assert bool(model.prospects(imagined(model, clip))[0].all())
    assert not model.prospects(model.encode(clip.at(0)))[0].any()


def test_two_hot_rewards_begin_at_nothing() -> None:
    """Their bins reach to 10⁸: what an untaught head says would be as large."""
    model, clip = Diffusion(TINY.model_copy(update={"ends": EndsConfig(head="twohot")}), GAME), random_clip(GAME, 2, 4)
    assert not model.prospects(imagined(model, clip))[0].any()


# ---------------------------------------------------------------------- how it learns


def test_an_action_is_learnt_at_the_frame_that_it_leads_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame t is painted 10 t and the action at it is t / 10, so that a shift by one would show."""
    model, heard = build(windows=9), []
    shown = torch.arange(7, dtype=torch.uint8)[None, :, None, None, None].expand(2, -1, 12, 12, 3) * 10
    action = (torch.arange(6) / 10)[None, :, None].expand(2, -1, 4)
    clip = Clip({"pixels": shown}, action, torch.zeros(2, 6), torch.zeros(2, 6, dtype=torch.bool))
    learn = model.denoiser.loss

    def listen(frames: Tensor, actions: Tensor, known: Tensor, judged: Tensor) -> Tensor:
        heard.append(((frames[:, :-1, 0, 0, 0] + 1) / 2 * 255 / 10, actions[..., 0] * 10))
        return learn(frames, actions, known, judged)

    monkeypatch.setattr(model.denoiser, "loss", listen)
    model.loss(clip)
    torch.testing.assert_close(*heard[0], rtol=0, atol=1e-3)
    assert len(heard[0][0].unique(dim=0)) > 2


def test_only_judged_frames_count() -> None:
    model = build()
    frames, actions = torch.rand(2, 4, 3, 12, 12), torch.zeros(2, 3, 4)
    known, judged = torch.ones(2, 2, 2, dtype=torch.bool), torch.tensor([[True, True], [False, False]])
    torch.manual_seed(0)
    loss = model.denoiser.loss(frames, actions, known, judged)
    torch.manual_seed(0)
    spoilt = torch.cat([frames[:1], 1 - frames[1:]])
    torch.testing.assert_close(model.denoiser.loss(spoilt, actions, known, judged), loss)
    assert model.denoiser.loss(frames, actions, known, judged & False) == 0


def test_later_frames_of_a_stretch_follow_what_was_denoised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their context holds the denoised frame, 8 bit, not the true one; the context of the first is true."""
    model = build()
    frames, heard = torch.rand(3, 5, 3, 12, 12), []
    forward = type(model.denoiser).forward

    def listen(self: nn.Module, noisy: Tensor, sigma: Tensor, before: Tensor, actions: Tensor) -> Any:
        heard.append(before)
        return forward(model.denoiser, noisy, sigma, before, actions)

    monkeypatch.setattr(type(model.denoiser), "forward", listen)
    model.denoiser.loss(frames, torch.zeros(3, 4, 4), torch.ones(3, 3, 2, dtype=torch.bool), torch.ones(3, 3) > 0)
    assert torch.equal(heard[0], frames[:, :2]) and torch.equal(heard[1][:, 0], frames[:, 1])
    for given in (heard[1][:, 1], heard[2]):
        assert not given.requires_grad
        levels = (given + 1) / 2 * 255
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    assert torch.equal(heard[2][:, 0], heard[1][:, 1]) and not torch.equal(heard[1][:, 1], frames[:, 2])


@pytest.mark.parametrize("length", [1, 2, 6])
def test_clips_of_any_length_are_learnt_from(length: int) -> None:
    loss, parts = build(windows=3).loss(random_clip(GAME, 2, length))
    assert bool(loss.isfinite()) and parts.keys() == {"diffuse", "reward", "continue"}


def test_a_film_is_learnt_from() -> None:
    spec = Spec({"pixels": (12, 12, 3)}, 0)
    model, clip = build(spec), random_clip(spec, 2, 4)
    assert bool(model.loss(clip)[0].isfinite())
    assert model.predict(model.encode(clip.at(0)), torch.zeros(2, 0))["frame"].shape == (2, 3, 12, 12)


def test_a_mind_learns_in_it() -> None:
    """`innerworld train dreamer model.family=diffusion`, in small: both learn, and what acts teaches no frame."""
    torch.manual_seed(0)
    its = ActorCriticConfig(horizon=2, starts=2)
    settings = DreamerConfig.model_validate({"family": "diffusion", "world": TINY, "actor_critic": its})
    model, clip = Dreamer(settings, GAME), random_clip(GAME, 2, 4)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(4):
        optimiser.zero_grad()
        loss, parts = model.loss(clip)
        loss.backward()
        optimiser.step()
        model.after_step()
    assert bool(loss.isfinite()) and {"diffuse", "reward", "actor", "critic"} <= parts.keys()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    for part in ("world.denoiser.out", "world.ends.memory", "actor_critic.actor", "actor_critic.critic"):
        assert any(name.startswith(part) for name in moved), f"{part} has learnt nothing"
    assert model.policy(model.encode(clip.at(0)), Generator().manual_seed(0)).shape == (2, 4)


def test_how_a_mind_dreams_may_change_when_it_is_taught(tmp_path: Path) -> None:
    settings = DreamerConfig.model_validate({"family": "diffusion", "world": TINY})
    model = Dreamer(settings, GAME)
    checkpoint.save(tmp_path, model, torch.optim.Adam(model.parameters()), 1, TrainConfig())
    loaded = checkpoint.load(tmp_path, changes=("world.steps=1",), kind=Dreamer)
    assert loaded.config.model_dump()["world"]["steps"] == 1 != TINY.steps
    with pytest.raises(UserError, match=r"'world.channels' stays as it is.*world\.steps, world\.start"):
        checkpoint.load(tmp_path, changes=("world.channels=[4, 4]",))


def test_diamonds_own_actor_says_the_same() -> None:
    """Three pictures in a row: chances and worth are its code's with these weights (`peer_diamond.py --golden`)."""
    its = ActorCriticConfig(
        actor=ActorConfig(layers=0),
        critic=CriticConfig(layers=0, kind="normal", slow_weight=0.0),
        sight=SightConfig(channels=(8, 16), hidden=6),
    )
    mind = ActorCritic(its, 0, GAME).double()
    assert mind.sight is not None
    parts = (mind.sight.net, mind.sight.memory, mind.actor, mind.critic)
    formula(value for part in parts for value in part.parameters())
    last = mind.sight.features(wave(3, 2, 3, 12, 12), mind.sight.blank(2))[-1]
    theirs = [
        [-1.6014110253355938, -1.6042728846936491, -1.4102776353396556, -1.0405028992350092, 0.488178109870391],
        [-1.597213066914645, -1.6025054472786717, -1.4109039488884318, -1.0434821922909394, 0.5284373159832452],
    ]
    told = torch.cat([mind.actor.net(last).log_softmax(-1), mind.critic.net(last)], dim=-1)
    torch.testing.assert_close(told, torch.tensor(theirs, dtype=torch.float64), rtol=0, atol=1e-9)


def test_diamonds_own_actor_has_its_size() -> None:
    its = cast(DreamerConfig, Dreamer.presets["diamond"]).actor_critic
    mind = ActorCritic(its, 0, Spec({"pixels": (64, 64, 3)}, 4, discrete=True))
    assert sum(value.numel() for value in mind.parameters()) == 3_229_637


def test_the_preset_of_dreamer_dreams_of_diamond() -> None:
    assert config("dreamer", "diamond").model_dump()["world"] == DIAMOND.model_dump()
    assert config("dreamer", None, ["family=diffusion"]).model_dump()["world"] == DiffusionConfig().model_dump()


# ---------------------------------------------------------------------- several pictures, and mistakes


def test_several_pictures_lie_side_by_side_in_channels() -> None:
    spec = Spec({"pixels": (16, 24, 3), "speed": (3,), "touch": (12, 12, 1)}, 2)
    model, clip = build(spec), random_clip(spec, 2, 4)
    told = model.decode(imagined(model, clip))
    assert told["pixels"].shape == (2, 16, 24, 3) and told["touch"].shape == (2, 12, 12, 1) and "speed" not in told
    first = model.decode(model.encode(clip.at(0)))["touch"]
    torch.testing.assert_close(first, clip.obs["touch"][:, 0] / 255)
    with pytest.raises(UserError, match="different sizes: set image_size"):
        build(spec, image_size=None)


def test_pictures_may_keep_their_size() -> None:
    spec = Spec({"pixels": (10, 14, 3)}, 2)
    model, clip = build(spec, image_size=None), random_clip(spec, 2, 4)
    assert model.decode(imagined(model, clip))["pixels"].shape == (2, 10, 14, 3)
    seen = model.decode(model.encode(clip.at(0)))["pixels"]
    assert torch.equal((seen * 255).round().to(torch.uint8), clip.obs["pixels"][:, 0])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steer": 9}, "steer=9: choose an even number that history=2 divides"),
        ({"depths": (1,)}, "channels has 2 entries, depths 1"),
        ({"patch": 5}, "patch=5 does not divide frames of 12×12 pixels"),
        ({"attention": (True,)}, "attention has 1 entries, channels 2"),
        ({"ends": EndsConfig(bins=4)}, "ends.bins=4: choose an odd number"),
        ({"ends": EndsConfig(channels=())}, "ends.channels has 0 entries"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(**changes)


def test_mistakes_are_said_in_a_sentence() -> None:
    with pytest.raises(UserError, match="diffusion imagines pictures, and there are none among speed"):
        build(Spec({"speed": (3,)}, 2))
    model, clip = build(), random_clip(GAME, 1, 4)
    with pytest.raises(UserError, match="a picture of 'pixels' is 8×8×3"):
        model.encode({"pixels": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)})
    with pytest.raises(UserError, match="no sensor 'pixels'"):
        model.encode({"touch": torch.zeros(1, 8, 8, 1)})
    with pytest.raises(UserError, match="an action has 2 numbers, this model was made for 4"):
        model.predict(model.encode(clip.at(0)), torch.zeros(1, 2))
    with pytest.raises(UserError, match="give both"):
        model.encode(clip.at(0), action=clip.action[:, 0])
    with pytest.raises(UserError, match="reward=0 left the reward out"):
        build(reward=0).prospects(model.encode(clip.at(0)))
