"""Waypoints: a graph of known places leads around walls that a plan cannot see past; a false edge is doubted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from innerworld.agent import Agent, AgentConfig, Director
from innerworld.agent.configurator.waypoints import Waypoints, WaypointsConfig, shortest, spread
from innerworld.envs.maze import MazeConfig, MazeVector
from innerworld.errors import UserError
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.plan import CEM
from innerworld.types import Obs, Spec, State

SPEC = Spec({"state": (2,)}, 2)
CONFIG = WaypointsConfig(nodes=60, samples=32)
PLANNER = CEM(horizon=8, samples=48, rounds=3, elites=8, noise_beta=2.0)


def maze(n: int = 1) -> MazeVector:
    return MazeVector(n, MazeConfig(layout="u"))


def truth(worlds: MazeVector) -> Oracle:
    return Oracle(OracleConfig(), SPEC, worlds.dynamics())


def places(n: int = 200) -> Obs:
    return {"state": torch.from_numpy(maze(n).reset(seed=0)[0]["state"])}


def cells(worlds: MazeVector, *at: tuple[float, float]) -> Obs:
    """The middles of cells, x and y."""
    return {"state": torch.tensor([[(x + 0.5) * worlds.cell, (y + 0.5) * worlds.cell] for x, y in at])}


def reached(mind: Agent, start: Obs, goal: Obs, worlds: MazeVector, budget: int = 40) -> np.ndarray:
    obs, _ = worlds.reset(options={"state": start["state"].numpy()})
    mind.begin(start, goal)
    done = np.zeros(worlds.num_envs, bool)
    for _ in range(budget):
        action = mind.act({"state": torch.from_numpy(obs["state"])})
        obs, *_ = worlds.step(action.numpy())
        done |= worlds.success(obs["state"], goal["state"].numpy())
    return done


def test_it_goes_round_a_wall_where_a_flat_plan_stays_before_it() -> None:
    """From one end of the u to the other: two cells as the crow flies, six along the corridor."""
    worlds = maze(2)
    start, goal = cells(worlds, (1, 1), (1, 3)), cells(worlds, (1, 3), (1, 1))
    config = AgentConfig(execute=4, power=0.5)
    flat = Agent(truth(worlds), PLANNER, config)
    mind = Agent(truth(worlds), PLANNER, config, configurator=Director(subgoals=Waypoints(places(), CONFIG)))
    assert not reached(flat, start, goal, worlds).any()
    assert reached(mind, start, goal, worlds).all()


@torch.no_grad()
def test_it_pursues_a_place_on_the_way_and_the_goal_where_that_is_near() -> None:
    worlds = maze()
    waypoints = Waypoints(places(), CONFIG)
    start: State = cells(worlds, (1, 1), (3, 2.8))
    goal: State = cells(worlds, (1, 3), (3, 3))
    waypoints.begin(truth(worlds), start, 0, 0)
    aim = waypoints.aim(start, goal)["state"]
    assert aim[0, 0] > 3 * worlds.cell and aim[0, 1] < 3 * worlds.cell  # at the other end of the upper corridor
    assert torch.equal(aim[1], goal["state"][1])


@torch.no_grad()
def test_the_graph_is_made_once_and_the_same_each_time() -> None:
    worlds = maze()
    model, start = truth(worlds), cells(worlds, (1, 1))
    first, again = Waypoints(places(), CONFIG), Waypoints(places(), CONFIG)
    first.begin(model, start, 0, 0)
    steps = first.steps
    first.begin(model, start, 5, 3)
    again.begin(model, start, 1, 0)
    assert first.steps is steps and torch.equal(again.steps, steps)
    assert steps.isfinite().all() and 12 < steps.max() < 20  # six cells at 0.4 a step


def chain(length: int) -> Tensor:
    """Places in a row, one step apart, and a false edge from the first to the last."""
    edges = torch.full((length, length), torch.inf).fill_diagonal_(0)
    for i in range(length - 1):
        edges[i, i + 1] = edges[i + 1, i] = 1
    edges[0, -1] = 1
    return edges


@torch.no_grad()
def test_a_way_that_leads_nowhere_becomes_longer_for_the_world_that_tried_it() -> None:
    row: Obs = {"state": torch.stack([torch.arange(6.0), torch.zeros(6)], dim=1)}
    config = WaypointsConfig(nodes=6, ahead=1, patience=2)
    waypoints = Waypoints(row, config)
    model, here = truth(maze()), {"state": torch.tensor([[0.0, 0.0], [4.0, 0.0]])}
    waypoints.begin(model, here, 0, 0)
    order = waypoints.nodes["state"][:, 0].argsort()
    back = order.argsort()
    waypoints.edges = chain(6)[back][:, back]
    waypoints.steps = shortest(waypoints.edges)
    waypoints.begin(model, here, 0, 0)
    goal = {"state": torch.tensor([[5.0, 0.0], [0.0, 0.0]])}
    pursued = [waypoints.aim(here, goal)["state"][0, 0].item() for _ in range(5)]
    assert pursued == [5, 5, 5, 5, 1]  # it stands still: the short way is none
    waypoints.keep(torch.tensor([0]))
    here, goal = ({"state": value["state"][:1]} for value in (here, goal))
    assert waypoints.aim(here, goal)["state"][0, 0] == 1
    waypoints.begin(model, here, 0, 0)
    assert waypoints.aim(here, goal)["state"][0, 0] == 5  # forgotten with the episode


@torch.no_grad()
def test_worlds_of_choices_have_a_graph_too() -> None:
    """Four choices, each a move along one axis: places in a row are as many steps apart as cells."""

    def law(obs: Obs, action: Tensor) -> Obs:
        return {"state": obs["state"] + action @ torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])}

    model = Oracle(OracleConfig(), Spec({"state": (2,)}, 4, discrete=True), law)
    row: Obs = {"state": torch.stack([torch.arange(6.0), torch.zeros(6)], dim=1)}
    waypoints = Waypoints(row, WaypointsConfig(nodes=6, samples=256, steps=3))
    waypoints.begin(model, row, 0, 0)
    x = waypoints.nodes["state"][:, 0]
    assert torch.equal(waypoints.steps, (x[:, None] - x).abs())


@torch.no_grad()
def test_recordings_say_what_was_done_whatever_the_model_imagines() -> None:
    """There and not back, and never from 2 to 3 though the model could."""
    ways = [{"state": torch.tensor([[float(x), 0.0] for x in way])} for way in ((0, 1, 2), (5, 4, 3, 2), (4, 3))]
    row: Obs = {"state": torch.stack([torch.arange(6.0), torch.zeros(6)], dim=1)}
    waypoints = Waypoints(row, WaypointsConfig(nodes=6, steps=2), ways)
    waypoints.begin(truth(maze()), row, 0, 0)
    order = waypoints.nodes["state"][:, 0].argsort()
    edges, steps = waypoints.edges[order][:, order], waypoints.steps[order][:, order]
    assert edges[0].tolist() == [0, 1, 2, torch.inf, torch.inf, torch.inf]
    assert edges[5].tolist() == [torch.inf, torch.inf, torch.inf, 2, 1, 0] and steps[5, 2] == 3
    assert steps[1, 0].isinf() and steps[2, 3].isinf()


def test_shortest_ways() -> None:
    left = shortest(chain(6))
    assert left[0, 5] == 1 and left[5, 0] == 5 and left[1, 5] == 2 and left[2, 5] == 3 and left[4, 1] == 3
    apart = torch.tensor([[0.0, torch.inf], [1.0, 0.0]])
    assert torch.equal(shortest(apart), apart)


def test_chosen_places_are_spread() -> None:
    line: State = {"state": torch.tensor([[0.0, 0.0], [0.1, 0.0], [10.0, 0.0], [5.0, 0.0], [0.2, 0.0]])}
    chosen, apart = spread(truth(maze()), line, 3)
    assert sorted(chosen.tolist()) == [0, 2, 3]
    energy = truth(maze()).energy({"state": line["state"][3:4]}, {"state": line["state"][:1]})
    torch.testing.assert_close(apart, energy[0])


def test_what_makes_no_graph() -> None:
    with pytest.raises(UserError, match="3 places for a graph of 60 nodes"):
        Waypoints(places(3), CONFIG).begin(truth(maze()), places(3), 0, 0)
    with pytest.raises(UserError, match="sights of one number"):
        Waypoints({})


def test_after_new_weights_places_are_believed_anew_and_the_next_episode_has_its_own_graph() -> None:
    worlds, aims = maze(), Waypoints(places(), CONFIG)
    model, start = truth(worlds), cells(maze(), (1, 1))
    aims.begin(model, model.encode(start), 0, 0)
    nodes, edges = aims.nodes, aims.edges
    aims.refresh(model)  # an oracle has no weights: all is as it was
    assert all(torch.equal(value, nodes[name]) for name, value in aims.nodes.items()) and aims.edges is edges
    aims.begin(model, model.encode(start), 0, 0)
    assert aims.edges is not edges and torch.equal(aims.edges, edges)
