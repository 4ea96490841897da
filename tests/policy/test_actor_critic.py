"""Learning to act in imagination: what is imagined, from where, how it counts, and that it teaches to act."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.policy.actor_critic import ActorCritic, ActorCriticConfig
from innerworld.policy.returns import lambda_returns
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

SMALL = {"units": 32}


class Line(WorldModel):
    """A place `z` on a line; each action moves it by a tenth. Reward is the place, the world ends beyond 9."""

    card = Card(name="Line", predicts="latents", decodes=True, backbone="none", paper="none")

    class Config(Config):
        """Nothing to set."""

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": obs["x"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        push = action[:, :1] - action[:, 1:2] if self.spec.discrete else action.clamp(-1, 1)
        return {"z": state["z"] + 0.1 * push}

    def decode(self, state: State) -> dict[str, Tensor]:
        z = state["z"].squeeze(-1)
        return {"reward": z, "continue": (z < 9).float()}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).abs().sum(-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(()), {}


class Silent(Line):
    """The same, but it tells neither reward nor end."""

    def decode(self, state: State) -> dict[str, Tensor]:
        return {"x": state["z"]}


CONTINUOUS, DISCRETE = Spec({"x": (1,)}, 1), Spec({"x": (1,)}, 2, discrete=True)


def _made(spec: Spec = CONTINUOUS, **changes: Any) -> tuple[Line, ActorCritic]:
    torch.manual_seed(0)
    values = {"actor": SMALL, "critic": SMALL, "horizon": 4} | changes
    return Line(Line.Config(), spec), ActorCritic(ActorCriticConfig.model_validate(values), 1, spec)


def _clip(spec: Spec, b: int = 3, t: int = 5, scale: float = 1.0) -> Clip:
    rng = Generator().manual_seed(0)
    x = scale * torch.randn(b, t + 1, 1, generator=rng)
    action = torch.zeros(b, t, spec.action)
    return Clip({"x": x}, action, x[:, 1:, 0].clone(), torch.zeros(b, t, dtype=torch.bool))


def _seen(mind: ActorCritic, monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """From where it imagines, from now on."""
    found: list[State] = []
    imagine = mind.imagine
    monkeypatch.setattr(
        mind, "imagine", lambda world, starts, *rest: found.append(starts) or imagine(world, starts, *rest)
    )
    return found


def test_it_imagines_from_every_belief(monkeypatch: pytest.MonkeyPatch) -> None:
    world, mind = _made()
    clip = _clip(CONTINUOUS)
    found = _seen(mind, monkeypatch)
    mind.loss(world, world.watch(clip), clip)
    assert torch.equal(found[0]["z"], clip.obs["x"])


def test_a_past_is_no_start_and_starts_can_be_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = _clip(CONTINUOUS)
    after_past = replace(clip, past={"z": clip.obs["x"][:, 0]})
    for starts, given, begin in ((0, after_past, 1), (2, clip, 4), (2, after_past, 4), (99, after_past, 1)):
        world, mind = _made(starts=starts)
        found = _seen(mind, monkeypatch)
        mind.loss(world, world.watch(clip), given)
        assert torch.equal(found[0]["z"], clip.obs["x"][:, begin:])


def test_a_single_belief_suffices() -> None:
    world, mind = _made(starts=1)
    clip = _clip(CONTINUOUS)
    loss, parts = mind.loss(world, world.watch(clip), clip)
    assert bool(loss.isfinite()) and "critic_lived" not in parts


def test_the_loss_is_what_the_paper_says() -> None:
    """Put together once more from what was imagined, time by time."""
    world, mind = _made(DISCRETE, critic=SMALL | {"outscale": 0.3}, discount=0.9, normalise=False)
    clip = _clip(DISCRETE)
    beliefs = world.watch(clip)
    torch.manual_seed(3)
    loss, parts = mind.loss(world, beliefs, clip)
    torch.manual_seed(3)
    rng = Generator().manual_seed(int(torch.randint(2**62, ())))
    start = beliefs["z"].flatten(0, 1)
    trail = mind.imagine(world, beliefs, start, rng)
    value = mind.critic(torch.stack(trail.features)).mean()
    actor = critic = torch.zeros(len(start))
    weight = torch.ones(len(start)) / 0.9
    returns = lambda_returns(trail.reward[1:].T, 0.9 * trail.going[1:].T, value[1:].T, 0.95).T
    for t in range(4):
        weight = weight * 0.9 * trail.going[t]
        choice, verdict = mind.actor(trail.features[t]), mind.critic(trail.features[t])
        gain = choice.log_prob(trail.actions[t]) * (returns[t] - value[t]).detach() + 3e-4 * choice.entropy()
        slow = mind.critic.slowly(trail.features[t]).mean()
        actor = actor - weight * gain / 4
        miss = verdict.losses(returns[t].detach()[:, None]) + verdict.losses(slow[:, None])
        critic = critic + weight * miss.squeeze(-1) / 4
    torch.testing.assert_close(parts["actor"], actor.mean().detach())
    torch.testing.assert_close(parts["critic"], critic.mean().detach())
    torch.testing.assert_close(loss.detach(), parts["actor"] + parts["critic"] + 0.3 * parts["critic_lived"])


def test_what_begins_after_the_end_does_not_count() -> None:
    """Of beliefs in which the world is over nothing is learnt: the root's own continuation is a weight."""
    world, mind = _made(replay=0.0)
    clip = _clip(CONTINUOUS)
    over = {"z": torch.full((3, 6, 1), 20.0)}
    loss, parts = mind.loss(world, over, clip)
    assert parts["actor"] == 0 and parts["critic"] == 0
    loss.backward()
    assert not any(parameter.grad.any() for parameter in mind.actor.parameters() if parameter.grad is not None)


def test_a_step_is_discounted_once_whatever_the_world_tells() -> None:
    """Where "continue" contains the discount, nothing is added; where it is a mere chance, the discount is."""
    _, tells = _made(discount=0.9)
    world = Line(Line.Config(), CONTINUOUS)
    contains = ActorCritic(tells.config, 1, CONTINUOUS, told=0.9)
    contains.load_state_dict(tells.state_dict())
    discounted = Line(Line.Config(), CONTINUOUS)
    chance = discounted.prospects
    discounted.prospects = lambda state: (chance(state)[0], 0.9 * chance(state)[1])  # type: ignore[method-assign]
    clip = _clip(CONTINUOUS)
    found = []
    for mind, of in ((tells, world), (contains, discounted)):
        torch.manual_seed(5)
        found.append(mind.loss(of, world.watch(clip), clip)[1])
    torch.testing.assert_close(found[0]["return"], found[1]["return"])
    torch.testing.assert_close(0.9 * found[0]["actor"], found[1]["actor"])  # the root's own discount, as upstream


@pytest.mark.parametrize("gradients", ["reinforce", "dynamics", "mixed"])
def test_imagining_teaches_the_world_nothing(gradients: str) -> None:
    world, mind = _made(gradients=gradients, replay=0.0, critic=SMALL | {"outscale": 1.0})
    world.tilt = torch.nn.Parameter(torch.ones(1))
    step = world.predict
    world.predict = lambda state, action, rng=None: {"z": world.tilt * step(state, action)["z"]}  # type: ignore[method-assign]
    clip = _clip(CONTINUOUS)
    beliefs = {"z": clip.obs["x"].clone().requires_grad_()}
    mind.loss(world, beliefs, clip)[0].backward()
    assert world.tilt.grad is None and world.tilt.requires_grad and beliefs["z"].grad is None
    assert all(p.grad is not None for p in (*mind.actor.parameters(), *mind.critic.net.parameters()))


def test_the_critic_on_what_was_lived_teaches_the_beliefs() -> None:
    world, mind = _made(critic=SMALL | {"outscale": 1.0})
    clip = _clip(CONTINUOUS)
    beliefs = {"z": clip.obs["x"].clone().requires_grad_()}
    mind.loss(world, beliefs, clip)[0].backward()
    gradient = beliefs["z"].grad
    assert gradient is not None and bool(gradient[:, :-1].any()) and not gradient[:, -1].any()


def test_a_step_into_the_next_episode_teaches_nothing() -> None:
    world, mind = _made(critic=SMALL | {"outscale": 1.0})
    mind.eval()  # the range of returns stays
    clip = _clip(CONTINUOUS)
    first = torch.zeros(3, 6, dtype=torch.bool)
    first[:, 3] = True
    losses = []
    for odd in (0.0, 100.0):
        reward = clip.reward.clone()
        reward[:, 2] = odd
        torch.manual_seed(0)
        losses.append(mind.loss(world, world.watch(clip), replace(clip, reward=reward, first=first))[0])
    assert torch.equal(*losses)


def test_the_range_of_returns_is_followed_only_while_learning() -> None:
    world, mind = _made()
    clip = _clip(CONTINUOUS, scale=50.0)
    mind.eval().loss(world, world.watch(clip), clip)
    assert mind.scale.high == 0
    mind.train().loss(world, world.watch(clip), clip)
    assert mind.scale.high > 0


def test_a_world_that_tells_no_reward_is_named() -> None:
    _, mind = _made()
    world = Silent(Line.Config(), CONTINUOUS)
    clip = _clip(CONTINUOUS)
    with pytest.raises(UserError, match="reward"):
        mind.loss(world, world.watch(clip), clip)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
@pytest.mark.parametrize("gradients", ["reinforce", "dynamics", "mixed"])
def test_it_learns_to_act(gradients: str, spec: Spec) -> None:
    """Further right is better, and each choice tells only later: the sure actor of the end always goes right."""
    world, mind = _made(spec, gradients=gradients, horizon=3, discount=0.9)
    clip = _clip(spec, b=8, t=3)
    beliefs = world.watch(clip)
    optimiser = torch.optim.Adam([p for p in mind.parameters() if p.requires_grad], lr=1e-2)
    right = lambda: mind.actor(beliefs["z"].flatten(0, 1)).latent.expected().detach()[:, 0, 0].mean()
    before = float(right())
    for _ in range(80):
        optimiser.zero_grad()
        mind.loss(world, beliefs, clip)[0].backward()
        optimiser.step()
        mind.follow()
    assert abs(before - (0.5 if spec.discrete else 0)) < 0.1 and float(right()) > 0.8
