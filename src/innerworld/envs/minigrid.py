"""MiniGrid and BabyAI (Chevalier-Boisvert et al. 2023, arXiv 2306.13831): what an agent sees, as symbols or picture."""

from __future__ import annotations

import logging
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pydantic import Field

from innerworld.envs.suites import SuiteConfig, SuiteWorld
from innerworld.envs.wording import hashed
from innerworld.errors import UserError

KINDS = (11, 6, 3)  # of things, of colours and of what a door can be: a cell's three numbers
logger = logging.getLogger(__name__)


class MiniGridConfig(SuiteConfig):
    symbols: Literal["one_hot", "numbers"] = Field(
        default="one_hot", description="a cell is 20 numbers, 0 or 1, or MiniGrid's own 3"
    )
    whole: bool = Field(default=False, description="pictures show the whole grid instead of what the agent sees")
    mission: int = Field(
        default=0, description="numbers of a sensor `mission`, its words hashed; 0: no such sensor", ge=0
    )


class MiniGrid(SuiteWorld):
    """A MiniGrid or BabyAI id. Sensors: `symbols`, the cells that the agent sees; `direction`, one-hot; a picture of
    the same view; with `mission=64` its words, hashed to so many numbers (`envs/wording.py`). `info["mission"]` of a
    reset is the mission in words.

    A reward of up to 1 comes with success alone, as MiniGrid gives it: the later, the less.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    Config = MiniGridConfig

    def __init__(self, config: MiniGridConfig, size: int = 64, render_mode: str | None = None) -> None:
        import minigrid  # noqa: F401  # pyright: ignore[reportMissingImports]  # it registers its ids

        super().__init__(config, size, render_mode)
        limit = {} if config.max_steps is None else {"max_steps": config.max_steps}
        try:
            env: Any = gymnasium.make(config.task, disable_env_checker=True, render_mode="rgb_array", **limit)
        except (OSError, TypeError) as error:
            raise UserError(f"cannot make minigrid:{config.task}: {' '.join(str(error).split())}") from None
        self._grid = env.unwrapped
        seen = self._grid.observation_space
        self._cells = seen["image"].shape[:2]
        count = self._cells[0] * self._cells[1]
        if config.symbols == "one_hot":
            symbols = spaces.Box(0, 1, (count * sum(KINDS),), np.float32)
        else:
            symbols = spaces.Box(0, max(KINDS), (count * len(KINDS),), np.float32)
        sensors: dict[str, spaces.Space[Any]] = {"symbols": symbols, "direction": seen["direction"]}
        if config.mission:
            sensors["mission"] = spaces.Box(-1, 1, (config.mission,), np.float32)
        self.observation_space = spaces.Dict(sensors)
        self.action_space = self._grid.action_space
        if _varies(seen["mission"]) and not config.mission:
            logger.warning(
                "%s gives its mission in words, which no sensor says: set mission=64 for one that does", config.task
            )

    @classmethod
    def tasks(cls) -> list[str]:
        import minigrid  # noqa: F401  # pyright: ignore[reportMissingImports]

        return sorted(id for id in gymnasium.registry if id.startswith(("MiniGrid-", "BabyAI-")))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        obs, _ = self._grid.reset(seed=seed)
        return self._sense(obs), {"mission": obs["mission"]}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = self._grid.step(action)
        return self._sense(obs), float(reward), bool(terminated), bool(truncated), {}

    def render(self) -> Any:  # Gymnasium's type is wider than a picture
        cells = max(self._grid.width, self._grid.height) if self.config.whole else max(self._cells)
        return self._grid.get_frame(tile_size=-(-self.size // cells), agent_pov=not self.config.whole)

    def close(self) -> None:
        self._grid.close()

    def _sense(self, obs: dict[str, Any]) -> dict[str, Any]:
        cells: NDArray[np.uint8] = obs["image"]  # x y 3
        if self.config.symbols == "one_hot":
            parts = [np.eye(kinds, dtype=np.float32)[cells[..., i]] for i, kinds in enumerate(KINDS)]
            symbols = np.concatenate(parts, -1)  # x y 20
        else:
            symbols = cells.astype(np.float32)
        found: dict[str, Any] = {"symbols": symbols.reshape(-1), "direction": int(obs["direction"])}
        return found | ({"mission": hashed(obs["mission"], self.config.mission)} if self.config.mission else {})


def _varies(mission: Any) -> bool:
    """Does the mission differ between episodes? BabyAI's always does; MiniGrid's spaces list what they fill in."""
    from minigrid.core.mission import MissionSpace  # pyright: ignore[reportMissingImports]

    return type(mission) is not MissionSpace or bool(mission.ordered_placeholders)
