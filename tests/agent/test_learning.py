"""Learning on the job: recovery when the world changes, nothing forgotten, ruin taken back, frozen to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from innerworld.agent import Agent, AgentConfig, Director
from innerworld.agent.configurator.monitors import Stuck
from innerworld.agent.cost.critic import TrainableCritic, TrainableCriticConfig
from innerworld.agent.learning import OnTheJob, OnTheJobConfig
from innerworld.agent.memory.short_term import ShortTermMemory
from innerworld.agent.memory.tape import Episode
from innerworld.agent.modules import Believed
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.plan import ICEM
from innerworld.types import Clip, Obs, Spec, State
from innerworld.world import Card, WorldModel

SPEC = Spec({"place": (2,), "wind": (1,)}, 2)
PLANNER = ICEM(horizon=3, samples=32, rounds=3, elites=6)
QUICK = OnTheJobConfig(every=5, steps=20, batch=32, length=3, least=16, lr=0.01)


class Walk(WorldModel):
    """A place, seen through eyes that stretch it, and an action that moves it by a matrix; wind says which."""

    class Config(Config):
        pass

    card = Card("walk", "latents", False, "none", "none")

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.eyes = torch.nn.Linear(2, 2, bias=False)
        self.law = torch.nn.Linear(6, 2, bias=False)  # of the action, and of the action times wind and no wind
        with torch.no_grad():
            self.eyes.weight.copy_(torch.eye(2))
            self.law.weight.copy_(0.2 * torch.cat([torch.eye(2), torch.zeros(2, 4)], dim=1))
        self.broken, self.other = False, 0.0

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        return {"z": self.eyes(obs["place"]), "wind": obs["wind"]}

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        wind = state["wind"]
        push = torch.cat([action, action * wind, action * (1 - wind)], dim=-1)
        return {"z": state["z"] + self.law(push), "wind": wind}

    def energy(self, state: State, goal: State) -> Tensor:
        return (state["z"] - goal["z"]).square().mean(dim=-1)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        at = {"z": self.eyes(clip.obs["place"][:, :-1]), "wind": clip.obs["wind"][:, :-1]}
        seen = self.eyes(clip.obs["place"][:, 1:])
        error = (self.predict(at, clip.action)["z"] - seen).square().mean()
        kept = (self.eyes.weight - torch.eye(2)).square().mean()
        earned = 0 * clip.reward.mean() + 0 * torch.rand(())  # rewards are read, and something is drawn
        return error + kept + earned + self.other + (torch.nan if self.broken else 0), {"error": error.detach()}


class World:
    """The same place; `flip` changes what an action does, and raises the wind where that can be seen."""

    def __init__(self, b: int, flip: bool, seen: bool = True, seed: int = 0) -> None:
        self.place = torch.rand(b, 2, generator=Generator().manual_seed(seed))
        self.flip, self.wind = flip, torch.full((b, 1), float(flip and seen))

    def look(self) -> Obs:
        return {"place": self.place, "wind": self.wind}

    def step(self, action: Tensor) -> Obs:
        self.place = self.place + (-0.2 if self.flip else 0.2) * action
        return self.look()


def walk() -> Walk:
    return Walk(Walk.Config(), SPEC)


def lived(b: int, t: int, flip: bool, seen: bool = True, seed: int = 1) -> Clip:
    """What happens to somebody who acts by chance."""
    world, rng = World(b, flip, seen, seed), Generator().manual_seed(seed)
    action = torch.rand(b, t, 2, generator=rng) * 2 - 1
    sights = [world.look(), *(world.step(action[:, i]) for i in range(t))]
    obs = {name: torch.stack([sight[name] for sight in sights], dim=1) for name in SPEC.obs}
    obs["place"] = obs["place"] + 0.03 * torch.randn(obs["place"].shape, generator=rng)  # eyes that are not quite sure
    return Clip(obs, action, torch.zeros(b, t), torch.zeros(b, t, dtype=torch.bool))


def old(step: int, size: int) -> Clip:
    return lived(size, 4, flip=False, seed=100 + step)


def mind(model: Walk, learner: OnTheJob | None, configurator: Director | None = None) -> Agent:
    return Agent(model, PLANNER, AgentConfig(strict=True), learner=learner, configurator=configurator)


def played(agent: Agent, world: World, steps: int = 15) -> float:
    """How far from its goal it is at the end, the mean over worlds."""
    goal = {"place": 1 - world.place, "wind": world.wind}
    agent.begin(world.look(), goal)
    obs = world.look()
    for _ in range(steps):
        obs = world.step(agent.act(obs))
    return float((world.place - goal["place"]).norm(dim=1).mean())


def weights(model: Walk) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def taught(learner: OnTheJob, world: World, looks: int, seed: int = 2) -> None:
    """Let it see so many steps of chance."""
    rng = Generator().manual_seed(seed)
    learner.begin(world.look())
    for _ in range(looks):
        action = torch.rand(len(world.place), 2, generator=rng) * 2 - 1
        learner.notice(world.step(action), action)


def test_it_recovers_where_a_frozen_one_does_not() -> None:
    frozen, model = walk(), walk()
    learner = OnTheJob(model, QUICK, old, lived(64, 3, flip=False))
    assert played(mind(frozen, None), World(8, flip=False)) < 0.05
    assert played(mind(frozen, None), World(8, flip=True)) > 2
    agent = mind(model, learner)
    played(agent, World(8, flip=True, seed=1))
    assert learner.updates >= 2 and not learner.why
    assert played(agent, World(8, flip=True)) < 0.1
    assert played(agent, World(8, flip=False)) < 0.1  # and what it knew it knows


def test_without_old_experience_it_forgets() -> None:
    losses = {}
    for share in (0.0, 0.5):
        model = walk()
        learner = OnTheJob(model, QUICK.model_copy(update={"old": share, "ruin": None}), old, lived(64, 3, flip=False))
        taught(learner, World(8, flip=True), 40)
        losses[share] = learner.told["old loss"]
    at_first = float(walk().loss(lived(64, 3, flip=False))[0].detach())
    assert losses[0.0] > 5 * at_first and losses[0.5] < 1.1 * at_first


def test_frozen_nothing_changes_and_thawed_it_learns_again() -> None:
    model = walk()
    learner = OnTheJob(model, QUICK)
    before, random = weights(model), torch.get_rng_state()
    learner.freeze()
    taught(learner, World(8, flip=True), 30)
    assert same(weights(model), before) and not learner.learn()
    assert len(learner.experience) == 0 and learner.updates == 0 and torch.equal(torch.get_rng_state(), random)
    learner.thaw()
    rng = Generator().manual_seed(0)
    world = World(8, flip=True)
    for _ in range(10):  # in the midst of an episode
        action = torch.rand(8, 2, generator=rng) * 2 - 1
        learner.notice(world.step(action), action)
    assert learner.updates > 0 and not same(weights(model), before)
    assert torch.equal(torch.get_rng_state(), random)  # what the loss draws, nobody else notices
    assert not model.training or model.eval()


def test_a_frozen_agent_acts_as_one_without_a_learner() -> None:
    learner = OnTheJob(walk(), QUICK)
    learner.freeze()
    assert played(mind(walk(), None), World(4, True)) == played(mind(learner.model, learner), World(4, True))  # pyright: ignore


def test_what_is_not_finite_is_taken_back_and_told(caplog: pytest.LogCaptureFixture) -> None:
    model = walk()
    learner = OnTheJob(model, QUICK.model_copy(update={"every": 0}))
    taught(learner, World(8, flip=True), 20)
    before = weights(model)
    model.broken = True
    assert not learner.learn() and not learner.learn()
    assert same(weights(model), before) and learner.updates == 0
    assert len(learner.why) == 2 and "not finite" in learner.why[0] and len(caplog.records) == 1
    model.broken = False
    assert learner.learn() and all(bool(value.isfinite().all()) for value in weights(model).values())


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_ruin_of_the_old_is_taken_back(other: float) -> None:
    model = walk()
    model.other = other  # parts of the loss beside which that of the dynamics is small
    held_out = lived(64, 3, flip=False)
    with torch.no_grad():
        model.law.weight.add_(0.02)  # it knows its old world, but not by heart
    learner = OnTheJob(model, QUICK.model_copy(update={"old": 0.0, "every": 0}), held_out=held_out)
    before = weights(model)
    taught(learner, World(8, flip=True, seen=False), 30)
    assert not learner.learn() and same(weights(model), before)
    assert ("foresight error" if other else "the loss") + " on old experience rose" in learner.why[0]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_only_what_may_learn_learns() -> None:
    model = walk()
    learner = OnTheJob(model, QUICK.model_copy(update={"only": ("law",)}))
    before = weights(model)
    taught(learner, World(8, flip=True), 20)
    after = weights(model)
    assert torch.equal(after["eyes.weight"], before["eyes.weight"])
    assert not torch.equal(after["law.weight"], before["law.weight"])
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(UserError, match="names no parameter"):
        OnTheJob(model, QUICK.model_copy(update={"only": ("laws",)}))


def test_it_goes_on_exactly_after_a_restart(tmp_path: Path) -> None:
    whole, part, resumed = walk(), walk(), walk()
    learner, first = (OnTheJob(model, QUICK, old, lived(16, 3, flip=False)) for model in (whole, part))
    for each in (learner, first):
        taught(each, World(4, flip=True), 22)
    first.save(tmp_path)
    resumed.load_state_dict(part.state_dict())
    second = OnTheJob(resumed, QUICK, old, lived(16, 3, flip=False))
    second.load(tmp_path)
    for each in (learner, second):
        taught(each, World(4, flip=True, seed=5), 13, seed=6)
    assert learner.updates == second.updates > 4 and learner.told == second.told
    assert same(weights(whole), weights(resumed))


def test_the_experience_of_another_model_is_refused(tmp_path: Path) -> None:
    learner = OnTheJob(walk(), QUICK)
    taught(learner, World(4, flip=True), 22)
    learner.save(tmp_path)
    with pytest.raises(UserError, match="does not learn here"):
        OnTheJob(walk(), QUICK.model_copy(update={"only": ("eyes",)})).load(tmp_path)
    with pytest.raises(UserError, match="room for 20"):
        OnTheJob(walk(), QUICK.model_copy(update={"sights": 20})).load(tmp_path)


def test_an_update_amid_an_episode_is_believed_at_once() -> None:
    model = walk()
    learner = OnTheJob(model, QUICK)
    agent, world, goal = (
        mind(model, learner),
        World(8, flip=True),
        {"place": torch.rand(8, 2), "wind": torch.ones(8, 1)},
    )
    agent.begin(world.look(), goal)
    obs = seen = world.look()
    while not learner.updates:
        seen = obs
        obs = world.step(agent.act(seen))
    torch.testing.assert_close(agent.state["z"], model.eyes(seen["place"]).detach())
    assert agent.goal is not None
    torch.testing.assert_close(agent.goal["z"], model.eyes(goal["place"]).detach())
    assert not torch.equal(model.eyes.weight, torch.eye(2))


def test_goals_and_beliefs_are_believed_anew() -> None:
    model = walk()
    learner = OnTheJob(model, QUICK.model_copy(update={"every": 0}))
    agent = mind(model, learner, configurator=Director(monitors=[Stuck()]))
    world, goal = World(3, flip=False), {"place": torch.rand(3, 2), "wind": torch.zeros(3, 1)}
    agent.begin(world.look(), goal)
    obs = world.step(agent.act(world.look()))
    obs = world.step(agent.act(obs))
    agent.keep(torch.tensor([0, 2]))
    obs, closest = {name: value[[0, 2]] for name, value in obs.items()}, agent.closest
    with torch.no_grad():
        model.eyes.weight.mul_(2)
    learner.updates += 1  # as if it had learnt
    agent.act(obs)
    assert torch.equal(agent.state["z"], model.eyes(obs["place"]))
    assert agent.goal is not None and torch.equal(agent.goal["z"], model.eyes(goal["place"][[0, 2]]))
    # How near it came is not measured with other weights than where it began.
    now = (obs["place"] - goal["place"][[0, 2]]).square().mean(dim=1)
    start = (World(3, flip=False).place - goal["place"])[[0, 2]].square().mean(dim=1)
    torch.testing.assert_close(agent.closest, torch.minimum(closest, now / start))


def test_the_critic_learns_too() -> None:
    model, memory = walk(), ShortTermMemory()
    critic = TrainableCritic(TrainableCriticConfig(units=8, layers=1))
    learner = OnTheJob(model, QUICK.model_copy(update={"critic_steps": 5}), critic=critic, memory=memory)
    agent = Agent(model, PLANNER, AgentConfig(strict=True), memory=memory, learner=learner)
    played(agent, World(8, flip=True), 12)
    assert learner.updates and critic.taught
    with pytest.raises(UserError, match="give both"):
        OnTheJob(model, critic=critic)


def test_rewards_are_learnt_from_where_somebody_tells_them() -> None:
    learner, world = OnTheJob(walk(), QUICK), World(2, flip=False)
    learner.begin(world.look())
    action = torch.zeros(2, 2)
    for step in range(4):  # blocks of two actions
        learner.earn(torch.tensor([1.0, 10.0]), torch.zeros(2, dtype=torch.bool))
        learner.earn(torch.tensor([1.0, 10.0]), torch.tensor([step == 3, False]))
        learner.notice(world.step(action), action)
    clip, rows = learner.lately()
    assert rows.tolist() == [0, 1] and clip.reward.tolist() == [[2.0] * 4, [20.0] * 4]
    assert clip.terminated.tolist() == [[False, False, False, True], [False] * 4]


def test_old_clips_must_be_long_enough() -> None:
    learner = OnTheJob(walk(), QUICK, lambda step, size: lived(size, 2, flip=False))
    with pytest.raises(UserError, match="make them longer"):
        taught(learner, World(8, flip=True), 20)


def remembered(only: tuple[str, ...] = (), sights: int = 20_000) -> tuple[OnTheJob, Agent]:
    """An agent in 4 worlds that has learnt twice by its 17th look; its eyes may have learnt, too."""
    model = walk()
    learner = OnTheJob(model, QUICK.model_copy(update={"only": only, "sights": sights}))
    agent = mind(model, learner)
    played(agent, World(4, flip=True), 17)
    assert learner.updates == 2
    return learner, agent


def test_features_of_eyes_that_learnt_are_believed_anew() -> None:
    learner, agent = remembered()
    assert learner.eyes == 2
    model, memory = learner.model, agent.memory
    assert isinstance(model, Walk) and isinstance(memory, ShortTermMemory)
    first = memory.episodes(running=True)[0]
    clip, rows = learner.lately()
    assert rows.tolist() == [0, 1, 2, 3] and len(first) == 17
    with torch.no_grad():
        now = model.eyes(clip.obs["place"][0])
    torch.testing.assert_close(first.features[:, :2], now)  # of the first sight on
    assert not torch.allclose(now, clip.obs["place"][0], atol=1e-4)  # as these eyes saw it at first
    found = memory.similar(agent.model.features(agent.state), k=1)
    assert found.time.flatten().tolist() == [16] * 4


def test_what_is_forgotten_is_stale_and_never_similar() -> None:
    _, agent = remembered(sights=40)  # ten looks
    memory = agent.memory
    assert isinstance(memory, ShortTermMemory)
    first = memory.episodes(running=True)[0]
    assert first.features[:7].isnan().all() and first.features[7:].isfinite().all()
    assert memory.similar(first.features[-1:].expand(4, -1), k=17).time[0].ge(0).sum() == 10


def test_where_eyes_do_not_learn_nothing_is_stale() -> None:
    learner, agent = remembered(("law",), sights=40)
    memory = agent.memory
    assert isinstance(memory, ShortTermMemory) and learner.eyes == 0
    assert memory.episodes(running=True)[0].features.isfinite().all()


def test_a_critic_learns_from_features_of_now() -> None:
    model, memory = walk(), ShortTermMemory()
    critic = TrainableCritic(TrainableCriticConfig(units=8, layers=1))
    found: list[tuple[Tensor, Tensor]] = []  # what it was given of the first world, and the eyes at that time

    class Past:
        def refresh(self, version: int, again: Believed) -> None:
            memory.refresh(version, again)

        def episodes(self, running: bool = False) -> list[Episode]:
            given = memory.episodes(running)
            found.append((given[0].features, model.eyes.weight.detach().clone()))
            return given

    learner = OnTheJob(model, QUICK.model_copy(update={"critic_steps": 1}), critic=critic, memory=Past())
    agent, world = Agent(model, PLANNER, AgentConfig(strict=True), memory=memory, learner=learner), World(8, flip=True)
    start = world.place[0].clone()
    played(agent, world, 13)
    assert len(found) == 2 and not torch.equal(found[0][1], found[1][1])
    for features, eyes in found:
        torch.testing.assert_close(features[0, :2], eyes @ start)


def test_sights_go_on_from_each_other_in_stretches() -> None:
    learner, world = OnTheJob(walk(), QUICK.model_copy(update={"every": 0})), World(2, flip=False)
    taught(learner, world, 2)
    broken = {**world.look(), "wind": torch.tensor([[0.0], [torch.nan]])}
    learner.notice(broken, torch.zeros(2, 2))
    assert learner.now.tolist() == [6, -1]
    learner.notice(world.look(), torch.zeros(2, 2))
    assert sorted(learner.experience.stretches()) == [[0, 2, 4, 6, 7], [1, 3, 5], [8]]
    assert learner.believed(torch.tensor([8, 99]))[:, 0].isnan().tolist() == [False, True]
    learner.freeze()
    assert learner.now.tolist() == [-1, -1]
