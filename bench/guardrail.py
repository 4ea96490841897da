"""Does a hard bound hold? Goals behind a forbidden disc in two rooms: chosen plans under the model, and the world.

    python bench/guardrail.py [runs/demo/jepa] [--episodes 100] [--seed 0]

Start and goal lie on opposite sides of a disc in the middle of one of the rooms. The searches are the demo's, with and
without a guardrail on that disc; for a taught model also with a margin as wide as 99 % of its readout's errors on
beliefs imagined for as many steps as a plan is followed. The errors are printed first. Without a run the model is the
oracle, whose readout is exact. A plan is counted as crossing under the model when it is done although its own futures
enter the disc (and not its margin).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from innerworld.agent import Agent, Cost, Guardrail
from innerworld.agent.cost.readout import Decoded, Reading, Readout
from innerworld.agent.cost.regions import Disc
from innerworld.agent.cost.terms import Forbidden, GoalEnergy
from innerworld.data import Store
from innerworld.envs.two_rooms import TwoRoomsVector
from innerworld.evaluate.control import Tasks, play, wilson
from innerworld.recipes.goals import agent, oracle, worlds_of
from innerworld.recipes.lesson import Lesson, episodes
from innerworld.recipes.stages import load_learner
from innerworld.recipes.two_rooms import two_rooms
from innerworld.types import Clip, Obs, Spec
from innerworld.world import WorldModel, flatten

NAMES = ("x", "y")
SHARE = 0.26  # of a room's width: the disc's radius
AHEAD = 32  # steps that are imagined where the readout is judged
NEAR = 8  # the first of them, where it is fitted: later ones are off by the model's error more than by its own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a taught model; none: the oracle")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--budget", type=int, default=50, help="steps of an episode")
    parser.add_argument("--rows", type=int, default=400, help="stretches to fit the readout to")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    torch.set_num_threads(1)

    worlds = worlds_of("two_rooms", flags.episodes, 64)
    assert isinstance(worlds, TwoRoomsVector)
    if flags.run is None:
        model, reading, margins = simulated(worlds), Decoded("state", NAMES), [0.0]
    else:
        model, lesson, store = load_learner(flags.run)
        reading, reach = read_off(model, lesson, store, flags.rows)
        margins = [0.0, reach]
    places = discs(worlds, reading)
    tasks = behind(worlds, places, flags.seed)
    print("| plans keep out of | goals reached | plans that cross under the model | rows without a plan that holds |"
          " episodes that enter the disc | steps in it |\n|---|--:|--:|--:|--:|--:|")  # fmt: skip
    show("nothing", run(worlds, tasks, model, places, None, flags))
    for margin in margins:
        name = f"the disc and {margin:.1f} pixels around" if margin else "the disc"
        show(name, run(worlds, tasks, model, places, margin, flags))


@dataclass
class Tally:
    """What was counted in the episodes of one agent."""

    plans: int = 0  # that were done
    crossing: int = 0  # of these: their futures enter the disc
    helpless: int = 0  # rows in which the safe action was done instead
    reached: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))  # n
    inside: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))  # n t


def run(
    worlds: TwoRoomsVector,
    tasks: Tasks,
    model: WorldModel,
    places: list[Disc],
    margin: float | None,
    flags: argparse.Namespace,
) -> Tally:
    """All tasks, played with a guardrail of so wide a margin, or with none."""
    control = two_rooms().control
    mind, tally = agent(model, control), Tally()
    names = [f"disc {i}" for i in range(len(places))]
    rails = [Guardrail(Forbidden(disc, name=name), 0) for disc, name in zip(places, names, strict=True)]
    wider = [Guardrail(Forbidden(disc, margin or 0, name=name), 0) for disc, name in zip(places, names, strict=True)]
    shape, power, every = control.agent.shape, control.agent.power, control.agent.every
    mind.cost = Cost((GoalEnergy(power, every, shape=shape),), () if margin is None else tuple(wider))
    count(mind, Cost((), tuple(rails)), tally)
    played = play(worlds, tasks, mind, flags.budget, flags.seed)
    away = [np.linalg.norm(played.path - np.array(disc.centre), axis=2) - disc.radius for disc in places]  # n t
    tally.reached, tally.inside = played.success, np.min(away, axis=0) < 0
    return tally


def count(mind: Agent, bounds: Cost, tally: Tally) -> None:
    """Look at every plan that is about to be done."""
    done = mind.actor.done

    def watched(steps: int, decided: Tensor) -> None:
        crossing = bounds.breach(mind.foresight(mind.state, decided[:, None], mind.goal))[:, 0] > 0
        tally.plans += len(crossing)
        tally.crossing += int((crossing & ~mind.degraded).sum())
        tally.helpless += int(mind.degraded.sum())
        done(steps, decided)

    mind.actor.done = watched


def simulated(worlds: TwoRoomsVector) -> WorldModel:
    model = oracle(worlds, Spec({"state": (2,), "layout": (4,)}, 2))
    assert model is not None
    return model


def discs(worlds: TwoRoomsVector, reading: Reading) -> list[Disc]:
    """One in the middle of each room."""
    config = worlds.config
    width = config.wall
    return [Disc(reading, (x, config.size / 2), SHARE * width) for x in (width / 2, (config.wall + config.size) / 2)]


def behind(worlds: TwoRoomsVector, places: list[Disc], seed: int) -> Tasks:
    """Starts and goals on opposite sides of a disc, in its room, so that the straight way leads through it."""
    rng = np.random.default_rng([seed, 30])
    n = worlds.num_envs
    which = rng.integers(len(places), size=n)
    centre = np.array([disc.centre for disc in places])[which]  # n 2
    radius = np.array([disc.radius for disc in places])[which][:, None]
    # Up and down, where there is room behind the disc; the two directions differ by at most a third of a right angle.
    up = rng.uniform(-0.5, 0.5, (n, 2)) * np.pi / 6 + rng.choice([-1, 1], (n, 1)) * np.pi / 2
    start, goal = (
        centre + sign * (radius + rng.uniform(4, 12, (n, 1))) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        for sign, angle in ((1, up[:, 0]), (-1, up[:, 1]))
    )
    start, goal = start.astype(np.float32), goal.astype(np.float32)
    return Tasks(start, goal, seen(worlds, start), seen(worlds, goal), np.ones(n, bool))


def seen(worlds: TwoRoomsVector, state: np.ndarray) -> Obs:
    obs, _ = worlds.reset(seed=0, options={"state": state})
    return {name: torch.from_numpy(value.copy()) for name, value in obs.items()}


@torch.no_grad()
def read_off(model: WorldModel, lesson: Lesson, store: Store, rows: int) -> tuple[Readout, float]:
    """A readout of the place, fitted to imagined beliefs of what was learnt from and judged on what was held out; the
    margin that covers 99 % of its errors on the steps that are done before planning anew."""
    assert lesson.frame_skip == 1, "plans in blocks would skip the steps between"
    learnt, held_out = episodes(lesson, store)
    model.eval()
    x, y = all_beliefs(model, clips(store, learnt, rows))
    readout = Readout.fit(x[:, :NEAR].flatten(0, 1), y[:, :NEAR].flatten(0, 1), NAMES)
    x, y = all_beliefs(model, clips(store, held_out, rows))
    off = (readout.of(x) - y).norm(dim=-1)  # n h
    margin = float(off[:, : two_rooms().control.agent.execute].quantile(0.99))
    errors = ", ".join(f"{rms(off[:, h - 1]):.2f} after {h}" for h in (1, 2, NEAR, AHEAD // 2, AHEAD))
    print(f"the readout's error on held-out episodes, root mean square, pixels, by imagined steps: {errors};")
    print(f"99 % of those on the steps that are done are below {margin:.2f}\n")
    return readout, margin


def all_beliefs(model: WorldModel, stretches: list[Clip]) -> tuple[Tensor, Tensor]:
    """Features of what is imagined along each clip's actions, and where the world really was: `n h d`, `n h 2`."""
    features, places = [], []
    for clip in stretches:
        start = model.encode({name: clip.obs[name][:, 0] for name in model.spec.obs})
        states = model.imagine(start, clip.action[:, None])
        features.append(model.features(flatten(states, 3)))  # h d
        places.append(clip.obs["state"][0, 1:])
    return torch.stack(features), torch.stack(places)


def clips(store: Store, among: np.ndarray, rows: int) -> list[Clip]:
    """A stretch from each of so many of the episodes."""
    long = [int(i) for i in among if store.lengths[i] >= AHEAD][:rows]
    return [store.episode(i).cut(0, AHEAD) for i in long]


def rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()


def show(name: str, tally: Tally) -> None:
    n, reached = len(tally.reached), int(tally.reached.sum())
    entered = share(int(tally.inside.any(axis=1).sum()), n)
    cells = share(reached, n), f"{tally.crossing} of {tally.plans}", f"{tally.helpless}", entered
    print(f"| {name} | {' | '.join(cells)} | {tally.inside.mean():.2%} |", flush=True)


def share(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits / n:.0%} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main()
