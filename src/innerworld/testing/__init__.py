"""Public checks: run them on a class of your own, as this library does on each of its own."""

from __future__ import annotations

from innerworld.testing.encoder import check_encoder
from innerworld.testing.planner import check_planner
from innerworld.testing.world_model import check_world_model

__all__ = ["check_encoder", "check_planner", "check_world_model"]
