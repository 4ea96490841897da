"""Evolve a linear controller, in the dream of a taught model or in its world, and see what it can do in the world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from gymnasium.vector import VectorEnv
from pydantic import Field
from torch import Generator, Tensor

from innerworld.config import Config
from innerworld.data import Clips, Store
from innerworld.data.lives import Lives, Over
from innerworld.envs import ENVS, make, spec_of
from innerworld.errors import UserError
from innerworld.evaluate.returns import Acts, AtRandom, earn, summary
from innerworld.lock import lock
from innerworld.log import Bar, progress
from innerworld.models.world_models import WorldModels
from innerworld.policy.controller import Controllers, Squash, check_squash, count
from innerworld.policy.evolution import CMAConfig, Fitness, Generation, dream_returns, evolve
from innerworld.recipes.believer import Believer, check_world
from innerworld.recipes.evolved import Evolved, Noted
from innerworld.recipes.goals import picture_size
from innerworld.recipes.lesson import Lesson, episodes
from innerworld.recipes.stages import load_learner
from innerworld.types import Spec
from innerworld.world import WorldModel, at

PAPER_SQUASH: dict[str, tuple[Squash, ...]] = {"CarRacing": ("tanh", "tanh", "rest")}
"""How the paper's actions lie, by the name of the world: steering, gas, brake."""
JUDGED_FROM = 1_000_003  # added to the seed of the episodes to be judged on, so that nobody has seen them
DREAMS = 64  # that tell what the dream promises of the controller that was found


class Evolution(Config):
    """How to evolve. The defaults are for a processor; the paper's are in `PRESETS`."""

    where: Literal["dream", "world"] = Field(default="dream", description="where controllers are judged")
    generations: int = Field(default=40, description="of the search, in all", ge=1)
    cma: CMAConfig = Field(default=CMAConfig(), description="the search")
    rollouts: int = Field(default=16, description="dreams or episodes by which a controller is judged", ge=1)
    horizon: int = Field(default=60, description="steps of a dream, blocks where frames were skipped", ge=1)
    context: int = Field(default=8, description="steps of a real episode that are watched before a dream begins", ge=1)
    tau: float | None = Field(
        default=None, description="temperature of the dream, of world_models only (none: the model's own)", gt=0
    )
    likely: bool = Field(default=False, description="dream what is most likely instead of drawing")
    squash: tuple[Squash, ...] | None = Field(
        default=None, description="tanh or rest, of each dimension of an action (none: the world's, else tanh)"
    )
    seed: int = Field(default=0, description="of the dreams' beginnings and draws, or of the episodes", ge=0)


PRESETS = {
    # Ha & Schmidhuber 2018, CarRacing: 1,800 generations in the world itself.
    "paper": Evolution(where="world", generations=1800, cma=CMAConfig(population=64), rollouts=16),
    "small": Evolution(),
}


@dataclass(frozen=True)
class Course:
    """The world that a controller acts in: that of the store, unless another is named."""

    env: str
    size: int
    max_steps: int | None
    sensors: tuple[str, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    repeat: int

    @classmethod
    def of(cls, store: Store, world: WorldModel, env: str | None, max_steps: int | None) -> Course:
        """Raises `UserError` where neither the store nor the user names a world."""
        about = store.meta.about
        name = env or about.env
        if not name:
            raise UserError(f"{store.path} names no environment: give one with --env")
        steps, repeat = about.more.get("max_steps"), about.more.get("action_repeat")
        return cls(
            name,
            picture_size(store.spec),
            max_steps or (steps if isinstance(steps, int) else None),
            tuple(world.spec.obs),
            about.action_low,
            about.action_high,
            repeat if isinstance(repeat, int) else 1,
        )

    def make(self, n: int) -> VectorEnv:
        own = self.env in ENVS  # shows all its sensors, and has bounds of its own
        return make(
            self.env,
            n,
            self.size,
            max_steps=self.max_steps,
            sensors=None if own else self.sensors,
            action_low=None if own else _few(self.low),
            action_high=None if own else _few(self.high),
            action_repeat=self.repeat,
        )


def evolve_run(
    folder: Path,
    evolution: Evolution = Evolution(),
    env: str | None = None,
    data: Path | None = None,
    max_steps: int | None = None,
    judged: int = 16,
    worlds: int = 8,
    quiet: bool = False,
    command: str = "",
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Evolve a controller of the model taught in `folder`, beside which it is kept, and judge it in the world.

    `max_steps` is the longest episode of the world (none: as the store's), `judged` the episodes that the controller
    and, on the same ones, random actions are judged by. Called again it goes on where it was interrupted; more
    generations may be asked for. Raises `UserError`.
    """
    world, taught, store = load_learner(folder, data)
    world = world.to(device or torch.device("cpu"))
    evolution = _settled(evolution, world, env or store.meta.about.env, taught.frame_skip)
    course = Course.of(store, world, env, max_steps)
    noted = Noted(evolution=evolution.model_dump(mode="json"))
    if evolution.where == "world":  # a dream is the same whatever world it is judged in
        noted = noted.model_copy(update={"env": course.env, "max_steps": course.max_steps})
    with lock(folder, "run"), closing(course.make(min(worlds, max(judged, evolution.rollouts)))) as envs:
        seen = spec_of(envs.single_observation_space, envs.single_action_space)
        check_world(seen, world, taught.frame_skip, course.env)
        ground = _Ground(world, taught, store, evolution, envs, seen)
        home = Evolved.begin(folder / f"evolved-{evolution.where}", noted, command)
        weights = _search(home, ground, quiet)
        results = _judge(ground, weights, judged, quiet)
    home.keep_results(results)
    return {"run": str(folder), "controller": str(home.folder), "parameters": weights.numel(), **results}


def load_controller(folder: Path, world: WorldModel, taught: Lesson) -> Controllers:
    """The controller that was evolved into `folder` for that model: a policy. Raises `UserError`."""
    weights, noted = Evolved.read(folder)
    squash = Evolution.model_validate(noted.evolution).squash
    return Controllers(weights[None], world.spec, world.features, squash or (), taught.frame_skip)


@dataclass(frozen=True)
class _Ground:
    """What controllers are made for and judged on."""

    world: WorldModel
    taught: Lesson
    store: Store
    evolution: Evolution
    envs: VectorEnv
    seen: Spec

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.world.parameters()), torch.device("cpu"))

    def controllers(self, weights: Tensor) -> Controllers:
        squash = self.evolution.squash or ()
        return Controllers(
            weights.to(self.device), self.world.spec, self.world.features, squash, self.taught.frame_skip
        )

    def size(self, clips: Clips) -> int:
        features = self.world.features(self.world.encode(clips.batch(0).to(self.device).at(0))).shape[1]
        return count(features, self.world.spec, self.taught.frame_skip)

    def clips(self, batch: int) -> Clips:
        """Stretches of the episodes that were learnt from, after which dreams begin."""
        learn, _ = episodes(self.taught, self.store)
        sensors = self.world.reads(self.store.spec)
        context, skip = self.evolution.context, self.taught.frame_skip
        return Clips(self.store, learn, context, batch, self.evolution.seed, skip, sensors)


@torch.no_grad()
def _search(home: Evolved, ground: _Ground, quiet: bool) -> Tensor:
    """The weights that the search believes in at its end, `p`."""
    evolution = ground.evolution
    clips = ground.clips(evolution.rollouts)
    size = ground.size(clips)
    fitness = _dreaming(ground, clips) if evolution.where == "dream" else _living(ground)
    done = home.generations
    if len(done) < evolution.generations:
        with Bar(evolution.generations, quiet, title=f"evolve in the {evolution.where}", shown=("best", "mean")) as bar:
            for found in _interruptible(evolve(fitness, size, evolution.generations, evolution.cma, done), len(done)):
                home.keep(found)
                bar(found.number, {"best": max(found.fitness), "mean": sum(found.fitness) / len(found.fitness)})
    return home.weights()


def _dreaming(ground: _Ground, clips: Clips) -> Fitness:
    """Judge by what the model promises: the whole population dreams as one batch, from the same beginnings."""

    def fitness(weights: Tensor, number: int) -> Tensor:
        return _dreams(ground, clips, weights, number).mean(dim=1)

    return fitness


def _dreams(ground: _Ground, clips: Clips, weights: Tensor, number: int) -> Tensor:
    """Returns `n r` of dreams that begin in the clips of that number; nothing is dreamt beyond an episode's end."""
    evolution = ground.evolution
    clip = clips.batch(number).to(ground.device)
    starts = at(ground.world.watch(clip), clip.length)
    rng = Generator(ground.device).manual_seed(evolution.seed * JUDGED_FROM + number)
    with _tempered(ground.world, evolution.tau):
        returns = dream_returns(
            ground.world, starts, ground.controllers(weights), evolution.horizon, None if evolution.likely else rng
        )
    return returns * ~clip.terminated.any(dim=1)


def _living(ground: _Ground) -> Fitness:
    """Judge by episodes in the world, the same ones for all controllers of a generation."""

    def fitness(weights: Tensor, number: int) -> Tensor:
        controllers, seed = ground.controllers(weights), ground.evolution.seed + number
        means = []
        for i in range(len(weights)):
            lives = Lives(ground.envs, ground.seen, seed)
            found = earn(_believer(ground, controllers.only(slice(i, i + 1))), lives, ground.evolution.rollouts)
            means.append(summary(found)["return"])
        return torch.tensor(means)

    return fitness


@torch.no_grad()
def _judge(ground: _Ground, weights: Tensor, judged: int, quiet: bool) -> dict[str, Any]:
    """What the controller and random actions earn in episodes that nobody has seen, what was earned when the store
    was collected, and what the dream promises."""
    players: dict[str, Acts] = {
        "controller": _believer(ground, ground.controllers(weights[None])),
        "random": AtRandom(ground.seen, ground.evolution.seed),
    }
    world: dict[str, Mapping[str, float]] = {}
    with progress("judge in the world", judged * len(players), quiet) as show:
        for i, (name, player) in enumerate(players.items()):
            lives = Lives(ground.envs, ground.seen, ground.evolution.seed + JUDGED_FROM)
            world[name] = summary(earn(player, lives, judged, tell=lambda done, i=i: show(i * judged + done)))
    dreamt = _dreams(ground, ground.clips(DREAMS), weights[None], ground.evolution.generations)
    promised = {"return": float(dreamt.mean()), "return_std": float(dreamt.std()), "episodes": float(DREAMS)}
    return {"world": world, "store": summary(_stored(ground.store)), "dream": promised}


def _stored(store: Store) -> list[Over]:
    """The returns of the episodes of a store, without their pictures."""
    found = []
    for i in range(len(store)):
        row, t = int(store.action_row[i]), int(store.lengths[i])
        rewards = store.arrays(int(store.shard_of[i]))["reward"][row : row + t]
        found.append(Over(i, t, float(rewards.sum())))
    return found


def _believer(ground: _Ground, controller: Controllers) -> Believer:
    return Believer(
        ground.world, lambda state: controller.act(ground.world.features(state)), hold=ground.taught.frame_skip
    )


@contextmanager
def _tempered(world: WorldModel, tau: float | None) -> Iterator[None]:
    if tau is None or not isinstance(world, WorldModels):
        yield
        return
    before, world.tau = world.tau, tau
    try:
        yield
    finally:
        world.tau = before


def _settled(evolution: Evolution, world: WorldModel, env: str, frame_skip: int) -> Evolution:
    """With the squash written out. Raises `UserError` for what does not fit the model."""
    if evolution.tau is not None and not isinstance(world, WorldModels):
        raise UserError(f"tau is for the family world_models, this is {world.card.name}: leave it out")
    if evolution.tau is not None and evolution.likely:
        raise UserError("likely=true draws nothing, so that tau changes nothing: leave out one of them")
    squash = evolution.squash
    if squash is None:
        fits = not world.spec.discrete and env.startswith("CarRacing") and world.spec.action == 3 * frame_skip
        squash = PAPER_SQUASH["CarRacing"] if fits else ()
    check_squash(squash, world.spec, frame_skip)
    return evolution.model_copy(update={"squash": squash})


def _interruptible(found: Iterator[Generation], done: int) -> Iterator[Generation]:
    """Raises `UserError` for Ctrl-C, when every generation that had ended is on the disk."""
    try:
        for generation in found:
            yield generation
            done = generation.number + 1
    except KeyboardInterrupt:
        raise UserError(f"interrupted after {done} generations: the same command goes on from there") from None


def _few(bounds: tuple[float, ...] | None) -> tuple[float, ...] | float | None:
    """One number stands for all dimensions."""
    return bounds[0] if bounds is not None and len(bounds) == 1 else bounds
