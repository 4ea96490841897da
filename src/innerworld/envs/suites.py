"""Collections of worlds, by ids `suite:task` with settings behind commas: `atari:pong,gray=true`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import gymnasium
from pydantic import Field

from innerworld.config import Config, build, override
from innerworld.errors import UserError, nearest


class SuiteConfig(Config):
    """What every world of a suite can be told; each suite adds settings of its own."""

    task: str = Field(default="", description="which world of the suite")
    max_steps: int | None = Field(default=None, description="longest episode, steps; null: the world's own", ge=1)


class SuiteWorld(gymnasium.Env):
    """A world of a suite: any Gymnasium environment, made from its settings and the side of its pictures, in pixels.

    The one who makes it wraps it in `adapt`. It draws only where `render_mode` is "rgb_array".
    """

    Config: ClassVar[type[SuiteConfig]] = SuiteConfig

    def __init__(self, config: Any, size: int = 64, render_mode: str | None = None) -> None:
        self.config, self.size, self.render_mode = config, size, render_mode

    @classmethod
    def tasks(cls) -> list[str]:
        """The names of its worlds."""
        raise NotImplementedError


@dataclass(frozen=True)
class Suite:
    """What a suite is about, what it needs, and its class, which is imported when it is first asked for."""

    about: str
    extra: str
    module: str
    kind: Callable[[], type[SuiteWorld]]


def in_suite(id: str) -> str | None:
    """The id `suite:task…` for any of its spellings, or None where it is no suite's."""
    if id.partition(":")[0] in SUITES:
        return id
    if id.startswith(("MiniGrid-", "BabyAI-")):
        return f"minigrid:{id}"
    if id.startswith("ALE/"):
        from innerworld.envs.atari import of_ale

        _need("atari")
        return of_ale(id)
    return None


def make_in_suite(id: str, size: int, max_steps: int | None, drawn: bool) -> gymnasium.Env:
    """Make the world of an id `suite:task,key=value,…`. Raises `UserError`: no such task, setting or package."""
    name, _, rest = id.partition(":")
    task, *words = rest.split(",")
    _need(name)
    kind = SUITES[name].kind()
    known = kind.tasks()
    if task not in known:
        raise UserError(f"{name} has no world {task!r}.{nearest(task, known)} It has {len(known)}: {_some(known)}")
    config = build(kind.Config, {"task": task, "max_steps": max_steps}, name)
    return kind(override(config, words), size, "rgb_array" if drawn else None)


def _need(name: str) -> None:
    suite = SUITES[name]
    if find_spec(suite.module) is None:
        raise UserError(
            f'{name} needs the package {suite.module}, which is not installed: pip install "innerworld[{suite.extra}]"'
        )


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:12])}, …"


def _dmc() -> type[SuiteWorld]:
    from innerworld.envs.dmc import ControlSuite

    return ControlSuite


def _atari() -> type[SuiteWorld]:
    from innerworld.envs.atari import Atari

    return Atari


def _minigrid() -> type[SuiteWorld]:
    from innerworld.envs.minigrid import MiniGrid

    return MiniGrid


def _crafter() -> type[SuiteWorld]:
    from innerworld.envs.crafter import Crafter

    return Crafter


def _minatar() -> type[SuiteWorld]:
    from innerworld.envs.minatar import MinAtar

    return MinAtar


SUITES = {
    "dmc": Suite("DeepMind Control: bodies moved by torques, as dmc:walker-walk", "dmc", "dm_control", _dmc),
    "atari": Suite("Atari 2600 games, Atari-100k protocol, as atari:pong", "atari", "ale_py", _atari),
    "minigrid": Suite(
        "MiniGrid and BabyAI: rooms, keys and doors, as minigrid:MiniGrid-DoorKey-5x5-v0", "grid", "minigrid", _minigrid
    ),
    "crafter": Suite("Crafter: survive, gather, build; as crafter:reward", "crafter", "crafter", _crafter),
    "minatar": Suite("MinAtar: five small games of Atari's kind, as minatar:breakout", "minatar", "minatar", _minatar),
}
