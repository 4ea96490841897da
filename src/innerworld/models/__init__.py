"""The world models there are. To add one: write its file, add its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from innerworld.config import Config
from innerworld.learns import configure, construct
from innerworld.models.diffusion import Diffusion
from innerworld.models.dino_wm import DinoWM
from innerworld.models.dreamer import Dreamer
from innerworld.models.genie import Genie
from innerworld.models.glp import GLP
from innerworld.models.hjepa import HJEPA
from innerworld.models.jepa import JEPA
from innerworld.models.oracle import Oracle
from innerworld.models.rssm import RSSM
from innerworld.models.sequence import SequenceModel
from innerworld.models.video import Video
from innerworld.models.vjepa2_ac import VJEPA2AC
from innerworld.models.world_models import WorldModels
from innerworld.types import Spec
from innerworld.world import WorldModel

MODELS: dict[str, type[WorldModel]] = {
    "diffusion": Diffusion,
    "dino_wm": DinoWM,
    "dreamer": Dreamer,
    "genie": Genie,
    "glp": GLP,
    "hjepa": HJEPA,
    "jepa": JEPA,
    "oracle": Oracle,
    "rssm": RSSM,
    "sequence": SequenceModel,
    "video": Video,
    "vjepa2_ac": VJEPA2AC,
    "world_models": WorldModels,
}

__all__ = [
    "GLP",
    "HJEPA",
    "JEPA",
    "MODELS",
    "RSSM",
    "VJEPA2AC",
    "Diffusion",
    "DinoWM",
    "Dreamer",
    "Genie",
    "Oracle",
    "SequenceModel",
    "Video",
    "WorldModels",
    "build",
    "config",
]


def config(family: str, preset: str | None = None, words: Sequence[str] = ()) -> Config:
    """The configuration of a family's preset (none: its defaults), with `key=value` overrides. Raises `UserError`."""
    return configure(MODELS, family, preset, words)


def build(family: str, values: Mapping[str, Any] | Config, spec: Spec) -> WorldModel:
    """Make a model from its registry name, its configuration (or plain values) and a spec. Raises `UserError`."""
    return construct(MODELS, family, values, spec)
