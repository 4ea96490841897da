"""What `Video` may be told of a frame beside the action: its edges, or a map that a sensor gives (Cosmos-Transfer).

A map is cut as the picture's tokens are, and comes to the side branch of the transformer (`nn/space_time_side.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from innerworld import checkpoint
from innerworld.errors import UserError, choose
from innerworld.models.codec import Codec
from innerworld.models.video_config import ControlConfig, VideoConfig
from innerworld.nn.edges import edges
from innerworld.types import Obs, Spec

if TYPE_CHECKING:
    from innerworld.models.video import Video


class Control:
    """The control maps of clips, `... y x c` in [0, 1], and the tokens that the branch is told, `... s width+1`.

    Raises `UserError` for a sensor that is not there, and a map that the picture's tokens cannot share.
    """

    def __init__(self, config: ControlConfig, spec: Spec, codec: Codec) -> None:
        self.config, self.s = config, codec.s
        if not codec.images:
            raise UserError(f"control.kind={config.kind} draws pictures, but there is no picture among the sensors")
        of = 0  # the picture whose tokens share the map
        if config.kind == "edges":
            self.sensor = config.sensor or codec.images[0]
            of = choose("picture", self.sensor, {name: i for i, name in enumerate(codec.images)})
            self.shape = (*spec.obs[self.sensor][:2], 1)
        else:
            self.sensor = config.sensor
            self.shape = spec.obs[self.sensor]
        self.grid = codec.grids[of]
        self.before = sum(y * x for y, x in codec.grids[:of])
        (y, x, c), (rows, columns) = self.shape, self.grid
        if y % rows or x % columns:
            raise UserError(
                f"a control map of {y}×{x} cannot be shared among {rows}×{columns} tokens of a picture: give one whose "
                "sides are multiples of these"
            )
        self.width = (y // rows) * (x // columns) * c

    def maps(self, obs: Obs) -> Tensor:
        """Of what was seen, `... y x c`: a picture's edges, or the sensor. Raises `UserError` where it is missing."""
        if self.sensor not in obs:
            what = "takes the edges of" if self.config.kind == "edges" else "is controlled by"
            raise UserError(f"this model {what} {self.sensor!r}, which is not in what is seen: {', '.join(obs)}")
        found = obs[self.sensor]
        if self.config.kind == "edges":
            return edges(found, self.config.threshold)
        self._check_shape(found)
        return _unit(found)

    def told(self, maps: Tensor, weight: Tensor) -> Tensor:
        """Maps `... y x c` that count as much as `weight` `...` says; what counts nothing is not told."""
        rows, columns = self.grid
        cut = rearrange(maps, "... (r i) (k j) c -> ... (r k) (i j c)", r=rows, k=columns)
        after = self.s - self.before - rows * columns
        values = F.pad(cut, (0, 0, self.before, after)) * (weight != 0)[..., None, None]
        return torch.cat([values, weight[..., None, None].expand(*values.shape[:-1], 1)], dim=-1)

    def asked(self, maps: Tensor, b: int, h: int) -> Tensor:
        """Maps that a user gives for `h` frames of `b` rows, in [0, 1]. Raises `UserError` for others."""
        self._check_shape(maps)
        if maps.ndim != 5 or maps.shape[:2] != (b, h):
            raise UserError(
                f"control maps of shape {tuple(maps.shape)}, wanted {(b, h, *self.shape)}: one map for each action of "
                "each row, of the frame that the action leads to"
            )
        found = _unit(maps)
        if not bool(((found >= 0) & (found <= 1)).all()):
            raise UserError("control maps reach beyond [0, 1]: give floats between, or uint8")
        return found

    def _check_shape(self, maps: Tensor) -> None:
        if tuple(maps.shape[-3:]) != self.shape:
            found, wanted = ("×".join(map(str, shape)) for shape in (maps.shape[-3:], self.shape))
            raise UserError(
                f"a control map is {found} (y, x, channels), this model was made for {wanted}"
                + (f": edges of {self.sensor!r}, one channel" if self.config.kind == "edges" else f" ({self.sensor!r})")
            )


def drawn(config: ControlConfig, spec: Spec) -> Spec:
    """What is predicted: all sensors but the map. Raises `UserError` for a map that is none of the sensors."""
    if config.kind != "map":
        return spec
    if config.sensor not in spec.images():
        raise UserError(
            f"control.sensor={config.sensor or '(none)'}: name the picture among the sensors that is the control map; "
            f"there are {', '.join(spec.obs)}"
        )
    rest = [name for name in spec.obs if name != config.sensor]
    if not rest:
        raise UserError(f"{config.sensor!r} is the only sensor: name the picture to be drawn as well (--sensors)")
    return spec.only(*rest)


def borrow(config: VideoConfig, spec: Spec, kind: type[Video]) -> tuple[VideoConfig, Video | None]:
    """The configuration and model of the run that is the trunk, where one is named; what is saved needs it no more.

    Raises `UserError` for a run that has a branch already, whose codec is not yet taught, or of another world.
    """
    control = config.control
    if control.trunk is None:
        return config, None
    lent = checkpoint.load(control.trunk, kind=kind)
    if lent.settings.control.kind != "none":
        raise UserError(f"{control.trunk} has a control branch itself: name the run without one that it began from")
    if lent.waits():
        raise UserError(f"{control.trunk} was still teaching its codec: train it for longer")
    wanted = drawn(control, spec)
    if (list(lent.spec.obs.items()), lent.spec.action) != (list(wanted.obs.items()), wanted.action):
        raise UserError(
            f"{control.trunk} was made for {_said(lent.spec)}, here are {_said(wanted)}: take the same sensors in the "
            "same order, and the same actions"
        )
    told = control.model_copy(update={"trunk": None, "origin": control.trunk})
    return lent.settings.model_copy(update={"control": told}), lent


def _said(spec: Spec) -> str:
    sensors = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in spec.obs.items())
    return f"{sensors} and actions of {spec.action} numbers"


def _unit(pictures: Tensor) -> Tensor:
    return pictures.float() / (255 if pictures.dtype == torch.uint8 else 1)
