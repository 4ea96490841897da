"""The worlds with a name of their own. To add one: write its file, add its line to `ENVS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import VectorEnv

from innerworld.config import build
from innerworld.errors import UserError

if TYPE_CHECKING:
    from innerworld.envs.two_rooms import TwoRoomsConfig


@dataclass(frozen=True)
class World:
    """A world with a name of its own: made from (size, max_steps) and (n, size, max_steps)."""

    about: str
    one: Callable[[int, int | None], gymnasium.Env]
    many: Callable[[int, int, int | None], VectorEnv]


def _two_rooms(size: int, max_steps: int | None) -> gymnasium.Env:
    from innerworld.envs.two_rooms import TwoRooms

    return TwoRooms(_two_rooms_config(size, max_steps))


def _two_rooms_vector(n: int, size: int, max_steps: int | None) -> VectorEnv:
    from innerworld.envs.two_rooms import TwoRoomsVector

    return TwoRoomsVector(n, _two_rooms_config(size, max_steps))


def _two_rooms_config(size: int, max_steps: int | None) -> TwoRoomsConfig:
    from innerworld.envs.two_rooms import TwoRoomsConfig

    steps = {} if max_steps is None else {"steps": max_steps}
    return build(TwoRoomsConfig, TwoRoomsConfig.of_size(size).model_dump() | steps, "two_rooms")


def _maze(layout: str) -> World:
    def config(size: int, max_steps: int | None) -> Any:
        from innerworld.envs.maze import MazeConfig

        return build(MazeConfig, _settings(size, "steps", max_steps) | {"layout": layout}, f"maze_{layout}")

    def one(size: int, max_steps: int | None) -> gymnasium.Env:
        from innerworld.envs.maze import Maze

        return Maze(config(size, max_steps))

    def many(n: int, size: int, max_steps: int | None) -> VectorEnv:
        from innerworld.envs.maze import MazeVector

        return MazeVector(n, config(size, max_steps))

    return World(f"a maze, {layout}: go where a picture shows", one, many)


def _pusht(size: int, max_steps: int | None) -> gymnasium.Env:
    _need("gym_pusht", "pusht")
    from innerworld.envs.pusht import PushT

    return PushT(build(PushT.Config, _settings(size, "max_steps", max_steps), "pusht"))


def _pusht_vector(n: int, size: int, max_steps: int | None) -> VectorEnv:
    _need("gym_pusht", "pusht")
    from innerworld.envs.pusht import PushTVector

    return PushTVector(n, build(PushTVector.Config, _settings(size, "max_steps", max_steps), "pusht"))


def _mujoco(name: str, kind: str, module: str, extra: str, about: str) -> World:
    def config(size: int, max_steps: int | None) -> Any:
        _need(module, extra)
        from innerworld.envs.mujoco import MuJoCoConfig

        return build(MuJoCoConfig, _settings(size, "max_steps", max_steps), name)

    def one(size: int, max_steps: int | None) -> Any:
        settings = config(size, max_steps)
        from innerworld.envs import mujoco

        return {"Reacher": mujoco.Reacher, "FetchPush": mujoco.FetchPush}[kind](settings)

    def many(n: int, size: int, max_steps: int | None) -> VectorEnv:
        from innerworld.envs.rows import Rows

        return Rows(name, [one(size, max_steps) for _ in range(n)])

    return World(f"{about} (extra: {extra})", one, many)


def _settings(size: int, length: str, max_steps: int | None) -> dict[str, Any]:
    return {"size": size} if max_steps is None else {"size": size, length: max_steps}


def _need(module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise UserError(f'{extra} needs a package that is not installed: pip install "innerworld[{extra}]"')


ENVS = {
    "maze_u": _maze("u"),
    "maze_medium": _maze("medium"),
    "maze_spiral": _maze("spiral"),
    "two_rooms": World("an agent, a wall, a door: go where a picture shows", _two_rooms, _two_rooms_vector),
    "reacher": _mujoco(
        "reacher", "Reacher", "dm_control", "dmc", "two links and two torques: be where a picture shows"
    ),
    "fetch_push": _mujoco(
        "fetch_push", "FetchPush", "gymnasium_robotics", "robotics", "a robot arm pushes a block over a table, in 3-D"
    ),
    "pusht": World("push a T-shaped block onto its mark (extra: pusht)", _pusht, _pusht_vector),
}
