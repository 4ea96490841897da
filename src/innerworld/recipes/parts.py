"""A collection in parts, each collected by any worker anywhere, and the same whoever did it; joined into one store."""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from gymnasium.vector import VectorEnv
from pydantic import Field

from innerworld import envs
from innerworld.cluster import Place
from innerworld.config import Config, build, flat
from innerworld.data import POLICIES, Store, Writer, collect
from innerworld.disk import write_atomic
from innerworld.errors import UserError, choose
from innerworld.lock import lock
from innerworld.types import Spec

ROUNDS = 2
"""Episodes of each world in a part: few, for a part is what a killed worker loses; more than one, for worlds whose
episodes differ in length wait for the last."""

PATIENCE = {"timeout_s", "restarts"}
"""Settings with which a collection may be gone on with that were others before."""


class Collection(Config):
    """Everything that decides which episodes come out (how many workers there are does not), and what is borne."""

    env: str = Field(default="two_rooms", description="the world")
    policy: str = Field(default="smooth", description="who acts")
    episodes: int = Field(default=1000, description="episodes to collect", ge=1)
    worlds: int = Field(default=64, description="worlds stepped together by one worker", ge=1)
    seed: int = Field(default=0, description="of worlds and policy", ge=0)
    size: int = Field(default=64, description="side of the pictures, pixels", ge=1)
    max_steps: int | None = Field(default=None, description="longest episode, steps; null: the world's own")
    sensors: tuple[str, ...] | None = Field(default=None, description="sensors to keep; null: all")
    action_low: tuple[float, ...] | float | None = Field(default=None, description="what -1 stands for")
    action_high: tuple[float, ...] | float | None = Field(default=None, description="what +1 stands for")
    parallel: bool = Field(default=False, description="each world in a process of its own")
    timeout_s: float = Field(default=60.0, description="how long such a process may take to answer, seconds", gt=0)
    restarts: int = Field(default=3, description="how often each of them is begun again", ge=0)
    before: int = Field(default=0, description="episodes that the store held before", ge=0)

    def make(self) -> VectorEnv:
        """The worlds of one worker. Raises `UserError`."""
        return envs.make(
            self.env,
            min(self.worlds, self.episodes),
            self.size,
            max_steps=self.max_steps,
            sensors=self.sensors,
            action_low=self.action_low,
            action_high=self.action_high,
            parallel=self.parallel,
            timeout_s=self.timeout_s,
            restarts=self.restarts,
        )

    def parts(self) -> list[range]:
        """The episodes of each part."""
        step = ROUNDS * min(self.worlds, self.episodes)
        return [range(first, min(first + step, self.episodes)) for first in range(0, self.episodes, step)]


def collect_parts(
    collection: Collection, store: Store, place: Place, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Add the collection's episodes to `store`, each part collected by one of the place's workers.

    Parts wait in a folder beside the store, which all machines must see, until those before them are in. Called again
    after an interrupt, it goes on: whole parts are kept, the parts under way begin anew. `progress` is told the
    episodes collected. Raises `UserError`, among others for Ctrl-C and when the folder holds parts of another
    collection.
    """
    folder = parts_folder(store.path)
    with lock(folder, "collection"):
        _collect(collection, store, place, progress, folder)
    shutil.rmtree(folder)


def parts_folder(path: Path) -> Path:
    """Where the parts of a store wait."""
    return path.with_name(path.name + ".parts")


def begun(path: Path) -> Collection | None:
    """The collection whose parts wait for the store at `path`, if there is one. Raises `UserError`."""
    return _noted(parts_folder(path) / "collection.json")


def collect_part(collection: Collection, spec: Spec, folder: Path, k: int) -> str:
    """Collect part `k` into `folder`, where it appears whole or not at all; return this machine's name. For workers."""
    part = collection.parts()[k]
    # A name of its own: a worker that is thought dead, for its machine cannot be reached, may still be writing.
    path = folder / f"{k:06d}.{uuid.uuid4().hex}.tmp"
    try:
        with closing(collection.make()) as worlds:
            policy = choose("policy", collection.policy, POLICIES)(spec)
            collect(worlds, policy, len(part), Store.create(path, spec), collection.seed, first=part.start)
        if not _path(folder, k).exists():
            os.replace(path, _path(folder, k))
    finally:
        shutil.rmtree(path, ignore_errors=True)
    return socket.gethostname()


def _collect(collection: Collection, store: Store, place: Place, progress: Callable[[int], None], folder: Path) -> None:
    _claim(collection, folder)
    joined = len(store) - collection.before  # episodes of ours that the store has
    parts = collection.parts()
    missing = [k for k, part in enumerate(parts) if part.stop > joined and not _path(folder, k).exists()]
    collected = collection.episodes - sum(len(parts[k]) for k in missing)
    progress(collected)
    try:
        joined = _join(store, parts, folder, joined)
        work = partial(collect_part, collection, store.spec, folder.resolve())
        with closing(place.each(work, missing)) as ended:
            for done in ended:
                k = missing[done.index]
                if done.failure is not None:
                    raise done.failure.error(f"part {k} of {len(parts)}")
                if parts[k].stop > joined:  # else it was there, and joined, before we were told
                    _check_seen(_path(folder, k), str(done.result))
                collected += len(parts[k])
                progress(collected)
                joined = _join(store, parts, folder, joined)
    except KeyboardInterrupt:
        raise UserError(
            f"interrupted: {collected} of {collection.episodes} episodes are safe beside and in {store.path}; the same "
            "command goes on"
        ) from None


def _join(store: Store, parts: list[range], folder: Path, joined: int) -> int:
    """Move the parts that come next into the store, as far as they are there; how many episodes it then has of ours."""
    for k, part in enumerate(parts):
        if part.stop <= joined:
            shutil.rmtree(_path(folder, k), ignore_errors=True)
        elif _path(folder, k).exists():
            whole = Store.open(_path(folder, k))
            with Writer(store) as writer:
                for i in range(joined - part.start, len(part)):  # from where a killed process stopped joining
                    writer.add(whole.episode(i), int(whole.seeds[i]))
            joined = part.stop
            shutil.rmtree(_path(folder, k))
        else:
            return joined
    return joined


def _claim(collection: Collection, folder: Path) -> None:
    """Note whose parts are in the folder; refuse those of another collection; sweep out what killed workers left."""
    plan = folder / "collection.json"
    if (before := _noted(plan)) is not None:
        old, new = (flat(each.model_dump(mode="json")) for each in (before, collection))
        for key in old.keys() - PATIENCE:
            if old[key] != new.get(key):
                raise UserError(
                    f"{folder} holds parts of a collection with {key}={old[key]}, not {new.get(key)}: finish that one, "
                    "or delete the folder"
                )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(plan, [collection.model_dump_json(indent=2).encode()])
    for leftover in folder.glob("*.tmp"):
        shutil.rmtree(leftover)


def _noted(plan: Path) -> Collection | None:
    try:
        return build(Collection, json.loads(plan.read_text(encoding="utf-8")), str(plan))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {plan}: {error}. Delete its folder to begin anew") from None


def _check_seen(path: Path, host: str) -> None:
    if not path.exists():
        raise UserError(f"{path} was written on {host} and cannot be seen here: --out must be in a folder they share")


def _path(folder: Path, k: int) -> Path:
    return folder / f"{k:06d}"
