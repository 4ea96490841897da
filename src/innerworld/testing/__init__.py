"""Public checks: run them on a class of your own, as this library does on each of its own."""

from __future__ import annotations

from innerworld.testing.agent import (
    check_actor,
    check_configurator,
    check_foresight,
    check_judge,
    check_memory,
    check_perception,
)
from innerworld.testing.encoder import check_encoder
from innerworld.testing.planner import check_planner
from innerworld.testing.world_model import check_world_model

__all__ = [
    "check_actor",
    "check_configurator",
    "check_encoder",
    "check_foresight",
    "check_judge",
    "check_memory",
    "check_perception",
    "check_planner",
    "check_world_model",
]
