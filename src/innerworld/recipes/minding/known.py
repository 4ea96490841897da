"""Whom the mind is put around: a trained run, or the world itself as a model, with the store it was taught from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium.vector import VectorEnv

from innerworld import checkpoint, envs
from innerworld.data import Store
from innerworld.errors import UserError
from innerworld.recipes.goals import oracle, picture_size
from innerworld.recipes.lesson import episodes, read
from innerworld.recipes.practice import is_practice, read_practice
from innerworld.types import Spec
from innerworld.world import WorldModel

ORACLE = "oracle"
AS_SEEN = "pixels"  # the sensor in which a world is drawn
SIZE = 64  # of pictures, where nothing says otherwise


@dataclass(frozen=True)
class Known:
    """A model, what it was taught from, and its world."""

    name: str
    model: WorldModel
    env: str
    world: VectorEnv  # one
    block: int = 1  # actions of the world that are one of the model's
    folder: Path | None = None  # of the run
    store: Store | None = None
    learnt: np.ndarray | None = None  # episodes of the store
    held_out: np.ndarray | None = None


def open_known(name: str, data: Path | None, env: str | None) -> Known:
    """The run in the folder `name`, or the true dynamics for "oracle". Raises `UserError` for what is not there."""
    if name == ORACLE:
        return _open_oracle(data, env)
    folder = Path(name)
    if not folder.exists():
        raise UserError(f"there is no run at {folder}: give the folder that innerworld train made, or {ORACLE}")
    if is_practice(folder):
        return _open_practice(folder, data, env)
    taught = read(folder)
    store = Store.open(taught.data if data is None else data)
    model = checkpoint.load(folder, kind=WorldModel).to("cpu")
    env = env or store.meta.about.env
    if not env:
        raise UserError(f"{folder} was taught from a log of no world: name one with --env")
    world = world_of(env, picture_size(store.spec), model.spec)
    _check_shown(world, model, taught.frame_skip, env)
    return Known(folder.name, model, env, world, taught.frame_skip, folder, store, *episodes(taught, store))


def world_of(env: str, size: int, spec: Spec | None, max_steps: int | None = None, action_repeat: int = 1) -> VectorEnv:
    """One such world, that shows what a model of `spec` sees and, where it can be drawn, its picture."""
    if env in envs.ENVS or spec is None:
        return envs.make(env, 1, size, max_steps=max_steps, action_repeat=action_repeat)
    own, drawn = list(spec.obs), list(dict.fromkeys([*spec.obs, AS_SEEN]))
    try:
        return envs.make(env, 1, size, max_steps=max_steps, sensors=drawn, action_repeat=action_repeat)
    except UserError:  # it has no picture; what else is wrong with it is told now
        return envs.make(env, 1, size, max_steps=max_steps, sensors=own, action_repeat=action_repeat)


def _open_practice(folder: Path, data: Path | None, env: str | None) -> Known:
    online = read_practice(folder).online
    model = checkpoint.load(folder, kind=WorldModel).to("cpu")
    name = env or online.env
    most, repeat = (None, 1) if env else (online.max_steps, online.action_repeat)
    world = world_of(name, online.size, model.spec, most, repeat)
    _check_shown(world, model, 1, name)
    store = None if data is None else Store.open(data)
    every = None if store is None else np.arange(len(store))
    return Known(folder.name, model, name, world, 1, folder, store, every, every)


def _open_oracle(data: Path | None, env: str | None) -> Known:
    store = None if data is None else Store.open(data)
    name = env or ("" if store is None else store.meta.about.env)
    if not name:
        raise UserError(
            f"whose true dynamics? Give --model {ORACLE} a store of the world (--data), or its name (--env)"
        )
    size = SIZE if store is None else picture_size(store.spec)
    world = world_of(name, size, None)
    shown = envs.spec_of(world.single_observation_space, world.single_action_space)
    model = oracle(world, shown) if shown.vectors() else None
    if model is None:
        raise UserError(f"{name} does not give its true dynamics away: give the folder of a trained run")
    every = None if store is None else np.arange(len(store))
    return Known(ORACLE, model, name, world, 1, None, store, every, every)


def _check_shown(world: VectorEnv, model: WorldModel, block: int, env: str) -> None:
    """Raise `UserError` unless the world shows what the model sees, and takes its actions."""
    shown = envs.spec_of(world.single_observation_space, world.single_action_space)
    for sensor, shape in model.spec.obs.items():
        if shown.obs.get(sensor) != shape:
            has = ", ".join(f"{name} {size}" for name, size in shown.obs.items())
            raise UserError(f"the model sees {sensor!r} of shape {shape}, {env} shows: {has}")
    if (shown.action * block, shown.discrete) != (model.spec.action, model.spec.discrete):
        kinds = ["choices" if spec.discrete else "numbers" for spec in (model.spec, shown)]
        own = f"{model.spec.action // block} {kinds[0]}"
        raise UserError(f"an action of the model is {own}, one of {env} is {shown.action} {kinds[1]}")
