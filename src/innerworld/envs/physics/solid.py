"""A film of a scene in three dimensions, drawn by MuJoCo: `t y x 3` uint8 (extra: mujoco).

Things are balls, cubes, eggs and cubes on their edge. They move in the plane in which pymunk has moved them; nothing is
simulated here: places are set and drawn, so that equal places are equal pictures.
"""

from __future__ import annotations

import atexit
import os
import sys
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerworld.envs.mujoco_drawing import draw_fast
from innerworld.envs.physics.scene import (
    BASE,
    FLOOR,
    PLANK,
    PLANKS,
    SCREENS,
    SHAPES,
    SIDE,
    THINGS,
    Color,
    Path,
    Plank,
    Scene,
    Screen,
)
from innerworld.errors import UserError

FINE = 2  # samples a pixel, each way, for edges as smooth as they can be had cheaply
DEPTH = 6.0  # half that of planks
BEFORE = 10.0  # how far screens stand before the plane in which things move
TALLER = 3.0  # how much higher screens are than in two dimensions, for the camera looks over them
AWAY = 150.0  # of the camera from the plane
OVER = FLOOR - SIDE / 2  # how high the camera is, over the floor
ASIDE = np.array([0.0, 0.0, -100.0])  # below the floor, where nobody looks
UPRIGHT = np.eye(3).reshape(-1)
ON_EDGE = np.array([[1, 0, 1], [0, 2**0.5, 0], [-1, 0, 1]]).reshape(-1) / 2**0.5
FORMS = ("sphere", "box", "ellipsoid", "box")  # of each of `SHAPES`


def draw_solid(scene: Scene, path: Path, size: int) -> NDArray[np.uint8]:
    """The pictures of a film, `size` pixels wide. Raises `UserError` without MuJoCo."""
    return _stage(size).film(scene, path)


class _Stage:
    """A place for everything that a scene may have, and a camera at the side and above."""

    def __init__(self, size: int) -> None:
        mujoco = _mujoco()
        model = mujoco.MjModel.from_xml_string(_written(size * FINE))
        draw_fast(model)
        self._model, self._data, self._size = model, mujoco.MjData(model), size
        mujoco.mj_forward(model, self._data)
        self._painter = mujoco.Renderer(model, size * FINE, size * FINE)
        atexit.register(self._painter.close)  # later OpenGL is gone
        self._number = {model.geom(i).name: i for i in range(model.ngeom)}
        self._large = np.empty((size * FINE, size * FINE, 3), np.uint8)

    def film(self, scene: Scene, path: Path) -> NDArray[np.uint8]:
        self._set(scene)
        tops = [screen.top(len(path)) for screen in scene.screens]
        film = np.empty((len(path), self._size, self._size, 3), np.uint8)
        for t in range(len(path)):
            for i, thing in enumerate(scene.things):
                if thing is not None:
                    x, y = path[t, i, :2]
                    place = (x, 0.0, FLOOR - y) if scene.upright else (x, -y, thing.radius)
                    self._data.geom_xpos[self._number[f"{SHAPES[thing.shape]}_{i}"]] = place
            for i, (screen, top) in enumerate(zip(scene.screens, tops, strict=True)):
                self._raise(i, screen, float(top[t]))
            self._painter.update_scene(self._data, "side" if scene.upright else "above")
            self._painter.render(out=self._large)
            film[t] = _halved(self._large)
        return film

    def _set(self, scene: Scene) -> None:
        """What stands still, and the sizes and colours of what does not; the rest is put aside."""
        look = scene.look
        self._data.geom_xpos[self._number["floor"] + 2 :] = ASIDE
        self._paint("back", look.ground)
        self._paint("floor", look.floor if scene.upright else look.ground)
        for i, thing in enumerate(scene.things):
            if thing is not None:
                name = SHAPES[thing.shape]
                self._paint(f"{name}_{i}", thing.color)
                self._model.geom_size[self._number[f"{name}_{i}"]] = np.array(_HALVES[name]) * thing.radius
        for i, plank in enumerate(scene.planks):
            self._lay(f"plank_{i}", plank)
            self._paint(f"plank_{i}", look.plank)
        for i in range(len(scene.screens)):
            self._paint(f"screen_{i}", look.screen)

    def _lay(self, name: str, plank: Plank) -> None:
        number = self._number[name]
        x, z = plank.x1 - plank.x0, plank.y0 - plank.y1
        length = np.hypot(x, z)
        self._data.geom_xpos[number] = ((plank.x0 + plank.x1) / 2, 0, FLOOR - (plank.y0 + plank.y1) / 2)
        self._data.geom_xmat[number] = np.array([[x, 0, -z], [0, length, 0], [z, 0, x]]).reshape(-1) / length
        self._model.geom_size[number] = (length / 2, DEPTH, PLANK)

    def _raise(self, i: int, screen: Screen, top: float) -> None:
        """A screen as high as it is now; as long as nothing of it is up, it is put aside."""
        number, half = self._number[f"screen_{i}"], (screen.x1 - screen.x0) / 2
        if top >= BASE:
            self._data.geom_xpos[number] = ASIDE
            return
        high = (FLOOR - top) + TALLER * (BASE - top) / (screen.height + BASE - FLOOR)
        self._data.geom_xpos[number] = (screen.x0 + half, -BEFORE, high / 2 - 2)
        self._model.geom_size[number] = (half, 0.5, max(0.0, high / 2 + 2))  # its foot is in the floor

    def _paint(self, name: str, color: Color) -> None:
        self._model.geom_rgba[self._number[name], :3] = color


@lru_cache(maxsize=4)
def _stage(size: int) -> _Stage:
    """One for each size, for contexts of OpenGL are dear."""
    return _Stage(size)


_HALVES = {"disc": (1, 1, 1), "square": (1, 1, 1), "triangle": (0.6, 0.6, 1), "diamond": (0.5**0.5, 0.7, 0.5**0.5)}
"""Half the widths of each shape, by its radius."""


def _written(size: int) -> str:
    """The stage in MuJoCo's language; what a scene has not is put aside."""
    geoms = [
        *(f'<geom name="plank_{i}" type="box" size="1 1 1"/>' for i in range(PLANKS)),
        *(f'<geom name="screen_{i}" type="box" size="1 1 1"/>' for i in range(SCREENS)),
        *(
            f'<geom name="{shape}_{i}" type="{form}" size="1 1 1"{_turned(shape)}/>'
            for i in range(THINGS)
            for shape, form in zip(SHAPES, FORMS, strict=True)
        ),
    ]
    middle, view = SIDE / 2, np.degrees(2 * np.arctan2(SIDE / 2, AWAY))
    return f"""<mujoco>
      <visual>
        <global offwidth="{size}" offheight="{size}"/>
        <headlight ambient=".45 .45 .45" diffuse=".25 .25 .25" specular="0 0 0"/>
        <map zfar="1000"/>
      </visual>
      <statistic extent="1"/>
      <worldbody>
        <light directional="true" dir="-.4 .5 -1" diffuse=".3 .3 .3" specular="0 0 0"/>
        <camera name="side" pos="{middle} {-AWAY} {OVER}" xyaxes="1 0 0 0 0 1" fovy="{view}"/>
        <camera name="above" pos="{middle} {-middle} {AWAY}" xyaxes="1 0 0 0 1 0" fovy="{view}"/>
        <geom name="floor" type="box" size="400 400 1" pos="0 0 -1"/>
        <geom name="back" type="box" size="400 1 400" pos="0 60 0"/>
        {"".join(geoms)}
      </worldbody>
    </mujoco>"""


def _turned(shape: str) -> str:
    return ' euler="0 45 0"' if shape == "diamond" else ""


def _halved(large: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each pixel the mean of its four samples: `y x 3`."""
    rows = large[::2].astype(np.uint16) + large[1::2]
    return ((rows[:, ::2] + rows[:, 1::2]) >> 2).astype(np.uint8)


def _mujoco() -> Any:
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError('films in three dimensions need MuJoCo: pip install "innerworld[mujoco]"') from None
    return mujoco
