import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from innerworld.errors import UserError
from innerworld.models.world_models import WorldModels
from innerworld.testing.world_model import check_world_model, random_clip
from innerworld.types import Clip, Spec
from innerworld.world import WorldModel, at

RACE = Spec({"pixels": (64, 64, 3)}, 3)
VECTOR = Spec({"position": (3,), "speed": (2,)}, 2)
MIXED = Spec({"pixels": (16, 16, 3), "touch": (16, 16, 1), "speed": (2,)}, 3, discrete=True)
TINY = WorldModels.Config(z=6, hidden=16, mixtures=3, image="strided", depth=4, stages=2, units=16, bins=41)


@pytest.mark.parametrize("spec", [VECTOR, pytest.param(MIXED, marks=pytest.mark.slow)], ids=["vector", "mixed"])
def test_contract(spec):
    check_world_model(lambda spec: WorldModels(TINY, spec), spec)


@pytest.mark.slow
def test_contract_of_the_papers_convolutions_which_few_frames_teach():
    config = TINY.model_copy(update={"image": "paper", "image_size": 64, "depth": 2, "vae_frames": 2, "reward": 0})
    check_world_model(lambda spec: WorldModels(config, spec), Spec({"pixels": (32, 48, 1)}, 2))


def test_parameter_counts_are_the_papers():
    model = WorldModels(WorldModels.presets["paper"], RACE)
    assert _count(model.vae) == 4_348_547
    assert _count(model.memory) == 422_368
    assert _count(model) == 4_348_547 + 422_368
    assert model.features(model.encode(random_clip(RACE, 1, 1).at(0))).shape == (1, 32 + 256)


def test_an_action_that_no_world_takes_is_cut():
    model = WorldModels(TINY, VECTOR)
    belief = model.encode(random_clip(VECTOR, 2, 1).at(0))
    action = torch.tensor([[3.0, -0.5], [-1.5, 1.0]])
    wild, cut = model.predict(belief, action), model.predict(belief, action.clamp(-1, 1))
    torch.testing.assert_close(wild["h"], cut["h"])


def test_the_vaes_loss_is_that_of_the_paper():
    torch.manual_seed(0)
    model = WorldModels(WorldModels.presets["paper"].model_copy(update={"depth": 2}), RACE)
    frames = random_clip(RACE, 3, 1).at(0)
    ready = model.vae.ready(frames)
    mean, logvar = torch.randn(3, 32), torch.randn(3, 32) - 1
    z = mean + 0.1
    parts = model.vae.losses(ready, mean, logvar, z)
    seen = model.vae.decode(z)["pixels"]  # b y x c in [0, 1]
    error = ((frames["pixels"] / 255 - seen) ** 2).sum() / 3
    kl = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    assert bool((kl > 16).all())
    torch.testing.assert_close(parts["pixels"], error, rtol=1e-5, atol=0)
    torch.testing.assert_close(parts["kl"], kl.mean(), rtol=1e-5, atol=0)
    nothing = torch.zeros(3, 32)
    assert model.vae.losses(ready, nothing, nothing, z)["kl"] == 0.5 * 32  # max(KL, 0.5 · 32)


def test_pictures_seen_smaller_do_not_weigh_less():
    torch.manual_seed(0)
    spec = Spec({"pixels": (32, 32, 3)}, 2)
    model = WorldModels(TINY.model_copy(update={"image_size": 16}), spec)
    model.vae.paint = _Grey()
    white = {"pixels": torch.full((2, 32, 32, 3), 255, dtype=torch.uint8)}
    zeros = torch.zeros(2, 6)
    loss = model.vae.losses(model.vae.ready(white), zeros, zeros, zeros)["pixels"]
    torch.testing.assert_close(loss, torch.tensor(0.25 * 32 * 32 * 3))


def test_the_memorys_loss_is_the_likelihood_of_what_came_next():
    """Against torch's own mixtures, and along the clip one step after another."""
    torch.manual_seed(0)
    model = WorldModels(TINY, VECTOR)
    clip = random_clip(VECTOR, 3, 4)
    _, parts, beliefs = model.study(clip)
    told = []
    for t in range(4):
        h, c = model.memory(at(beliefs, t), clip.action[:, t])
        torch.testing.assert_close(h, beliefs["h"][:, t + 1])
        torch.testing.assert_close(c, beliefs["c"][:, t + 1])
        logits, mean, log_std = model.memory.out(h).reshape(3, 3, 6, 3).unbind(1)  # b z k each
        mixture = MixtureSameFamily(Categorical(logits=logits), Normal(mean, log_std.exp()))
        told.append(-mixture.log_prob(beliefs["z"][:, t + 1]))
    torch.testing.assert_close(parts["mdn"], torch.stack(told).mean())


def test_the_memory_teaches_the_eyes_nothing():
    model = WorldModels(TINY.model_copy(update={"vae_steps": 1}), VECTOR)
    clip = random_clip(VECTOR, 3, 4)
    loss, parts = model.loss(clip)
    loss.backward()
    assert parts.keys() == {"position", "speed", "kl"}
    assert not _taught(model.memory) and not _taught(model.reward) and _taught(model.vae)
    model.zero_grad()
    model.after_step()  # from here on the eyes are held still
    model.loss(clip)[0].backward()
    assert _taught(model.memory) and _taught(model.reward) and _taught(model.continues) and not _taught(model.vae)


def test_a_few_frames_of_each_clip_teach_the_eyes():
    torch.manual_seed(0)
    model = WorldModels(TINY.model_copy(update={"vae_frames": 2}), VECTOR)
    clip = random_clip(VECTOR, 3, 4)
    frames = model._frames(clip)["speed"]  # 6 2
    found = (frames[:, None, None] == clip.obs["speed"]).all(dim=-1).nonzero()  # which, of which clip, at what time
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4, 5] and found[:, 1].tolist() == [0, 0, 1, 1, 2, 2]
    assert len({tuple(place[1:].tolist()) for place in found}) == 6
    every = WorldModels(TINY, VECTOR)._frames(clip)["speed"]
    assert torch.equal(every, clip.obs["speed"].flatten(0, 1))


def test_predict_gives_the_likeliest_or_draws_at_a_temperature():
    torch.manual_seed(0)
    model = WorldModels(TINY, VECTOR)
    state = model.encode({name: torch.randn(1, *shape).repeat(4000, 1) for name, shape in VECTOR.obs.items()})
    action = torch.zeros(4000, 2)
    spreads = []
    for tau in (0.25, 1.0, 4.0):
        model.tau = tau
        spreads.append(model.predict(state, action, torch.Generator().manual_seed(0))["z"].std(dim=0))
    assert bool((spreads[0] < spreads[1]).all()) and bool((spreads[1] < spreads[2]).all())
    likeliest = model.predict(state, action)["z"]
    assert bool((likeliest == likeliest[:1]).all())


def test_energy_grows_with_the_way_that_a_dot_has_moved():
    """Of a decoder that shows what it is told: far beyond the dot's own width."""
    model = WorldModels(TINY, Spec({"pixels": (16, 16, 3)}, 2))
    dots = torch.zeros(9, 3, 16, 16)
    for i in range(9):
        dots[i, :, 4:6, i : i + 2] = 1
    model.vae.paint = _Slide(dots)
    place = model.vae.place(torch.zeros(9, 6))
    way = (place - place[0]).square().sum(dim=-1)
    steps = way.diff()
    assert way[0] == 0 and bool((steps > 0).all())
    torch.testing.assert_close(steps[3:], steps[3].expand(5), rtol=0.05, atol=0)


@pytest.mark.slow
def test_energy_of_taught_eyes_knows_how_far_a_dot_has_moved():
    """A goal ten pixels away is farther than one five pixels away, in pictures that do not overlap."""
    torch.manual_seed(0)
    spec = Spec({"pixels": (16, 16, 1)}, 2)
    model = WorldModels(TINY.model_copy(update={"depth": 8, "z": 8, "tolerance": 0.1, "vae_steps": 400}), spec)
    pictures = torch.zeros(13, 13, 16, 16, 1, dtype=torch.uint8)
    for y in range(13):
        for x in range(13):
            pictures[y, x, y : y + 3, x : x + 3] = 255
    every = pictures.flatten(0, 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(400):
        drawn = every[torch.randint(169, (32, 2), generator=rng)]
        nothing = torch.zeros(32, 1)
        optimiser.zero_grad()
        model.loss(Clip({"pixels": drawn}, torch.zeros(32, 1, 2), nothing, nothing.bool()))[0].backward()
        optimiser.step()
    model.eval()
    row = model.encode({"pixels": pictures[6]})  # a dot that moves from left to right
    start = {name: value[:1].expand(13, *value.shape[1:]) for name, value in row.items()}
    with torch.no_grad():
        way = model.energy(row, start)
    assert way[0] == 0 and way[5] > 2 * way[2] and way[11] > 1.5 * way[5], way


def test_the_fast_ways_are_those_of_every_model():
    """`imagine` and `prospects`, from a belief with a past."""
    torch.manual_seed(0)
    model = WorldModels(TINY, VECTOR).eval()
    clip = random_clip(VECTOR, 2, 3)
    state = at(model.watch(clip), 3)
    actions = torch.rand(2, 4, 5, 2) * 2 - 1
    fast, slow = model.imagine(state, actions), WorldModel.imagine(model, state, actions)
    for name in ("z", "h"):
        torch.testing.assert_close(fast[name], slow[name])
    nn.init.normal_(model.reward.stack[-1].weight)
    for found, expected in zip(model.prospects(state), WorldModel.prospects(model, state), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_model_without_heads_foretells_no_reward_and_no_end():
    model = WorldModels(TINY.model_copy(update={"reward": 0, "continues": 0}), VECTOR)
    state = model.encode(random_clip(VECTOR, 2, 1).at(0))
    assert model.decode(state).keys() == set(VECTOR.obs)
    with pytest.raises(UserError, match="no reward"):
        model.prospects(state)
    ending = WorldModels(TINY.model_copy(update={"continues": 0}), VECTOR)
    assert bool((ending.prospects(state)[1] == 1).all())


def test_loss_of_joined_episodes_counts_no_step_between_them():
    torch.manual_seed(0)
    model = WorldModels(TINY, VECTOR)
    clip = random_clip(VECTOR, 2, 4)
    first = torch.zeros(2, 5, dtype=torch.bool)
    first[:, 2] = True
    marked = Clip(clip.obs, clip.action, clip.reward, clip.terminated, first)
    other = clip.reward.clone()
    other[:, 1] = 1e4  # the reward that leads from one episode into the next
    again = Clip(clip.obs, clip.action, other, clip.terminated, first)
    found = []
    for each in (marked, again):
        torch.manual_seed(1)
        found.append(model.loss(each)[0])
    assert torch.equal(*found)
    assert bool((model.watch(marked)["h"][:, 2] == 0).all())


@pytest.mark.parametrize(
    ("change", "spec", "words"),
    [
        ({"image": "paper"}, Spec({"pixels": (32, 32, 3)}, 2), "image_size=64"),
        ({"image": "strided"}, Spec({"pixels": (18, 18, 3)}, 2), "divisible by 4"),
        ({}, Spec({"near": (16, 16, 3), "far": (32, 32, 3)}, 2), "set image_size"),
        ({"bins": 40}, VECTOR, "odd"),
    ],
)
def test_settings_that_do_not_fit_are_named(change, spec, words):
    with pytest.raises(UserError, match=words):
        WorldModels(TINY.model_copy(update=change), spec)


def test_encode_needs_state_and_action_together():
    model = WorldModels(TINY, VECTOR)
    clip = random_clip(VECTOR, 2, 1)
    with pytest.raises(UserError, match="neither"):
        model.encode(clip.at(0), None, clip.action[:, 0])


def test_a_clip_of_the_paper_begins_where_the_paper_begins():
    """Before anything is learnt a z of noise costs the entropy of a normal, and a picture a quarter of its pixels."""
    torch.manual_seed(0)
    model = WorldModels(WorldModels.presets["paper"].model_copy(update={"depth": 4}), RACE)
    _, parts = model.loss(random_clip(RACE, 2, 2))
    assert parts["kl"] >= 16 and 500 < parts["pixels"] < 6000
    assert 0.5 * math.log(2 * math.pi) < parts["mdn"] < 4


class _Grey(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return torch.full((len(z), 3, 16, 16), 0.5)


class _Slide(nn.Module):
    """A decoder that always shows the same pictures."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures = pictures

    def forward(self, z: Tensor) -> Tensor:
        return self.pictures


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _taught(module: nn.Module | None) -> bool:
    assert module is not None
    return any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
