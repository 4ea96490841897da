"""Watch a policy: in its world, with eyes shut on the same actions, and in the dream where it acts by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Generator, Tensor

from innerworld import checkpoint, envs
from innerworld.data.lives import Lives
from innerworld.errors import UserError
from innerworld.nn.sensors import to_uint8
from innerworld.recipes.acting import Acting, HasPolicy
from innerworld.recipes.pages import footer
from innerworld.recipes.practice import Online, read_practice
from innerworld.report import Chart, Curve, Facts, Movie, Page, Section, write
from innerworld.report.content import Image
from innerworld.types import Clip, Spec, State, each
from innerworld.world import WorldModel

SHOWN = 6  # numbers of a vector that get a chart
STARTS = 2  # moments at which it shuts its eyes
FRAMES = 150  # of the film of a whole episode, at most
AS_SEEN = "pixels"  # the sensor in which the adapter draws a world
Onlooker = Callable[[Image, float], None]
"""Told of every step while it is played: the picture of the world, `y x c`, and the return so far."""


@dataclass(frozen=True)
class Episode:
    """One episode that a policy played: the clip as the model saw it (b = 1), its beliefs, pictures of the world."""

    clip: Clip
    beliefs: State  # each t+1 ...
    pictures: Image | None  # t+1 y x c; none where the world cannot be drawn
    truncated: bool  # time ran out

    @property
    def score(self) -> float:
        """The sum of its rewards."""
        return float(self.clip.reward.sum())


@dataclass(frozen=True)
class Dream:
    """From one moment of an episode on: what was imagined of the same actions, and what the policy dreams by itself."""

    start: int
    told: dict[str, Tensor]  # of the same actions: each sensor, "reward", "continue", `h ...`
    dreamt: dict[str, Tensor]  # of its own: likewise


def play_run(
    folder: Path,
    out: Path | None = None,
    steps: int = 500,
    horizon: int = 45,
    seed: int = 0,
    sample: bool = False,
    command: str = "",
    onlooker: Onlooker | None = None,
) -> dict[str, Any]:
    """Play one episode of what the run in `folder` has learnt, and write the page (`play.html` there, if no `out`).

    Raises `UserError` for a folder without such a run, and where its world cannot be made.
    """
    practice = read_practice(folder)
    model = checkpoint.load(folder, kind=WorldModel)
    with closing(_drawn_world(practice.online)) as world:
        episode = play_episode(model, world, steps, seed, sample, onlooker)
    dreams = [dream(model, episode, start, horizon, seed) for start in moments(episode, horizon)]
    title = f"innerworld: {folder.name} plays {practice.online.env}"
    lead = f"Return {episode.score:.4g} in {episode.clip.length} steps, seed {seed}."
    page = Page(title, lead, command, sections(model, episode, dreams), footer({folder.name: folder}))
    written = write(page, folder / "play.html" if out is None else out)
    values = {"return": episode.score, "steps": episode.clip.length, "env": practice.online.env, "seed": seed}
    return values | {"terminated": bool(episode.clip.terminated.any()), "page": str(written)}


def play_episode(
    model: WorldModel,
    world: VectorEnv,
    steps: int,
    seed: int = 0,
    sample: bool = False,
    onlooker: Onlooker | None = None,
) -> Episode:
    """Let the model's policy act in the one `world` for an episode of at most `steps` steps.

    `world` may show more than the model sees. With `sample` actions are drawn, else they are the most likely ones.
    """
    model.eval()
    shown = envs.spec_of(world.single_observation_space, world.single_action_space)
    lives = Lives(world, shown, seed)
    acting = Acting(model, sample, seed)
    sights: list[dict[str, np.ndarray]] = []
    beliefs: list[State] = []
    actions, rewards, terminated = [], [], []
    ended = False
    while not ended and len(actions) < steps:
        sights.append(_look(lives, float(np.sum(rewards)), onlooker))
        actions.append(acting.act(lives.obs, lives.first))
        beliefs.append(acting.belief)
        outcome = lives.step(actions[-1])
        rewards.append(outcome.reward)
        terminated.append(outcome.terminated)
        ended = bool(outcome.ended[0])
    sights.append(_look(lives, float(np.sum(rewards)), onlooker))
    beliefs.append(acting.glance(lives.obs))
    clip = Clip(
        {name: torch.from_numpy(np.stack([sight[name] for sight in sights], 1)) for name in model.spec.obs},
        torch.from_numpy(np.stack(actions, 1)),
        torch.from_numpy(np.stack(rewards, 1)),
        torch.from_numpy(np.stack(terminated, 1)),
    )
    pictures = np.stack([sight[AS_SEEN][0] for sight in sights]) if AS_SEEN in shown.obs else None
    together = {name: torch.cat([belief[name] for belief in beliefs]) for name in beliefs[0]}
    return Episode(clip, together, pictures, ended and not bool(clip.terminated[0, -1]))


@torch.no_grad()
def dream(model: WorldModel, episode: Episode, start: int, horizon: int, seed: int = 0) -> Dream:
    """Shut the eyes at step `start` of the episode, for `horizon` steps: with its own actions, and with the policy's.

    What follows the same actions is what is most likely; the dream draws, as imagination does in training.
    """
    assert isinstance(model, HasPolicy), "it has acted"
    policy = model.policy
    state = each(lambda value: value[start : start + 1], episode.beliefs)
    same = model.imagine(state, episode.clip.action[:, None, start : start + horizon])
    rng = Generator().manual_seed(seed)
    own, _ = model.dream(state, lambda belief: policy(belief, rng), horizon, rng)
    return Dream(
        start,
        model.decode(each(lambda value: value[0, 0], same)),
        model.decode(each(lambda value: value[0], own)),
    )


def moments(episode: Episode, horizon: int) -> list[int]:
    """Where to shut the eyes: after the first steps, when belief has settled, and in the middle of the episode."""
    length = episode.clip.length
    latest = length - min(horizon, max(1, length // 2))
    return sorted({min(5, latest), min(length // 2, latest)})[:STARTS]


def sections(model: WorldModel, episode: Episode, dreams: list[Dream]) -> list[Section]:
    """What there is to see, for a page."""
    return [_in_the_world(model, episode), *(_eyes_shut(model.spec, episode, each_one) for each_one in dreams)]


def _look(lives: Lives, score: float, onlooker: Onlooker | None) -> dict[str, np.ndarray]:
    """What is seen now, kept; and shown, where somebody looks on and there is a picture."""
    if onlooker is not None and AS_SEEN in lives.obs:
        onlooker(lives.obs[AS_SEEN][0], score)
    return {name: value.copy() for name, value in lives.obs.items()}


def _drawn_world(online: Online) -> VectorEnv:
    """The world of the run, drawn beside what the model sees of it, where it can be drawn."""
    seen = online.seen() if online.env not in envs.ENVS else []
    options: dict[str, Any] = {"max_steps": online.max_steps, "action_repeat": online.action_repeat}
    if not seen:
        return envs.make(online.env, 1, online.size, **options)
    try:
        return envs.make(online.env, 1, online.size, sensors=list(dict.fromkeys([*seen, AS_SEEN])), **options)
    except UserError:  # it has no picture
        return envs.make(online.env, 1, online.size, sensors=seen, **options)


# ---------------------------------------------------------------------- parts of the page


def _in_the_world(model: WorldModel, episode: Episode) -> Section:
    clip = episode.clip
    ended = "the world ended" if bool(clip.terminated.any()) else "time ran out" if episode.truncated else "cut here"
    facts = Facts([("return", f"{episode.score:.4g}"), ("steps", str(clip.length)), ("how it ended", ended)])
    panels = [] if episode.pictures is None else [("the world", episode.pictures[..., :3])]
    for name in model.spec.images():
        believed = _pictures(model.decode(episode.beliefs), name)
        if believed is not None:
            panels.append((f"what it believes to see ({name})", believed))
    shown = [panel for panel in panels if panel[1].shape[:3] == panels[0][1].shape[:3]]
    every = -(-(clip.length + 1) // FRAMES)
    each_step = "each of them shown" if every == 1 else f"one in {every} shown"
    thin = [(title, frames[::every]) for title, frames in shown]
    movie = [Movie(f"One episode of {clip.length} steps, {each_step}", thin)] if thin else []
    return Section("In the world", "The policy acts, the model looks at every step.", [facts, *movie])


def _eyes_shut(spec: Spec, episode: Episode, found: Dream) -> Section:
    horizon = len(next(iter(found.told.values())))
    blocks: list[Movie | Chart] = []
    for name in spec.images():
        blocks += _film(episode, found, name, horizon)
    if not blocks and episode.pictures is not None:
        real = episode.pictures[found.start : found.start + horizon + 1, ..., :3]
        blocks.append(Movie(f"The world from step {found.start} on", [("the world", real)]))
    for name in spec.vectors():
        blocks += _lines(episode, found, name)
    blocks += _outlook(episode, found)
    text = (
        f"At step {found.start} the model closes its eyes for {horizon} steps. Imagined is what it expects of the same "
        "actions that were done. The dream is its own: there the policy acts on what it dreams, so the two part ways."
    )
    return Section(f"With eyes shut from step {found.start}", text, blocks)


def _film(episode: Episode, found: Dream, name: str, horizon: int) -> list[Movie]:
    told, dreamt = _pictures(found.told, name), _pictures(found.dreamt, name)
    if told is None or dreamt is None:
        return []
    real = episode.clip.obs[name][0, found.start + 1 : found.start + 1 + horizon, ..., :3].numpy()
    apart = 128 + (told[: len(real)].astype(np.int16) - real) // 2
    panels = [
        ("real", real),
        ("imagined", told[: len(real)]),
        ("difference", apart.clip(0, 255).astype(np.uint8)),
        ("dream", dreamt[: len(real)]),
    ]
    return [Movie(f"{name}, {len(real)} steps with eyes shut; grey is no difference", panels)]


def _pictures(told: dict[str, Tensor], name: str) -> Image | None:
    return to_uint8(told[name]).numpy()[..., :3] if name in told else None


def _lines(episode: Episode, found: Dream, name: str) -> list[Chart]:
    """A chart for each of the first numbers of a vector: what came, what was imagined, what was dreamt."""
    if name not in found.told:
        return []
    real = episode.clip.obs[name][0]  # t+1 n
    charts = []
    for i in range(min(SHOWN, real.shape[1])):
        curves = [
            _curve("real", real[found.start + 1 : found.start + 1 + len(found.told[name]), i], found.start + 1),
            _curve("imagined", found.told[name][:, i], found.start + 1),
            _curve("dream", found.dreamt[name][:, i], found.start + 1),
        ]
        charts.append(Chart(f"{name} {i}", "step", "value", curves))
    return charts


def _outlook(episode: Episode, found: Dream) -> list[Chart]:
    """What reward was expected, and how sure it was to go on."""
    charts = []
    if "reward" in found.told:
        real = episode.clip.reward[0, found.start : found.start + len(found.told["reward"])]
        curves = [_curve("real", real, found.start + 1)]
        curves += [_curve(who, told["reward"], found.start + 1) for who, told in _both(found)]
        charts.append(Chart("Reward", "step", "reward of the step", curves))
    if "continue" in found.told:
        curves = [_curve(who, told["continue"], found.start + 1) for who, told in _both(found)]
        charts.append(Chart("Going on", "step", "told chance, with its discount", curves))
    return charts


def _both(found: Dream) -> list[tuple[str, dict[str, Tensor]]]:
    return [("imagined", found.told), ("dream", found.dreamt)]


def _curve(name: str, values: Tensor, first: int) -> Curve:
    return Curve(name, list(range(first, first + len(values))), values.float().tolist())
