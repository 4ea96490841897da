"""What is wanted in each episode: a goal by chance, a place, a picture, a sentence that means a picture, or reward."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from torch import Tensor

from innerworld.agent.configurator.phrases import Phrases
from innerworld.agent.configurator.tasks import Maximise, Reach, Say, Task
from innerworld.envs import shrink
from innerworld.errors import UserError, nearest
from innerworld.evaluate.control import GoalWorlds
from innerworld.recipes.goals import draw_goals, goal_worlds
from innerworld.recipes.minding.known import AS_SEEN, Known
from innerworld.recipes.two_rooms import Control
from innerworld.report.content import Image
from innerworld.types import Obs, Spec

RANDOM, REWARD = "random", "reward"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
NUMBER = r"[-+]?([\d.]+(e[-+]?\d+)?|nan|inf(inity)?)"
NUMBERS = re.compile(rf"\s*{NUMBER}(\s*,\s*{NUMBER})*\s*", re.IGNORECASE)
WORD = re.compile(r"[^\W_]+")
BUCKETS = 512  # of counted letters
TRIES = 100  # draws of a start and a goal that are apart


@dataclass(frozen=True)
class Wish:
    """What is wanted in one episode."""

    task: Task
    start: np.ndarray | None = None  # 1 k   the state to begin in; none: as the world begins
    goal: np.ndarray | None = None  # 1 k   the state to come to; none: nobody can say whether it is reached
    picture: Image | None = None  # y x c   of the goal
    note: str = ""  # what was made of what was asked for


def wishes(asked: str, known: Known, control: Control, n: int, seed: int, goals: Path | None = None) -> list[Wish]:
    """One for each of `n` episodes. Raises `UserError` for a goal that is not there, or not understood."""
    if goals is not None and asked in (RANDOM, REWARD):
        raise UserError(f"--goals names pictures for sentences, but the goal is {asked}: give a sentence with --goal")
    if asked == REWARD:
        return [Wish(Maximise())] * n
    if asked == RANDOM:
        return _by_chance(known, control, n, seed)
    if NUMBERS.fullmatch(asked):
        return [_place(asked, known)] * n
    if asked.lower().endswith(PICTURES):
        return [_picture(Path(asked), known.model.spec)] * n
    if goals is None:
        near = nearest(asked, [RANDOM, REWARD])
        raise UserError(
            f"nothing is known that {asked!r} could mean.{near} Give {RANDOM}, {REWARD}, a picture, x,y, or with a "
            "sentence a folder of pictures whose names say what they show (--goals)"
        )
    return [_sentence(asked, _named(goals, known.model.spec))] * n


def phrases_of(goals: Path | None, spec: Spec) -> Phrases | None:
    """The pictures of a folder by name, as a configurator understands sentences; none without a folder."""
    if goals is None:
        return None
    return Phrases(letters, {name: wish[0] for name, wish in _named(goals, spec).items()}, least=0.3)


def letters(sentences: Sequence[str]) -> Tensor:
    """Sentences as counts of three letters in a row, `n d`: near each other where they share words or parts of them."""
    found = torch.zeros(len(sentences), BUCKETS)
    for row, sentence in enumerate(sentences):
        text = f"  {' '.join(WORD.findall(sentence.lower()))}  "
        for i in range(len(text) - 2):
            found[row, sum(ord(letter) * 31**k for k, letter in enumerate(text[i : i + 3])) % BUCKETS] += 1
    return found


# ---------------------------------------------------------------------- each kind


def _by_chance(known: Known, control: Control, n: int, seed: int) -> list[Wish]:
    """From held-out episodes where there is a store of this very world, else as the world begins."""
    world = _goal_world(known)
    if known.store is None or known.held_out is None or known.store.meta.about.env != known.env:
        return [_as_it_begins(known, world, seed + k) for k in range(n)]
    tasks = draw_goals(known.store, known.held_out, goal_worlds(known.store, n), seed, control)
    found = []
    for k in range(n):
        goal, *via = (
            {name: obs[name][k : k + 1] for name in known.model.spec.obs} for obs in (tasks.goal_obs, *tasks.via_obs)
        )
        picture = tasks.goal_obs[AS_SEEN][k].numpy() if AS_SEEN in tasks.goal_obs else None
        found.append(Wish(Reach(goal, via), tasks.start[k : k + 1], tasks.goal[k : k + 1], picture))
    return found


def _as_it_begins(known: Known, world: GoalWorlds, seed: int) -> Wish:
    """Start and goal are two beginnings of the world."""
    start = world.reset(seed=seed)[0]["state"].copy()
    for k in range(1, TRIES):
        seen, _ = world.reset(seed=seed + 1000 * k)
        if not bool(world.success(start, seen["state"])[0]):
            return _reach(known, seen, start)
    raise UserError(f"{known.env} always begins at the same place: name another goal with --goal")


def _place(asked: str, known: Known) -> Wish:
    world = _goal_world(known)
    try:
        place = [float(word) for word in asked.split(",")]
    except ValueError:
        raise UserError(f"cannot read the place {asked!r}: write numbers as 20.5,31") from None
    if not all(map(math.isfinite, place)):
        raise UserError(f"the goal {asked}: sensor 'state' is not finite: give finite numbers")
    size = int(world.reset(seed=0)[0]["state"].shape[1])
    if len(place) != size:
        raise UserError(
            f"the goal {asked} has {len(place)} numbers, the state of {known.env} has {size}: give them all"
        )
    try:
        seen, _ = world.reset(seed=0, options={"state": np.array([place], np.float32)})
    except UserError as error:
        raise UserError(f"the goal {asked} is no place in {known.env}: {error}") from None
    return _reach(known, seen, None)


def _picture(file: Path, spec: Spec) -> Wish:
    goal, picture, note = _sight(file, spec)
    return Wish(Reach(goal), picture=picture, note=note)


def _sentence(asked: str, named: dict[str, tuple[Obs, Image, str]]) -> Wish:
    known = Phrases(letters, {name: sight[0] for name, sight in named.items()}, least=0.3)
    meant = known.meant([asked])
    name = next(
        name
        for name, (obs, _, _) in named.items()
        if all(torch.equal(obs[sensor], value[0]) for sensor, value in meant.items())
    )
    return Wish(Say(asked), picture=named[name][1], note=f"{asked!r} means {name!r}")


def _named(goals: Path, spec: Spec) -> dict[str, tuple[Obs, Image, str]]:
    """The pictures of a folder: without batch axis for the model, as they are, and what was made of them."""
    files = sorted(file for file in goals.glob("*") if file.suffix.lower() in PICTURES) if goals.is_dir() else []
    if not files:
        raise UserError(f"{goals} is no folder of pictures: put some there whose names say what they show")
    found = {}
    for file in files:
        goal, picture, note = _sight(file, spec)
        found[re.sub(r"[-_]+", " ", file.stem)] = ({name: value[0] for name, value in goal.items()}, picture, note)
    return found


def _sight(file: Path, spec: Spec) -> tuple[Obs, Image, str]:
    """A picture as the model would see it, of its size; and a note where it had another one."""
    images = spec.images()
    if len(images) != 1 or len(spec.obs) > 1:
        raise UserError(
            f"a picture is no goal for a model that sees {', '.join(spec.obs)}: it must see one image alone"
        )
    height, width, channels = spec.obs[images[0]]
    try:
        with Pillow.open(file) as opened:
            picture = np.asarray(opened.convert("L" if channels == 1 else "RGBA" if channels == 4 else "RGB"))
    except FileNotFoundError:
        raise UserError(f"there is no picture at {file}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"cannot read the picture {file}: {error}") from None
    picture = picture.reshape(*picture.shape[:2], channels)
    y, x = picture.shape[:2]
    if (height != width or y != x) and (y, x) != (height, width):
        raise UserError(f"{file} is {y} by {x} pixels, the model sees {height} by {width}: cut it")
    note = "" if (y, x) == (height, width) else f"{file.name}, {len(picture)} pixels, was drawn to {height}"
    picture = shrink(picture, height) if note else picture
    seen = torch.from_numpy(np.array(picture))[None]
    return {images[0]: seen}, picture[..., :3], note


def _reach(known: Known, seen: dict[str, Any], start: np.ndarray | None) -> Wish:
    goal = {name: torch.from_numpy(np.array(seen[name])) for name in known.model.spec.obs}
    picture = np.array(seen[AS_SEEN][0]) if AS_SEEN in seen else None
    return Wish(Reach(goal), start, np.array(seen["state"]), picture)


def _goal_world(known: Known) -> GoalWorlds:
    if not isinstance(known.world, GoalWorlds):
        raise UserError(
            f"{known.env} has no goals (it cannot begin at a given state and tell whether one is reached): "
            f"give --goal {REWARD}, or a picture"
        )
    return known.world
