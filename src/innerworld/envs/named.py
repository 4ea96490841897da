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


def _rooms(about: str, **settings: Any) -> World:
    """Two rooms with these settings; all lengths go with the size."""

    def config(size: int, max_steps: int | None) -> TwoRoomsConfig:
        from innerworld.envs.two_rooms import TwoRoomsConfig

        plain = TwoRoomsConfig.of_size(size).model_dump()
        return build(TwoRoomsConfig, plain | settings | _settings(size, "steps", max_steps), "two_rooms")

    def one(size: int, max_steps: int | None) -> gymnasium.Env:
        from innerworld.envs.two_rooms import TwoRooms

        return TwoRooms(config(size, max_steps))

    def many(n: int, size: int, max_steps: int | None) -> VectorEnv:
        from innerworld.envs.two_rooms import TwoRoomsVector

        return TwoRoomsVector(n, config(size, max_steps))

    return World(about, one, many)


def _maze() -> tuple[Any, Any]:
    from innerworld.envs.maze import Maze, MazeVector

    return Maze, MazeVector


def _paddle() -> tuple[Any, Any]:
    from innerworld.envs.paddle import Paddle, PaddleVector

    return Paddle, PaddleVector


def _physics() -> tuple[Any, Any]:
    _need("pymunk", "physics")
    from innerworld.envs.physics.world import Physics, PhysicsVector

    return Physics, PhysicsVector


def _solid_physics() -> tuple[Any, Any]:
    _need("mujoco", "mujoco")
    return _physics()


def _recall() -> tuple[Any, Any]:
    from innerworld.envs.recall import Recall, RecallVector

    return Recall, RecallVector


def _revisit() -> tuple[Any, Any]:
    from innerworld.envs.revisit import Revisit, RevisitVector

    return Revisit, RevisitVector


def _coinrun() -> tuple[Any, Any]:
    from innerworld.envs.coinrun import CoinRun, CoinRunVector

    return CoinRun, CoinRunVector


def _ours(name: str, about: str, kinds: Callable[[], tuple[Any, Any]], **settings: Any) -> World:
    """A world of this library with these settings; `kinds` imports it, as one and as many."""

    def config(kind: Any, size: int, max_steps: int | None) -> Any:
        return build(kind.Config, settings | _settings(size, "steps", max_steps), name)

    def one(size: int, max_steps: int | None) -> gymnasium.Env:
        kind, _ = kinds()
        return kind(config(kind, size, max_steps))

    def many(n: int, size: int, max_steps: int | None) -> VectorEnv:
        _, kind = kinds()
        return kind(n, config(kind, size, max_steps))

    return World(about, one, many)


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
    **{
        f"maze_{layout}": _ours(f"maze_{layout}", f"a maze, {layout}: go where a picture shows", _maze, layout=layout)
        for layout in ("u", "medium", "spiral")
    },
    "two_rooms": _rooms("an agent, a wall, a door: go where a picture shows"),
    "two_rooms_noise": _rooms("the same before a floor that flickers, new in each frame", backdrop="noise"),
    "two_rooms_blobs": _rooms("the same behind which blue discs wander", backdrop="blobs"),
    "paddle": _ours("paddle", "a paddle and a ball: return it; what follows, two pictures tell", _paddle),
    "physics_2d": _ours(
        "physics_2d", "films of falling, hitting and hiding things: nobody acts (extra: physics)", _physics
    ),
    "physics_3d": _ours("physics_3d", "the same, drawn in 3-D (extras: physics, mujoco)", _solid_physics, dimensions=3),
    "recall_10": _ours(
        "recall_10", "a cue shown once, 10 steps before doors: choose that of its colour", _recall, delay=10
    ),
    "recall_100": _ours("recall_100", "the same, 100 steps before", _recall, delay=100),
    "recall_1000": _ours("recall_1000", "the same, 1,000 steps before", _recall, delay=1000),
    "recall_pairs_100": _ours(
        "recall_pairs_100", "4 keys, each with a colour; one is asked for", _recall, delay=100, pairs=4
    ),
    "revisit_9": _ours(
        "revisit_9",
        "a maze of coloured tiles, 9 x 9, new each time, seen through a window",
        _revisit,
        cells=9,
        steps=200,
    ),
    "revisit_15": _ours("revisit_15", "the same, 15 x 15, for 1,000 steps", _revisit, cells=15, steps=1000),
    "coinrun": _ours("coinrun", "run and jump to the coin, in another level each time (package: procgen2)", _coinrun),
    "reacher": _mujoco(
        "reacher", "Reacher", "dm_control", "dmc", "two links and two torques: be where a picture shows"
    ),
    "fetch_push": _mujoco(
        "fetch_push", "FetchPush", "gymnasium_robotics", "robotics", "a robot arm pushes a block over a table, in 3-D"
    ),
    "pusht": World("push a T-shaped block onto its mark (extra: pusht)", _pusht, _pusht_vector),
}
