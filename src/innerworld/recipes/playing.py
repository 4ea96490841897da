"""Watch a model: in its world or along a recording, with eyes shut on the same actions, and in dreams of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv
from torch import Generator

from innerworld import checkpoint, envs
from innerworld.data import Store
from innerworld.data.lives import Lives
from innerworld.disk import write_atomic
from innerworld.errors import UserError
from innerworld.recipes.acting import Acting, HasPolicy
from innerworld.recipes.goals import picture_size
from innerworld.recipes.lesson import read
from innerworld.recipes.pages import footer
from innerworld.recipes.playing_page import begun_sections, sections
from innerworld.recipes.practice import Online, is_practice, read_practice
from innerworld.recipes.prompted import begun, wandered
from innerworld.recipes.steering import Drive, HasCodes, Held, held
from innerworld.recipes.watched import (
    AS_SEEN,
    Dream,
    Episode,
    Onlooker,
    Seen,
    by_chance,
    live,
    moments,
    recorded,
    watch,
)
from innerworld.report import Movie, Page, Section, write
from innerworld.report.movie import compose, encode
from innerworld.types import State, each
from innerworld.world import WorldModel

POLICY, RECORDED = "policy", "recorded"
WORLDS = 4  # drawn for a sentence


@dataclass(frozen=True)
class Watching:
    """How to watch a run."""

    by: str | None = None  # who acts: policy, recorded, uniform or smooth; None: the policy of a run that has one
    episode: int = 0  # of the held-out ones, where it is recorded
    data: Path | None = None  # another store of recordings
    steps: int = 500  # at most
    horizon: int = 45  # steps with eyes shut
    seed: int = 0
    sample: bool = False  # draw the policy's actions; by keys: what happens in the dream
    codes: bool = False  # its actions are those that it found itself
    changes: tuple[str, ...] = ()  # `steps=16`: to how the model draws (`Learns.sampling`)
    prompt: str | None = None  # the sentence that a dream begins with, out of nothing; then there is no world beside it


def play_run(
    folder: Path,
    out: Path | None = None,
    watching: Watching = Watching(),
    command: str = "",
    onlooker: Onlooker | None = None,
    films: Path | None = None,
) -> dict[str, Any]:
    """Watch one episode of what the run in `folder` has learnt, and write the page (`play.html` there, if no `out`).

    A run that learnt to act plays in its world. One that learnt from a store follows a held-out episode, or chance acts
    in its world. `films` is a folder for the page's moving pictures, each as a WebP file of its own. Raises `UserError`
    for a folder without a run, for a model that decodes nothing, and where its world cannot be made.
    """
    model = checkpoint.load(folder, changes=watching.changes, kind=WorldModel)
    if watching.prompt is None:
        found = _watched(folder, model, watching, onlooker)
    else:
        found = _begun(model, watching.prompt, watching)
    page = Page(
        f"innerworld: {folder.name} {found.title}", found.lead, command, found.shown, footer({folder.name: folder})
    )
    written = write(page, folder / "play.html" if out is None else out)
    values = found.values | {"seed": watching.seed, "page": str(written)}
    return values | ({} if films is None else {"films": [str(file) for file in _save(found.shown, films)]})


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
    acting = Acting(model, sample, seed)
    beliefs: list[State] = []

    def act(lives: Lives) -> Any:
        action = acting.act(lives.obs, lives.first)
        beliefs.append(acting.belief)
        return action

    lives = Lives(world, envs.spec_of(world.single_observation_space, world.single_action_space), seed)
    lived = live(lives, steps, act, onlooker)
    beliefs.append(acting.glance(lives.obs))
    together = {name: torch.cat([belief[name] for belief in beliefs]) for name in beliefs[0]}
    return Episode(lived.clip(list(model.spec.obs)), together, lived.pictures(), lived.truncated)


@torch.no_grad()
def dream(model: WorldModel, episode: Episode, start: int, horizon: int, seed: int = 0) -> Dream:
    """Shut the eyes at step `start` of the episode, for `horizon` steps: with its own actions, and with the policy's.

    What follows the same actions is what is most likely; the dream draws, as imagination does in training. Without a
    policy nobody dreams.
    """
    state = episode.belief(start)
    same = model.imagine(state, episode.clip.action[:, None, start : start + horizon])
    told = model.decode(each(lambda value: value[0, 0], same))
    if not isinstance(model, HasPolicy):
        return Dream(start, told)
    policy = model.policy
    rng = Generator().manual_seed(seed)
    own, _ = model.dream(state, lambda belief: policy(belief, rng), horizon, rng)
    return Dream(start, told, model.decode(each(lambda value: value[0], own)))


@dataclass(frozen=True)
class _Found:
    """What there is to see of a run, for its page, and to tell."""

    title: str
    lead: str
    shown: list[Section]
    values: dict[str, Any]


def _watched(folder: Path, model: WorldModel, watching: Watching, onlooker: Onlooker | None) -> _Found:
    """An episode, and what was imagined along it."""
    acts = is_practice(folder)
    by = watching.by or (POLICY if acts else RECORDED)
    if not acts and not _draws(model):
        raise UserError(f"{model.card.name} decodes nothing, there is no dream to see: watch it plan (innerworld plan)")
    episode, model, env = _episode(folder, model, by, watching, onlooker)
    dreams = [
        dream(model, episode, start, watching.horizon, watching.seed)
        for start in moments(episode.clip.length, watching.horizon)
    ]
    verb = "plays" if by == POLICY else "dreams of"
    lead = f"Return {episode.score:.4g} in {episode.clip.length} steps, seed {watching.seed}."
    shown = sections(model, episode, dreams, _steered(model, episode.belief(dreams[0].start), watching))
    values = {"return": episode.score, "steps": episode.clip.length, "env": env, "by": by}
    return _Found(f"{verb} {env}", lead, shown, values | {"terminated": bool(episode.clip.terminated.any())})


def _begun(model: WorldModel, sentence: str, watching: Watching) -> _Found:
    """Worlds that begin with a sentence."""
    model.eval()
    worlds = begun(model, sentence, WORLDS, watching.seed)
    told = wandered(model, worlds, watching.horizon, watching.seed)
    shown = begun_sections(model.spec, sentence, told, _steered(model, each(lambda value: value[:1], worlds), watching))
    lead = f"{WORLDS} worlds of {watching.horizon} steps, seed {watching.seed}."
    return _Found("begins with a sentence", lead, shown, {"prompt": sentence, "steps": watching.horizon})


@contextmanager
def driven(folder: Path, watching: Watching = Watching()) -> Iterator[Drive]:
    """A dream that somebody steers, beside the run's world; with `by="recorded"`, by codes or begun with a sentence,
    without a world.

    Raises `UserError` where there is nothing to steer or to see.
    """
    model = checkpoint.load(folder, changes=watching.changes, kind=WorldModel)
    rng = Generator().manual_seed(watching.seed) if watching.sample else None
    if watching.prompt is not None:
        yield Drive(model, None, None, rng, begun(model.eval(), watching.prompt, 1, watching.seed))
        return
    if watching.codes or watching.by == RECORDED:
        seen, _ = recorded(model, folder, 1, watching.data, watching.episode)
        yield Drive(_by_codes(model) if watching.codes else model, None, seen.clip.at(0), rng)
        return
    world, env, skip = _world(folder, watching.data)
    with closing(world):
        if skip > 1:
            raise UserError(f"an action of this model is {skip} of {env}: steer its dream alone (--by recorded)")
        shown = envs.spec_of(world.single_observation_space, world.single_action_space)
        yield Drive(model, Lives(world, shown, watching.seed), None, rng)


def _episode(
    folder: Path, model: WorldModel, by: str, watching: Watching, onlooker: Onlooker | None
) -> tuple[Episode, WorldModel, str]:
    """The episode, who watched it (by codes, another than was given), and the world's name."""
    if by == POLICY and (watching.codes or not isinstance(model, HasPolicy)):
        raise UserError(f"{folder} has learnt no policy for this: give --by recorded, uniform or smooth")
    if by == RECORDED and is_practice(folder):
        raise UserError(f"{folder} learnt in a world and has no recordings: give --by policy, uniform or smooth")
    if by == RECORDED:
        seen, env = recorded(model, folder, watching.steps, watching.data, watching.episode)
    else:
        world, env, skip = _world(folder, watching.data)
        with closing(world):
            if by == POLICY:
                played = play_episode(model, world, watching.steps, watching.seed, watching.sample, onlooker)
                return played, model, env
            seen = by_chance(world, list(model.spec.obs), by, watching.steps, watching.seed, skip, onlooker)
    if watching.codes:
        coded = _by_codes(model)
        seen, model = _told_by_codes(model, seen), coded
    return watch(model, seen, watching.horizon), model, env


@torch.no_grad()
def _draws(model: WorldModel) -> bool:
    """Does it decode any of its sensors? A family may, and this model of it not."""
    model.eval()
    return not model.decode(model.encode(model.spec.blank())).keys().isdisjoint(model.spec.obs)


def _steered(model: WorldModel, belief: State, watching: Watching) -> dict[str, list[Held]]:
    """Each action held, by the title of the section; of a family that found actions itself, those, too."""
    if not model.spec.images():
        return {}
    if watching.codes:
        return {"Each latent action held": held(model, belief, watching.horizon, "latent action")}
    found = {"Each action held": held(model, belief, watching.horizon)}
    if isinstance(model, HasCodes):
        found["Each latent action held"] = held(model.played_by_codes(), belief, watching.horizon, "latent action")
    return found


def _by_codes(model: WorldModel) -> WorldModel:
    if not isinstance(model, HasCodes):
        raise UserError(f"{model.card.name} has found no actions of its own: leave out --codes")
    return model.played_by_codes()


def _told_by_codes(model: WorldModel, seen: Seen) -> Seen:
    assert isinstance(model, HasCodes), "else it had been refused"
    return replace(seen, clip=model.told_by_codes(seen.clip))


def _world(folder: Path, data: Path | None) -> tuple[VectorEnv, str, int]:
    """One world of a run, drawn where it can be; its name, and how many of its actions are one of the model's.

    Raises `UserError`, also where what was learnt from is a log of no world that there is.
    """
    if is_practice(folder):
        online = read_practice(folder).online
        return _practised(online), online.env, 1
    taught = read(folder)
    store = Store.open(taught.data if data is None else data)
    env = store.meta.about.env
    if not env:
        raise UserError(f"{folder} was taught from a log of no world: watch what is recorded (--by recorded)")
    sensors = None if env in envs.ENVS else list(store.spec.obs)
    return envs.make(env, 1, picture_size(store.spec), sensors=sensors), env, taught.frame_skip


def _practised(online: Online) -> VectorEnv:
    """The world of the run, drawn beside what the model sees of it, where it can be drawn."""
    seen = online.seen() if online.env not in envs.ENVS else []
    options: dict[str, Any] = {"max_steps": online.max_steps, "action_repeat": online.action_repeat}
    if not seen:
        return envs.make(online.env, 1, online.size, **options)
    try:
        return envs.make(online.env, 1, online.size, sensors=list(dict.fromkeys([*seen, AS_SEEN])), **options)
    except UserError:  # it has no picture
        return envs.make(online.env, 1, online.size, sensors=seen, **options)


def _save(shown: list[Section], folder: Path) -> list[Path]:
    """Every moving picture as a file of its own, by the title of its section."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for section in shown:
        movies = [block for block in section.blocks if isinstance(block, Movie)]
        for i, movie in enumerate(movies):
            name = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")
            files.append(folder / (f"{name}-{i}.webp" if i else f"{name}.webp"))
            write_atomic(files[-1], [encode(compose(movie))[0]])
    return files
