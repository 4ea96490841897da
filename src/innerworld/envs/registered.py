"""Worlds of Gymnasium's registry: classic control, Box2D, MuJoCo, and whatever a package registers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gymnasium

from innerworld.envs.mujoco_drawing import GymnasiumPainter
from innerworld.errors import UserError, nearest

MUJOCO = "gymnasium.envs.mujoco."
EXTRAS = {
    MUJOCO: "mujoco",
    "gymnasium.envs.box2d.": "box2d",
    "gymnasium.envs.classic_control.": "envs",
    "gymnasium.envs.toy_text.": "envs",
}
"""Where Gymnasium's own worlds live, and the extra of ours with what they need."""


def make_registered(id: str, size: int, max_steps: int | None, drawn: bool, names: Sequence[str]) -> gymnasium.Env:
    """Make the world of a Gymnasium id `id` or `module:id`, with arguments of its own behind commas (`key=value`).

    Worlds of MuJoCo are drawn at once in `size` pixels, without shadows (see `mujoco_drawing`). Raises `UserError` for
    what cannot be made; `names` are what else there is, for an id that nobody knows.
    """
    name, *words = id.split(",")
    entry = gymnasium.registry.get(name)
    home = str(entry.entry_point) if entry is not None else ""
    extra = next((extra for package, extra in EXTRAS.items() if home.startswith(package)), None)
    painted = drawn and home.startswith(MUJOCO)
    arguments = {"width": size, "height": size} if painted else {}
    arguments |= _arguments(id, words)
    try:
        # Its checker only warns; the adapter raises what matters here.
        env = gymnasium.make(
            name,
            max_episode_steps=max_steps,
            render_mode="rgb_array" if drawn else None,
            disable_env_checker=True,
            **arguments,
        )
    except gymnasium.error.UnregisteredEnv:
        raise UserError(
            f"unknown environment {name!r}.{nearest(name, [*names, *gymnasium.registry])} Known: {', '.join(names)}, "
            "every Gymnasium id, and module:id where a package must be imported first"
        ) from None
    except ModuleNotFoundError as error:
        # Gymnasium drops the name of a module that it was told to import.
        missing = error.name or name.partition(":")[0]
        install = f'"innerworld[{extra}]"' if extra else "the package that holds it"
        raise UserError(f"{name} needs the module {missing!r}: pip install {install}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        install = f'pip install "innerworld[{extra}]"' if extra else " ".join(str(error).split())
        raise UserError(f"{name} needs a package that is not installed: {install}") from None
    except gymnasium.error.Error as error:
        raise UserError(f"cannot make {name!r}: {' '.join(str(error).split())}") from None
    except TypeError as error:
        if not words:
            raise
        raise UserError(f"cannot make {id!r}: {' '.join(str(error).split())}") from None
    return Painted(env) if painted else env


class Painted(gymnasium.Wrapper):
    """A world of MuJoCo whose pictures come fast, and are its own."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._painter = GymnasiumPainter(env.unwrapped)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        answer = super().reset(seed=seed, options=options)
        self._painter.begin()
        return answer

    def render(self) -> Any:  # Gymnasium's type is wider than a picture
        return self._painter.draw()

    def close(self) -> None:
        self._painter.free()
        super().close()


def _arguments(id: str, words: Sequence[str]) -> dict[str, Any]:
    """`key=value` words, each value read as JSON, else as text."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"cannot read {word!r} in {id!r}: write arguments as key=value, behind commas")
        try:
            found[key] = json.loads(text)
        except json.JSONDecodeError:
            found[key] = text
    return found
