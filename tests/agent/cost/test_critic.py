"""The critic: values that are known, ends and cuts, what it says of itself, and before it was ever taught."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from innerworld.agent.cost.cost import Cost
from innerworld.agent.cost.critic import TrainableCritic, TrainableCriticConfig
from innerworld.agent.cost.value_net import Piece, Returns, ValueNet
from innerworld.agent.memory.short_term import ShortTermMemory
from innerworld.agent.memory.tape import Episode
from innerworld.agent.modules import Imagined, Moment
from innerworld.errors import UserError
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.types import Spec

S, GAMMA = 10, 0.97
COST = torch.linspace(1, 0, S).square() * 3 + 0.2  # of being in each state of a chain
COST[-1] = 0
FAST = TrainableCriticConfig(units=32, lr=5e-3, refresh=10, discount=GAMMA, lam=0.8)


class Told:
    """A memory of these episodes."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._episodes = episodes

    def episodes(self, running: bool = False) -> Sequence[Episode]:
        return self._episodes


def episode(number: int, states: Sequence[int], ended: bool, goal: Tensor | None = None) -> Episode:
    t, where = len(states), torch.tensor(states)
    cost, none = COST[where], torch.zeros(t)
    features = one_hot(where, S).float()
    return Episode(number, ended, torch.arange(t), features, torch.zeros(t, 1), cost, none, none, goal)


def walks(count: int, longest: int, onward: float = 0.9) -> list[Episode]:
    """Along the chain: a step onward, else one back, until the last state or `longest` steps."""
    rng, found = Generator().manual_seed(0), []
    for number in range(count):
        states = [int(torch.randint(S - 1, (), generator=rng))]
        while states[-1] < S - 1 and len(states) < longest:
            step = 1 if float(torch.rand((), generator=rng)) < onward else -1
            states.append(max(0, states[-1] + step))
        found.append(episode(number, states, states[-1] == S - 1))
    return found


def true_values(onward: float = 0.9) -> Tensor:
    """V = P c + γ P V, solved: what comes after each state."""
    chance = torch.zeros(S, S)
    for state in range(S - 1):
        chance[state, state + 1] += onward
        chance[state, max(0, state - 1)] += 1 - onward
    return torch.linalg.solve(torch.eye(S) - GAMMA * chance, chance @ COST)


def r2(found: Tensor, true: Tensor) -> float:
    return 1 - float((found - true).square().sum() / (true - true.mean()).square().sum())


@pytest.mark.parametrize("longest", [1000, 6], ids=["whole episodes", "cut after six"])
def test_it_learns_the_true_values_of_a_chain(longest: int) -> None:
    """Of which most episodes may be cut off long before the end: then only what it guesses itself tells of the rest."""
    critic = TrainableCritic(FAST)
    told = critic.learn(Told(walks(400, longest)), steps=400)
    values = critic.value(torch.eye(S))
    assert r2(values, true_values()) > 0.99
    assert told["samples"] > 1000 and told["episodes"] == 320 and told["held_out"] == 80
    assert abs(told["bias"]) < 0.5 and 0.8 < told["slope"] < 1.2
    assert told["r2"] > 0.7 if longest > 6 else told["guessed"] > 0.3


def test_where_nothing_is_left_to_chance_it_foretells_what_it_has_not_seen() -> None:
    critic = TrainableCritic(FAST)
    told = critic.learn(Told(walks(200, 1000, onward=1.0)), steps=300)
    assert told["r2"] > 0.99 and abs(told["slope"] - 1) < 0.05 and told["guessed"] == 0
    assert r2(critic.value(torch.eye(S)), true_values(1.0)) > 0.99


def test_a_cut_is_no_end() -> None:
    """A world that costs 1 a step for ever: V = 1 / (1 - γ), but of episodes that end after four steps at most 4."""
    still = torch.ones(4, 1)
    config = FAST.model_copy(update={"discount": 0.5})
    found = []
    for ended in (True, False):
        rows = [
            Episode(i, ended, torch.arange(4), still, torch.zeros(4, 1), torch.ones(4), still[:, 0], still[:, 0])
            for i in range(4)
        ]
        critic = TrainableCritic(config)
        critic.learn(Told(rows), steps=200)
        found.append(float(critic.value(torch.ones(1))))
    with_ends, cut = found
    assert abs(cut - 2) < 0.1
    assert abs(with_ends - (1.75 + 1.5 + 1 + 0) / 4) < 0.1  # the mean of what came after each of the four


def test_returns_against_the_formula() -> None:
    rng = Generator().manual_seed(0)
    pieces = [
        Piece(0, torch.randn(5, 2, generator=rng), torch.rand(5, generator=rng), ended=True),
        Piece(1, torch.randn(3, 2, generator=rng), torch.rand(3, generator=rng), ended=False),
        Piece(2, torch.randn(1, 2, generator=rng), torch.rand(1, generator=rng), ended=True),
    ]
    net = ValueNet(2, 8, 1)
    torch.nn.init.normal_(net.net.stack[-1].weight, generator=rng)  # pyright: ignore
    returns, gamma, lam = Returns(pieces, 0.9), 0.9, 0.7
    with torch.no_grad():
        expected = []
        for piece in pieces:
            value, t = net(piece.seen), len(piece)
            after = torch.zeros(()) if piece.ended else value[-1]
            found = [torch.zeros(())] if piece.ended else []
            for i in reversed(range(t - 1)):
                onward = after if i == t - 2 else (1 - lam) * value[i + 1] + lam * found[0]
                found.insert(0, piece.cost[i + 1] + gamma * onward)
            expected += found
        torch.testing.assert_close(returns(net, lam), torch.stack(expected))
    assert len(returns.seen) == 5 + 2 + 1
    torch.testing.assert_close(returns.guess, torch.tensor([0, 0, 0, 0, 0, 0.9**2, 0.9, 0]))


def test_costs_that_are_nearly_alike_add_up_to_a_large_mean() -> None:
    """1000 a step, give or take 1, for ever: V is near 1000 / (1 - γ), many deviations from 0."""
    rng = Generator().manual_seed(0)
    rows = []
    for number in range(20):
        place = torch.randn(30, 2, generator=rng)
        cost = 1000 + place[:, 0]
        rows.append(Episode(number, False, torch.arange(30), place, place, cost, cost, cost))
    critic = TrainableCritic(FAST.model_copy(update={"discount": 0.9}))
    critic.learn(Told(rows), steps=300)
    found = critic.value(torch.randn(50, 2, generator=rng))
    assert bool(((found - 10_000).abs() < 100).all())


def test_moments_that_are_not_finite_cut_an_episode() -> None:
    """What is remembered beside them is as good as without them."""
    whole = walks(200, 1000, onward=1.0)
    broken = []
    for each in whole:
        features, cost = each.features.clone(), each.cost.clone()
        if each.number % 2 and len(each) > 4:
            features[1], cost[3] = torch.nan, torch.inf
        broken.append(Episode(each.number, each.ended, each.time, features, each.action, cost, cost, cost))
    critic = TrainableCritic(FAST)
    told = critic.learn(Told(broken), steps=300)
    assert math.isfinite(told["loss"]) and r2(critic.value(torch.eye(S)), true_values(1.0)) > 0.99


def test_it_learns_from_short_term_memory() -> None:
    memory = ShortTermMemory()
    for _ in range(30):
        memory.begin(2)
        for t in range(S):
            state, none = one_hot(torch.tensor([t, t]), S).float(), torch.zeros(2)
            memory.remember(Moment(t, state, torch.zeros(2, 1), COST[[t, t]], none, none))
        memory.end(torch.tensor([0, 1]))
    critic = TrainableCritic(FAST)
    told = critic.learn(memory, steps=200)
    assert told["samples"] == 48 * S and told["held_out"] == 12
    assert r2(critic.value(torch.eye(S)), true_values(1.0)) > 0.99


def test_with_goals_the_value_is_of_what_is_pursued() -> None:
    """Going right costs 1 a step until the goal is reached: V depends on the goal alone where the place is the same."""
    rows = []
    for number in range(60):
        goal = number % 6 + 1
        place = torch.arange(goal + 1.0)[:, None]
        cost = (place[:, 0] < goal).float()
        aim = torch.full_like(place, goal)
        rows.append(Episode(number, True, torch.arange(goal + 1), place, place, cost, cost, cost, aim))
    critic = TrainableCritic(FAST.model_copy(update={"goals": True, "discount": 0.9}))
    critic.learn(Told(rows), steps=400)
    goals = torch.arange(1.0, 7.0)[:, None]
    found = critic.value(torch.zeros(6, 4, 1), goals)
    assert found.shape == (6, 4)
    true = torch.tensor([sum(0.9**i for i in range(int(goal) - 1)) for goal in goals])
    assert r2(found[:, 0], true) > 0.98
    with pytest.raises(UserError, match="features of what is pursued"):
        critic.value(torch.zeros(6, 1))
    with pytest.raises(UserError, match="pursue"):
        critic.learn(Told(walks(3, 5)))


@pytest.mark.parametrize("goals", [False, True])
def test_it_is_a_term_of_the_cost(goals: bool) -> None:
    model = Oracle(OracleConfig(), Spec({"state": (S,)}, 1), lambda obs, action: obs)
    rows = [episode(i, [i % S, (i + 1) % S], False, torch.eye(S)[[i % S, i % S]]) for i in range(30)]
    critic = TrainableCritic(FAST.model_copy(update={"goals": goals}))
    critic.learn(Told(rows), steps=20)
    states = torch.rand(2, 4, 3, S, generator=Generator().manual_seed(0))  # b n h
    start, goal, actions = {"state": torch.zeros(2, S)}, {"state": torch.eye(S)[:2]}, torch.zeros(2, 4, 3, 1)
    cost = Cost((), critic=critic).cost([Imagined(model, start, {"state": states}, actions, goal)], {})
    torch.testing.assert_close(cost, critic.value(states[:, :, -1], goal["state"]) / 3)


def test_never_taught_it_expects_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    critic = TrainableCritic()
    for _ in range(2):
        assert torch.equal(critic.value(torch.rand(2, 3, 5)), torch.zeros(2, 3))
    assert not critic.taught and [record.message for record in caplog.records] == [
        "the critic was never taught: it expects no cost to come (told once)"
    ]


def test_without_memory_it_stays_untaught(caplog: pytest.LogCaptureFixture) -> None:
    critic = TrainableCritic()
    with caplog.at_level(logging.WARNING):
        assert critic.learn(ShortTermMemory()) == {"samples": 0, "episodes": 0, "held_out": 0}
    assert "nothing to learn from" in caplog.text and not critic.taught
    assert critic.learn(Told([episode(0, [3], False)]))["samples"] == 0  # nothing is known of what came after


def test_a_row_does_not_depend_on_the_others_and_gradients_flow() -> None:
    critic = TrainableCritic(FAST)
    critic.learn(Told(walks(20, 20)), steps=20)
    features = torch.randn(3, 4, S, generator=Generator().manual_seed(0), requires_grad=True)
    values = critic.value(features)
    torch.testing.assert_close(critic.value(features[1, 2]), values[1, 2])
    (gradient,) = torch.autograd.grad(values[1, 2], features)
    assert bool(gradient[1, 2].any()) and not bool(gradient[0].any())


def test_learning_is_repeatable_goes_on_and_leaves_the_world_s_dice_alone() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        critic = TrainableCritic(FAST)
        with torch.no_grad():  # as inside an agent's act
            critic.learn(Told(walks(40, 20)), steps=30)
            first = critic.value(torch.eye(S))
            critic.learn(Told(walks(40, 20)), steps=30)
        found.append((first, critic.value(torch.eye(S)), torch.rand(3)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert not torch.equal(found[0][0], found[0][1])
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), found[0][2])


def test_a_restart_is_bit_exact(tmp_path: Path) -> None:
    before, after = TrainableCritic(FAST), TrainableCritic(FAST)
    before.learn(Told(walks(40, 20)), steps=30)
    before.save(tmp_path)
    after.load(tmp_path)
    assert torch.equal(before.value(torch.eye(S)), after.value(torch.eye(S)))
    for critic in (before, after):
        critic.learn(Told(walks(40, 20)), steps=30)
    assert torch.equal(before.value(torch.eye(S)), after.value(torch.eye(S)))
    TrainableCritic(FAST).save(tmp_path)
    after.load(tmp_path)
    assert not after.taught


def test_a_critic_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    critic = TrainableCritic(FAST)
    critic.learn(Told(walks(10, 20)), steps=2)
    with pytest.raises(UserError, match="features of 4 numbers, the critic was taught with 10"):
        critic.value(torch.zeros(2, 4))
    critic.save(tmp_path)
    with pytest.raises(UserError, match=r"has units=32, this one units=64"):
        TrainableCritic(FAST.model_copy(update={"units": 64})).load(tmp_path)
    tensors = next(tmp_path.glob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(UserError, match=tensors.name):
        TrainableCritic(FAST).load(tmp_path)
