import pytest
import torch
from torch import Generator, Tensor, nn

from innerworld.errors import UserError
from innerworld.models import latent_world
from innerworld.models.rssm import RSSM
from innerworld.nn.distributions import OneHot
from innerworld.testing.world_model import check_world_model, random_clip
from innerworld.types import Clip, Spec
from innerworld.world import WorldModel, at

TINY = RSSM.Config(deter=64, hidden=32, stoch=8, classes=4, depth=8, units=32, layers=1, image="strided", mults=(1, 2))
VECTOR = Spec({"position": (3,), "speed": (2,)}, 2)
MIXED = Spec({"pixels": (16, 16, 3), "touch": (16, 16, 1), "speed": (2,)}, 3, discrete=True)


@pytest.mark.parametrize(
    ("latent", "spec"),
    [("categorical", VECTOR), ("gaussian", VECTOR), pytest.param("categorical", MIXED, marks=pytest.mark.slow)],
    ids=["categorical-vector", "gaussian-vector", "categorical-mixed"],
)
def test_contract(latent, spec):
    check_world_model(lambda spec: RSSM(TINY.model_copy(update={"latent": latent}), spec), spec)


def test_contract_of_the_papers_image_networks_seen_small():
    config = TINY.model_copy(update={"image": "maxpool", "kernel": 3, "image_size": 8, "reward": 0, "continues": 0})
    check_world_model(lambda spec: RSSM(config, spec), Spec({"pixels": (16, 24, 3)}, 2))


def test_parameter_counts_of_the_1m_model_are_the_papers():
    model = RSSM(RSSM.presets["1m"], Spec({"state": (24,)}, 6))
    count = {name: _count(part) for name, part in model.named_children()}
    assert count["cell"] + count["prior"] + count["posterior"] == 364_416
    assert count["encoder"] == 10_112
    assert count["decoder"] == 51_096
    assert count["reward"] == 57_663
    assert count["continues"] == 41_153
    assert _count(model) == 524_440


@pytest.mark.parametrize(
    ("preset", "shape", "total"),
    [
        ("1m", (24,), 640_867),
        ("12m", (24,), 9_738_019),
        ("25m", (24,), 21_782_947),
        ("50m", (24,), 38_612_003),
        ("1m", (64, 64, 3), 686_846),
        ("12m", (64, 64, 3), 10_494_158),
        ("25m", (64, 64, 3), 23_489_326),
        ("50m", (64, 64, 3), 41_650_062),
        ("100m", (64, 64, 3), 93_468_238),
        ("200m", (64, 64, 3), 165_948_686),
    ],
)
def test_parameter_counts_with_actor_and_critic_are_the_papers(preset, shape, total):
    config = RSSM.presets[preset]
    with torch.device("meta"):
        model = RSSM(config, Spec({"sensor": shape}, 6))
    feat, u = config.deter + config.stoch * config.classes, config.units
    trunk = feat * u + 2 * u + 2 * (u * u + 2 * u)  # three layers with bias and RMS scale
    actor, critic = trunk + 12 * (u + 1), trunk + 255 * (u + 1)
    assert _count(model) + actor + critic == total


def test_reward_is_exactly_zero_at_the_start():
    model = RSSM(TINY, VECTOR)
    state = model.encode(random_clip(VECTOR, 3, 1).at(0))
    assert torch.equal(model.decode(state)["reward"], torch.zeros(3))


def test_heads_of_no_weight_are_left_out():
    model = RSSM(TINY.model_copy(update={"reward": 0, "continues": 0}), VECTOR)
    assert set(model.decode(model.encode(random_clip(VECTOR, 2, 1).at(0)))) == {"position", "speed"}


def test_loss_follows_the_steps_of_encode():
    """A latent that is sure of itself leaves nothing to chance: the loss's beliefs are then `encode`'s."""
    torch.manual_seed(0)
    model = RSSM(TINY, MIXED)
    clip = random_clip(MIXED, 2, 4)
    with torch.no_grad():
        model.posterior.out.weight.mul_(10_000)
        sure = RSSM(TINY.model_copy(update={"unimix": 0.0}), MIXED)
        sure.load_state_dict(model.state_dict())
        tokens, _ = sure.encoder(clip.obs)
        deter, stoch, _ = sure._follow(tokens, clip, sample=True)
        steps = WorldModel.watch(sure, clip)
    torch.testing.assert_close(deter, steps["deter"], atol=1e-4, rtol=0)
    torch.testing.assert_close(stoch, steps["stoch"], atol=1e-4, rtol=0)


def test_loss_matches_its_definition():
    """The parts of the loss, put together one step at a time from the public verbs' own networks."""
    torch.manual_seed(0)
    model = RSSM(TINY.model_copy(update={"latent": "gaussian", "free_nats": 0.5}), VECTOR)
    clip = random_clip(VECTOR, 2, 3)
    torch.manual_seed(1)
    loss, parts = model.loss(clip)
    weighted = sum(parts[name] for name in ("position", "speed", "dyn", "reward", "continue"))
    torch.testing.assert_close(loss, weighted + 0.1 * parts["rep"])
    assert parts["dyn"] >= 0.5 and parts["rep"] >= 0.5
    torch.testing.assert_close(parts["dyn"], parts["rep"])  # equal values, other gradients


def test_a_terminated_step_ends():
    torch.manual_seed(0)
    model = RSSM(TINY, VECTOR)
    clip = random_clip(VECTOR, 16, 4)
    clip.terminated[:] = clip.obs["speed"][:, 1:, 0] > 0  # speaks for the step that *leads to* the observation
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(clip)[0].backward()
        optimiser.step()
    with torch.no_grad():
        chance = torch.stack([model.decode(at(model.watch(clip), t + 1))["continue"] for t in range(4)], dim=1)
    right = (chance < 0.5) == clip.terminated
    assert right.float().mean() > 0.9


def test_a_seeded_prediction_is_a_draw():
    torch.manual_seed(0)
    model = RSSM(TINY, VECTOR)
    clip = random_clip(VECTOR, 8, 1)
    state = model.encode(clip.at(0))
    one, two = (model.predict(state, clip.action[:, 0], Generator().manual_seed(seed))["stoch"] for seed in (1, 2))
    assert not torch.equal(one, two)
    torch.testing.assert_close(one.sum(dim=-1), torch.ones(8, 8))


def test_pictures_in_portions_count_as_at_once(monkeypatch):
    """The same loss and gradients, also where the last portion is smaller than the others."""
    torch.manual_seed(0)
    model, clip, found = RSSM(TINY, MIXED), random_clip(MIXED, b=3, t=4), []
    for frames in (10**6, 10):  # 3 rows, then 2 and 1
        monkeypatch.setattr(latent_world, "FRAMES", frames)
        model.zero_grad()
        torch.manual_seed(1)
        loss, parts = model.loss(clip)
        loss.backward()
        found.append([loss.detach(), *parts.values(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for whole, portions in zip(*found, strict=True):
        torch.testing.assert_close(portions, whole, rtol=1e-4, atol=1e-5)


def test_softened_latents_harden_step_by_step():
    torch.manual_seed(0)
    model = RSSM(TINY.model_copy(update={"soften": 4}), VECTOR)
    latent = OneHot.mixed(torch.randn(5, 8, 4))
    torch.testing.assert_close(model._draw(latent), latent.logits.exp())
    model.after_step()
    softness = []
    for _ in range(4):
        softness.append((model._draw(latent).max(dim=-1).values < 0.999).float().mean())
        model.after_step()
    assert softness[0] > 0.9 and softness[-1] == 0


def test_large_actions_are_scaled_to_one():
    model = RSSM(TINY, VECTOR)
    torch.testing.assert_close(
        model.cell.push(torch.tensor([[5.0, -3.0]])), model.cell.push(torch.tensor([[1.0, -1.0]]))
    )


def test_energy_grows_with_the_way_that_a_dot_has_moved():
    """Of a decoder that shows what it is told: far beyond the dot's own width."""
    spec = Spec({"pixels": (16, 16, 3)}, 2)
    model = RSSM(TINY, spec)
    dots = torch.zeros(9, 3, 16, 16)
    for i in range(9):
        dots[i, :, 4:6, i : i + 2] = 1
    model.decoder.conv = _Slide(dots)
    place = model.decoder.place(torch.zeros(9, 64), torch.zeros(9, 96))
    way = (place - place[0]).square().sum(dim=-1)
    steps = way.diff()
    assert way[0] == 0 and bool((steps > 0).all())
    torch.testing.assert_close(steps[3:], steps[3].expand(5), rtol=0.05, atol=0)


def test_pictures_of_different_sizes_need_image_size():
    spec = Spec({"near": (16, 16, 3), "far": (32, 32, 3)}, 2)
    with pytest.raises(UserError, match="image_size"):
        RSSM(TINY, spec)
    model = RSSM(TINY.model_copy(update={"image_size": 16}), spec)
    seen = model.decode(model.encode(random_clip(spec, 2, 1).at(0)))
    assert seen["near"].shape == (2, 16, 16, 3) and seen["far"].shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"deter": 36}, "blocks"),
        ({"image": "maxpool", "kernel": 4}, "odd"),
        ({"bins": 254}, "odd"),
    ],
)
def test_settings_that_do_not_fit_are_named(change, words):
    with pytest.raises(UserError, match=words):
        RSSM(TINY.model_copy(update=change), MIXED)


def test_encode_needs_state_and_action_together():
    model = RSSM(TINY, VECTOR)
    clip = random_clip(VECTOR, 2, 1)
    with pytest.raises(UserError, match="neither"):
        model.encode(clip.at(0), None, clip.action[:, 0])


class _Slide(nn.Module):
    """A decoder that always shows the same pictures."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures = pictures

    def forward(self, start: Tensor) -> Tensor:
        return self.pictures


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_from_a_past_beliefs_go_on_as_if_they_had_never_stopped(latent):
    model = RSSM(TINY.model_copy(update={"latent": latent}), VECTOR).eval()
    clip = random_clip(VECTOR, 3, 6)
    whole = model.watch(clip)
    past = model.packed(at(whole, 2))
    assert past["deter"].dtype == torch.float16
    rest = clip.cut(2, 4)
    tokens, _ = model.encoder({name: value[:, 1:] for name, value in rest.obs.items()})
    later = Clip(rest.obs, rest.action, rest.reward, rest.terminated, past=past)
    deter, stoch, _ = model._follow(tokens, later, sample=False)
    assert torch.allclose(deter, whole["deter"][:, 3:], atol=2e-3)  # half precision
    assert torch.allclose(stoch, whole["stoch"][:, 3:], atol=5e-3)
    beliefs = model.watch(later)
    assert beliefs["deter"].shape[1] == 5 and torch.equal(beliefs["deter"][:, 0], past["deter"].float())


def test_where_an_episode_begins_nothing_of_the_last_is_remembered():
    model = RSSM(TINY, VECTOR).eval()
    clip = random_clip(VECTOR, 2, 6)
    first = torch.zeros(2, 7, dtype=torch.bool)
    first[1, 4] = True  # row 1 only
    joined = Clip(clip.obs, clip.action, clip.reward, clip.terminated, first)
    found, whole, fresh = model.watch(joined), model.watch(clip), model.watch(clip.cut(4, 2))
    assert torch.allclose(found["deter"][0], whole["deter"][0], atol=1e-6)
    assert torch.allclose(found["deter"][1, :4], whole["deter"][1, :4], atol=1e-6)
    assert torch.allclose(found["deter"][1, 4:], fresh["deter"][1], atol=1e-6)
    assert not torch.allclose(found["deter"][1, 4:], whole["deter"][1, 4:], atol=1e-3)


def test_the_step_between_two_episodes_teaches_neither_reward_nor_end():
    model = RSSM(TINY, VECTOR).eval()
    clip = random_clip(VECTOR, 2, 5)
    first = torch.zeros(2, 6, dtype=torch.bool)
    first[:, 3] = True
    losses = []
    for odd in (0.0, 100.0):
        reward = clip.reward.clone()
        reward[:, 2] = odd
        torch.manual_seed(0)
        losses.append(model.loss(Clip(clip.obs, clip.action, reward, clip.terminated, first))[0])
    assert torch.equal(*losses)
