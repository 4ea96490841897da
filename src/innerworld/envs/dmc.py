"""DeepMind Control Suite (Tassa et al. 2018, arXiv 1801.00690): every task, its sensors by the suite's own names."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from innerworld.envs.mujoco_drawing import ControlPainter
from innerworld.envs.suites import SuiteConfig, SuiteWorld
from innerworld.errors import UserError

DOMAINS = {"cup": "ball_in_cup"}  # as Dreamer's papers call it
CAMERAS = {"quadruped": 2}  # the first camera of the others


class ControlSuiteConfig(SuiteConfig):
    camera: int | None = Field(
        default=None, description="number of the camera; null: 0, of quadruped 2, as in Dreamer's papers", ge=0
    )


class ControlSuite(SuiteWorld):
    """A task `domain-task`. Episodes have 1,000 steps and are truncated, unless the suite gives the discount 0.

    Pictures come without shadows and reflections, see `mujoco_drawing`. Raises `UserError` for a step past the end,
    which the suite would take as the first of another episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012
    Config = ControlSuiteConfig

    def __init__(self, config: ControlSuiteConfig, size: int = 64, render_mode: str | None = None) -> None:
        from dm_control import suite  # pyright: ignore[reportMissingImports]

        super().__init__(config, size, render_mode)
        domain, _, task = config.task.partition("-")
        domain = DOMAINS.get(domain, domain)
        if domain == "quadruped":
            _mend_quadruped()
        # The suite's clock adds up in floats, so steps are counted here where their number is given.
        limit = {} if config.max_steps is None else {"time_limit": float("inf")}
        self._env = suite.load(domain, task, task_kwargs={"random": 0, **limit})
        self._physics = self._env.physics
        self._painter = ControlPainter(self._physics)
        self._camera = CAMERAS.get(domain, 0) if config.camera is None else config.camera
        if self._camera >= self._physics.model.ncam:
            raise UserError(f"dmc:{config.task} has {self._physics.model.ncam} cameras: there is no {self._camera}")
        self._elapsed, self._over = 0, True
        self.observation_space = spaces.Dict(
            {
                name: spaces.Box(-np.inf, np.inf, sensor.shape, np.float64)
                for name, sensor in self._env.observation_spec().items()
            }
        )
        action = self._env.action_spec()
        self.action_space = spaces.Box(action.minimum, action.maximum, dtype=np.float64)

    @classmethod
    def tasks(cls) -> list[str]:
        from dm_control import suite  # pyright: ignore[reportMissingImports]

        names = {domain: short for short, domain in DOMAINS.items()}
        named = [f"{domain}-{task}" for domain, task in suite.ALL_TASKS]
        return named + [f"{names[domain]}-{task}" for domain, task in suite.ALL_TASKS if domain in names]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed)
        self._elapsed, self._over = 0, False
        return _sense(self._env.reset()), {}

    def step(self, action: ArrayLike) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        if self._over:
            raise UserError(f"dmc:{self.config.task}: the episode is over, or none has begun: call reset first")
        moment = self._env.step(action)
        self._elapsed += 1
        terminated = bool(moment.last() and moment.discount == 0)
        longest = self.config.max_steps
        truncated = not terminated and (moment.last() or (longest is not None and self._elapsed >= longest))
        self._over = terminated or truncated
        return _sense(moment), moment.reward, terminated, truncated, {}

    def render(self) -> Any:  # Gymnasium's type is wider than a picture
        return self._painter.draw(self.size, self._camera)

    def close(self) -> None:
        self._painter.free()


def _sense(moment: Any) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(value) for name, value in moment.observation.items()}


def _mend_quadruped() -> None:
    """Up to dm_control 1.0.34 its names of sensors come by `np.in1d`, which NumPy 2.4 no longer has."""
    from dm_control.suite import quadruped  # pyright: ignore[reportMissingImports]

    def sensor_names(physics: Any, *kinds: int) -> list[str]:
        numbers = np.flatnonzero(np.isin(physics.model.sensor_type, kinds))
        return [physics.model.id2name(number, "sensor") for number in numbers]

    physics: Any = quadruped.Physics
    physics._get_sensor_names = sensor_names
