"""Worlds of MuJoCo with goals: DMC's reacher, and FetchPush, a robot arm that pushes a block over a table.

Physics and bodies are those of dm_control (Tassa et al. 2018, arXiv 1801.00690) and gymnasium-robotics (Plappert et al.
2018, arXiv 1802.09464). A goal is a picture here, so their own marks are not drawn.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from innerworld.config import Config
from innerworld.envs.actions import check_unit
from innerworld.envs.mujoco_drawing import ControlPainter, GymnasiumPainter
from innerworld.errors import UserError

ARM = 0.12  # metres, each of the reacher's two links
FARTHEST = 1e4  # metres, radians and their rates: nothing gets there
REACHED = 0.05  # metres: of DMC's larger target, and of gymnasium-robotics


class MuJoCoConfig(Config):
    size: int = Field(default=64, description="side of the picture, pixels", ge=8)
    max_steps: int = Field(default=200, description="length of an episode, steps", ge=1)


class MuJoCoWorld(gymnasium.Env):
    """Sensors: `pixels` (y, x, 3) uint8; `state`: positions and velocities of the physics, and what else it takes to
    begin there exactly. The reward is 0: goals give the meaning. Truncates after `max_steps`.

    `reset` takes the option `state`. A leaf says what is drawn, what an action does, and what success is.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012
    Config = MuJoCoConfig
    name = ""
    states, actions = 0, 0  # how many numbers each has

    def __init__(self, config: MuJoCoConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        self.config = config = config or MuJoCoConfig()
        self.render_mode = render_mode
        self._elapsed = 0
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Box(0, 255, (config.size, config.size, 3), np.uint8),
                "state": spaces.Box(-FARTHEST, FARTHEST, (self.states,), np.float32),
            }
        )
        self.action_space = spaces.Box(-1, 1, (self.actions,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        super().reset(seed=seed)
        self._elapsed = 0
        if options and "state" in options:
            state = np.asarray(options["state"], np.float64)
            if state.shape != (self.states,) or not np.isfinite(state).all():
                raise UserError(f"{self.name}: a state is {self.states} finite numbers, got {state.tolist()}")
            self._place(state)
        else:
            self._begin()
        return self._sense(), {}

    def step(self, action: ArrayLike) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        unit = np.asarray(action, np.float64)
        if unit.shape != (self.actions,):
            raise UserError(f"{self.name}: an action has the shape {unit.shape}, expected ({self.actions},)")
        check_unit(unit)
        self._move(np.clip(unit, -1, 1))
        self._elapsed += 1
        return self._sense(), 0.0, False, self._elapsed >= self.config.max_steps, {}

    def success(self, state: ArrayLike, goal: ArrayLike) -> NDArray[np.bool_]:
        """Are the points that matter at most 5 cm apart? `... k`, `... k` → `...`."""
        away = self.point(np.asarray(state, np.float64)) - self.point(np.asarray(goal, np.float64))
        return np.linalg.norm(away, axis=-1) <= REACHED

    def point(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a goal is about, in metres: `... k` → `... 2` or `... 3`."""
        raise NotImplementedError

    def render(self) -> Any:  # Gymnasium's type is wider than a picture
        raise NotImplementedError

    def _begin(self) -> None:
        """Begin somewhere, by `self.np_random`."""
        raise NotImplementedError

    def _place(self, state: NDArray[np.float64]) -> None:
        raise NotImplementedError

    def _move(self, action: NDArray[np.float64]) -> None:
        raise NotImplementedError

    def _state(self) -> NDArray[np.float64]:
        raise NotImplementedError

    def _sense(self) -> dict[str, NDArray[Any]]:
        return {"pixels": self.render(), "state": self._state().astype(np.float32)}


class Reacher(MuJoCoWorld):
    """DMC's reacher: two links on a table, turned by two torques, 0.02 s a step.

    `state`: two angles, two angular velocities. Success: the tip is within 5 cm of where it should be.
    """

    name, states, actions = "reacher", 4, 2

    def __init__(self, config: MuJoCoConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        from dm_control import suite  # pyright: ignore[reportMissingImports]

        super().__init__(config, render_mode)
        self._world = suite.load("reacher", "easy")
        self._physics = self._world.physics
        self._painter = ControlPainter(self._physics)
        self._physics.named.model.geom_rgba["target", 3] = 0

    def render(self) -> NDArray[np.uint8]:
        return self._painter.draw(self.config.size)

    def close(self) -> None:
        self._painter.free()

    def point(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        upper = state[..., 0]
        both = upper + state[..., 1]
        return ARM * np.stack([np.cos(upper) + np.cos(both), np.sin(upper) + np.sin(both)], axis=-1)

    def _begin(self) -> None:
        low, high = self._physics.named.model.jnt_range["wrist"]
        angles = self.np_random.uniform(-np.pi, np.pi), self.np_random.uniform(low, high)
        self._place(np.array([*angles, 0.0, 0.0]))

    def _place(self, state: NDArray[np.float64]) -> None:
        with self._physics.reset_context():
            self._physics.set_state(state)

    def _move(self, action: NDArray[np.float64]) -> None:
        self._physics.set_control(action)
        self._physics.step(self._world._n_sub_steps)

    def _state(self) -> NDArray[np.float64]:
        return self._physics.get_state().copy()


class FetchPush(MuJoCoWorld):
    """A robot arm whose gripper, closed, moves over a table on which a block lies; 0.04 s a step.

    An action moves the gripper by up to 5 cm along x, y and z. `state`: positions and velocities of all joints, and
    where the gripper is drawn to. Success: the block is within 5 cm of where it should be, wherever the arm is.
    """

    name, states, actions = "fetch_push", 22 + 21 + 7, 3
    BLOCK = slice(15, 18)  # of the positions

    def __init__(self, config: MuJoCoConfig | None = None, render_mode: str | None = "rgb_array") -> None:
        import gymnasium_robotics  # pyright: ignore[reportMissingImports]

        super().__init__(config, render_mode)
        gymnasium.register_envs(gymnasium_robotics)
        size = self.config.size
        env: Any = gymnasium.make(
            "FetchPush-v4", render_mode="rgb_array", width=size, height=size, disable_env_checker=True
        )
        self._env = env.unwrapped
        self._painter = GymnasiumPainter(self._env)
        self._env.mujoco_renderer.default_cam_config = {
            "distance": 0.85, "azimuth": 140.0, "elevation": -35.0, "lookat": np.array([1.32, 0.75, 0.45])
        }  # fmt: skip
        self._env.model.site_rgba[:, 3] = 0

    def render(self) -> NDArray[np.uint8]:
        return self._painter.draw()

    def point(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        return state[..., self.BLOCK]

    def close(self) -> None:
        self._painter.free()
        self._env.close()

    def _begin(self) -> None:
        self._env.reset(seed=int(self.np_random.integers(2**31)))

    def _place(self, state: NDArray[np.float64]) -> None:
        positions, velocities, drawn = np.split(state, [22, 43])
        self._env.reset(seed=0)
        data = self._env.data
        data.qpos[:], data.qvel[:] = positions, velocities
        data.mocap_pos[0], data.mocap_quat[0] = drawn[:3], drawn[3:]
        self._env._mujoco.mj_forward(self._env.model, data)

    def _move(self, action: NDArray[np.float64]) -> None:
        self._env._set_action(np.array([*action, -1.0]))
        self._env._mujoco_step(None)
        self._env._step_callback()

    def _state(self) -> NDArray[np.float64]:
        data = self._env.data
        return np.concatenate([data.qpos, data.qvel, data.mocap_pos[0], data.mocap_quat[0]])
