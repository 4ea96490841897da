"""What follows in a scene, by the engine pymunk (Chipmunk): things fall, hit, bounce and are stopped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from innerworld.envs.physics.scene import FALL, FLOOR, FRAMES, PLANK, SIDE, THING, Path, Scene, scene_of
from innerworld.errors import UserError
from innerworld.types import Obs

if TYPE_CHECKING:
    import pymunk

SUBSTEPS = 4  # of the engine in a frame
GRAIN = 256  # places are told in steps of 1 / this, so that equal places are equal pictures, to the last bit
FAR = 100.0  # how far the floor reaches beyond the picture


def follow(scene: Scene, frames: int = FRAMES) -> Path:
    """The way of each thing through a film: `t k 4`. Raises `UserError` without pymunk."""
    space, bodies = _space(scene)
    path = np.zeros((frames, len(scene.things), 4))
    for t in range(frames):
        if t:
            for _ in range(SUBSTEPS):
                space.step(1 / SUBSTEPS)
        for i, body in bodies:
            path[t, i] = (*body.position, *body.velocity)
    path[..., :2] = np.round(path[..., :2] * GRAIN) / GRAIN
    return path


class Law:
    """What follows in one frame, in tensors, for the oracle: sensors `b ...`, of which only `state` is known."""

    def __call__(self, obs: Obs, action: Tensor) -> Obs:
        if obs.keys() != {"state"}:
            raise UserError(f"the law of the physics films is one of state alone, not of {', '.join(obs)}")
        state = obs["state"]
        # Films of a quadruplet have most of their states in common.
        rows, places = np.unique(state.detach().cpu().double().numpy(), axis=0, return_inverse=True)
        after = np.stack([after_of(row) for row in rows])[places.reshape(-1)]
        return {"state": torch.from_numpy(after).to(state)}


def after_of(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row of `state` one frame later."""
    path = follow(scene_of(state), 2)
    after = state.copy()
    for i in range(path.shape[1]):
        at = 1 + i * len(THING)
        if state[at] > 0.5:
            after[at + 1 : at + 5] = path[1, i]  # x, y, vx, vy
    return after


def _space(scene: Scene) -> tuple[pymunk.Space, list[tuple[int, Any]]]:
    """An engine's space, and the bodies in it with their places among the scene's things."""
    pymunk = _engine()
    space = pymunk.Space()
    space.gravity = (0, FALL if scene.upright else 0)
    space.collision_slop = 0.01
    static = space.static_body
    if scene.upright:
        # A thick one, so that what comes fast does not get through; its bounce of 0 makes things stay on it.
        thick = SIDE
        space.add(pymunk.Segment(static, (-FAR, FLOOR + thick), (SIDE + FAR, FLOOR + thick), thick))
    for plank in scene.planks:
        shape = pymunk.Segment(static, (plank.x0, plank.y0), (plank.x1, plank.y1), PLANK)
        shape.elasticity = plank.bounce
        space.add(shape)
    bodies = []
    for i, thing in enumerate(scene.things):
        if thing is not None:
            body = pymunk.Body(1.0, math.inf)  # it does not turn
            body.position, body.velocity = (thing.x, thing.y), (thing.vx, thing.vy)
            shape = pymunk.Circle(body, thing.radius)
            shape.elasticity = 1.0  # times that of what it hits
            space.add(body, shape)
            bodies.append((i, body))
    return space, bodies


def _engine() -> Any:
    try:
        import pymunk
    except ImportError:
        raise UserError('the physics films need pymunk: pip install "innerworld[physics]"') from None
    return pymunk
