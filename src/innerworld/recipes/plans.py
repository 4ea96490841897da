"""Pictures of planning: the way that was imagined and walked, drawn over the world, and the energy over the actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray

from innerworld.agent import Agent, goal_cost
from innerworld.data import Store
from innerworld.energy import Landscape, action_landscape, of_plans, plan_landscape, principal
from innerworld.recipes.goals import agent
from innerworld.recipes.stages import Outcome
from innerworld.recipes.two_rooms import Control
from innerworld.report import Picture, Section
from innerworld.types import Obs, State, each
from innerworld.world import WorldModel

PLANS = 6
HELD = 4  # steps of the world for which each action of a landscape is done
TRIED, ELITES = 128, 16  # random plans, and how many of the best span the plane that is drawn
PLANE = 11  # points of that plane each way
NEAR, FAR = np.array([20, 40, 90]), np.array([250, 235, 180])  # colours of the least and the largest energy
NOWHERE = np.array([255, 255, 255])  # and of what has none
ACTIONS = (
    f"The energy to the goal after doing one action for {HELD} imagined steps of the world (at least a block) from "
    "the start, over its two dimensions, from -1 to 1: the first to the right, the second downwards. Dark is near."
)
PLANES = (
    " Where an action has more or fewer numbers: the energy after whole plans, around the mean of the best "
    f"{ELITES} of {TRIED} random ones, over the two directions in which these spread most, 1.5 deviations each way, "
    "now being that of the middle; white is out of bounds."
)


def drawn_plans(
    outcome: Outcome, store: Store, control: Control, seed: int, own: Mapping[str, Control] = MappingProxyType({})
) -> Section:
    """Of some tasks of each model: the first plan as it was imagined, and the way that it walked."""
    pictures = []
    for name, model in outcome.models.items():
        probe = outcome.knowledge[name].probe
        if probe is None or outcome.tasks is None or "pixels" not in store.spec.obs:
            continue
        rows = _chosen(outcome, name)
        mind = agent(model, own.get(name, control), outcome.skips.get(name, 1))
        planned = _planned(mind, outcome, rows, probe, seed)
        for k, row in enumerate(rows):
            played = outcome.played[name]
            walked = played.path[row, : int(played.steps[row]) + 1, :2]
            end = "reached" if played.success[row] else "not reached"
            start, goal = outcome.tasks.start[row], outcome.tasks.goal[row]
            pictures.append(
                Picture(
                    f"{name}, episode {row}: {end} after {int(played.steps[row])} steps",
                    outcome.tasks.goal_obs["pixels"][row].numpy(),
                    [("first plan, as imagined", planned[k]), ("walked", walked)],
                    [("start", (float(start[0]), float(start[1]))), ("goal", (float(goal[0]), float(goal[1])))],
                )
            )
    text = (
        "The picture is the goal as it was given. The imagined way is read off the imagined beliefs by a linear probe; "
        "the first plan is only the first: the agent plans anew as it goes. "
        "Failures are shown first where there are any."
    )
    return Section("The plan, drawn over the world", text, pictures)


@torch.no_grad()
def drawn_landscapes(outcome: Outcome) -> Section | None:
    """Of the same tasks: the energy over the first action, or over plans where an action is no pair of numbers.

    None where all models choose.
    """
    pictures, planes = [], False
    for name, model in outcome.models.items():
        block = outcome.skips.get(name, 1)
        if model.spec.discrete or not model.spec.action or outcome.tasks is None:
            continue
        pair = model.spec.action == 2 * block
        for row in _chosen(outcome, name):
            seen = (outcome.tasks.start_obs, outcome.tasks.goal_obs)
            start, goal = (model.encode(_seen(obs, model, [row])) for obs in seen)
            found = (_over_actions if pair else over_plans)(model, start, goal, block)
            pictures.append(landscape_picture(found, f"{name}, episode {row}", [("lowest", found.best)]))
            planes = planes or not pair
    return Section("The energy over the actions", ACTIONS + (PLANES if planes else ""), pictures) if pictures else None


def over_plans(model: WorldModel, start: State, goal: State, block: int = 1) -> Landscape:
    """The energy over a plane of plans: around the mean of the best of random ones, where these spread most."""
    cost = goal_cost(model, start, goal, "last")
    h, size = max(2, HELD // block), model.spec.action  # of two steps or more, or one number would make no plane
    rng = torch.Generator().manual_seed(0)
    tried = (2 * torch.rand(TRIED, h, size, generator=rng) - 1).to(next(iter(goal.values())).device)  # n h a
    elites = tried[of_plans(cost)(tried).argsort()[:ELITES]]
    return plan_landscape(cost, elites.mean(dim=0), principal(elites), reach=1.5, points=PLANE)


def landscape_picture(found: Landscape, caption: str, marks: Sequence[tuple[str, tuple[float, float]]] = ()) -> Picture:
    """A landscape as a picture, a pixel for each point of its grid; `marks` are places on its axes.

    What has no energy, such as a plan out of bounds, is white.
    """
    low, high = np.nanmin(found.energy), np.nanmax(found.energy)
    share = (found.energy - low) / max(high - low, np.finfo(np.float64).tiny)
    colours = np.where(np.isnan(share)[..., None], NOWHERE, NEAR + share[..., None] * (FAR - NEAR))
    image = np.round(colours).astype(np.uint8)
    places = [(name, (_pixel(x, found.x), _pixel(y, found.y))) for name, (x, y) in marks]
    return Picture(f"{caption}: energy {low:.3g} to {high:.3g}, now {found.now:.3g}", image, marks=places)


def _over_actions(model: WorldModel, start: State, goal: State, block: int) -> Landscape:
    cost = goal_cost(model, start, goal, "last")
    now = float(model.energy(start, goal))
    return action_landscape(cost, model.spec, now, steps=max(1, HELD // block), block=block)


def _pixel(value: float, axis: NDArray[np.float64]) -> float:
    return float((value - axis[0]) / (axis[-1] - axis[0]) * (len(axis) - 1) + 0.5)


def _chosen(outcome: Outcome, name: str) -> list[int]:
    """Failures first, then goals in the other room, then the rest; a few of them."""
    played, tasks = outcome.played[name], outcome.tasks
    assert tasks is not None
    order = np.lexsort((~tasks.far[: len(played.success)], played.success))
    return order[: max(1, PLANS // len(outcome.models))].tolist()


@torch.no_grad()
def _planned(mind: Agent, outcome: Outcome, rows: Sequence[int], probe: Any, seed: int) -> np.ndarray:
    """The first plan of some tasks as positions `n h 2`, read off the imagined beliefs."""
    tasks = outcome.tasks
    assert tasks is not None
    start, goal, *via = (_seen(obs, mind.model, rows) for obs in (tasks.start_obs, tasks.goal_obs, *tasks.via_obs))
    mind.begin(start, goal, seed, via=via)
    mind.act(start)
    assert mind.plan is not None
    imagined = mind.model.imagine(mind.state, mind.plan.actions[:, None])
    n, h = mind.plan.actions.shape[:2]
    flat = each(lambda value: rearrange(value, "b n h ... -> (b n h) ..."), imagined)
    where = mind.model.features(flat).double() @ probe["weights"] + probe["intercept"]
    return where.reshape(n, h, -1)[..., :2].numpy()


def _seen(obs: Obs, model: WorldModel, rows: Sequence[int]) -> Obs:
    return {name: obs[name][list(rows)] for name in model.spec.obs}
