"""Pictures of MuJoCo's worlds: fast without a GPU, and each world's own, however many share a process.

OpenGL draws into the context that is current, and numbers textures and buffers alike in each. dm_control remembers
which context it made current last and does not see that another package has made its own current since; Gymnasium makes
its own current once. So beside another world they draw into its context, and when they are freed, delete its textures:
black pictures or noise, without an error. Here each makes its context current before it draws and before it frees.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray


def draw_fast(model: Any) -> None:
    """Leave out shadows, reflections and smoothed edges of a MuJoCo model, before its first picture.

    Without a GPU they are what pictures cost: 64 pixels come about a hundred times faster without.
    """
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 64


class ControlPainter:
    """Draws a physics of dm_control. `free` gives back what that took; it is also called when nobody needs this."""

    def __init__(self, physics: Any) -> None:
        draw_fast(physics.model)
        self._physics = physics
        self.free = weakref.finalize(self, _free_control, physics)
        self.free.atexit = False  # OpenGL may be gone by then

    def draw(self, size: int, camera: int = 0) -> NDArray[np.uint8]:
        """A picture, `size size 3`."""
        _take_control(self._physics)
        return self._physics.render(size, size, camera_id=camera)


class GymnasiumPainter:
    """Draws a MuJoCo world of Gymnasium; `free` is as above."""

    def __init__(self, env: Any) -> None:
        draw_fast(env.model)
        self._env = env
        self.free = weakref.finalize(self, _free_gymnasium, env.mujoco_renderer)
        self.free.atexit = False

    def begin(self) -> None:
        """After a reset: put the camera, which follows a body by and by, where it is before a first picture."""
        renderer = self._env.mujoco_renderer
        if renderer.viewer is not None:
            middle = np.median(self._env.data.geom_xpos, axis=0)
            renderer.viewer.cam.lookat[:] = (renderer.default_cam_config or {}).get("lookat", middle)

    def draw(self) -> NDArray[np.uint8]:
        """A picture in the size that the world was made with."""
        if self._env.mujoco_renderer.viewer is not None:  # the first picture makes it, and its context current
            self._env.mujoco_renderer.viewer.make_context_current()
        return self._env.render()


def _take_control(physics: Any) -> None:
    gl = physics.contexts.gl
    with gl.make_current() as thread:
        thread.call(gl._platform_make_current)


def _free_control(physics: Any) -> None:
    if physics._contexts is not None:
        _take_control(physics)
    physics.free()


def _free_gymnasium(renderer: Any) -> None:
    if renderer.viewer is not None:
        renderer.viewer.make_context_current()
        renderer.viewer.con.free()
