"""World models of every school behind one small interface. Names are loaded when they are first used (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innerworld.agent import Agent, AgentConfig
    from innerworld.checkpoint import load
    from innerworld.config import Config
    from innerworld.data import About, Clips, Store, collect, split
    from innerworld.envs import ENVS, make
    from innerworld.errors import UserError
    from innerworld.models import MODELS
    from innerworld.plan import PLANNERS, Plan, Planner
    from innerworld.testing.planner import check_planner
    from innerworld.testing.world_model import check_world_model
    from innerworld.training import TrainConfig, train
    from innerworld.types import Clip, Obs, Spec, State
    from innerworld.world import Card, WorldModel

    __version__: str

__all__ = [
    "ENVS",
    "MODELS",
    "PLANNERS",
    "About",
    "Agent",
    "AgentConfig",
    "Card",
    "Clip",
    "Clips",
    "Config",
    "Obs",
    "Plan",
    "Planner",
    "Spec",
    "State",
    "Store",
    "TrainConfig",
    "UserError",
    "WorldModel",
    "__version__",
    "check_planner",
    "check_world_model",
    "collect",
    "load",
    "make",
    "split",
    "train",
]

_HOMES = {
    "innerworld.agent": ("Agent", "AgentConfig"),
    "innerworld.checkpoint": ("load",),
    "innerworld.config": ("Config",),
    "innerworld.data": ("About", "Clips", "Store", "collect", "split"),
    "innerworld.envs": ("ENVS", "make"),
    "innerworld.errors": ("UserError",),
    "innerworld.models": ("MODELS",),
    "innerworld.plan": ("PLANNERS", "Plan", "Planner"),
    "innerworld.testing.planner": ("check_planner",),
    "innerworld.testing.world_model": ("check_world_model",),
    "innerworld.training": ("TrainConfig", "train"),
    "innerworld.types": ("Clip", "Obs", "Spec", "State"),
    "innerworld.world": ("Card", "WorldModel"),
}
"""Where each public name lives; none is loaded before it is used, for torch takes seconds."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return vars(import_module("innerworld.version"))["VERSION"]
    for home, names in _HOMES.items():
        if name in names:
            return vars(import_module(home))[name]
    raise AttributeError(f"module 'innerworld' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
