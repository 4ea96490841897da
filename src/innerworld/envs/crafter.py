"""Crafter (Hafner 2021, arXiv 2109.06780): survive, gather and build in a drawn landscape; 22 achievements."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from innerworld.envs.suites import SuiteConfig, SuiteWorld
from innerworld.errors import UserError

LONGEST = 10_000  # steps of an episode where nobody says otherwise
SMALLEST = 9  # pixels: one for each cell of the view


class Crafter(SuiteWorld):
    """`pixels` (y, x, 3). `reward`: 1 for each achievement that is unlocked and 0.1 for each point of health, or
    `noreward`. `info["achievements"]` counts how often each was done in this episode.

    Terminates when the player dies, truncates after 10,000 steps or `max_steps`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, config: SuiteConfig, size: int = 64, render_mode: str | None = None) -> None:
        if size < SMALLEST:
            raise UserError(f"crafter draws pictures of at least {SMALLEST} pixels, size is {size}")
        super().__init__(config, size, render_mode)
        self._world = self._new(0)
        self._elapsed, self._longest = 0, config.max_steps or LONGEST
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = spaces.Discrete(int(self._world.action_space.n))

    @classmethod
    def tasks(cls) -> list[str]:
        return ["reward", "noreward"]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._world = self._new(int(self.np_random.integers(2**31)))  # it takes a seed nowhere else
        self._elapsed = 0
        return self._world.reset(), {}

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        pixels, reward, _, info = self._world.step(int(action))
        self._elapsed += 1
        terminated = info["discount"] == 0
        truncated = not terminated and self._elapsed >= self._longest
        return pixels, float(reward), terminated, truncated, {"achievements": info["achievements"]}

    def render(self) -> Any:  # Gymnasium's type is wider than a picture
        return self._world.render()

    def _new(self, seed: int) -> Any:
        import crafter  # pyright: ignore[reportMissingImports]

        class Ordered(crafter.Env):
            """Creatures come in sets there, whose order is that of their addresses in memory: no seed decided it."""

            def _balance_object(self, chunk: Any, objs: Any, *rest: Any) -> None:
                super()._balance_object(chunk, sorted(objs, key=lambda creature: tuple(creature.pos)), *rest)

        # Steps are counted here: its own count cannot tell the end of time from death in the last step.
        return Ordered(size=(self.size, self.size), reward=self.config.task == "reward", length=None, seed=seed)
