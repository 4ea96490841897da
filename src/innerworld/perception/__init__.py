"""Sensors that learn alone: encoders trained by predicting representations, without actions."""

from __future__ import annotations

from innerworld.perception.encoder import Encoder
from innerworld.perception.ijepa import IJEPA
from innerworld.perception.lejepa import LeJEPA
from innerworld.perception.pretrained import Eyes, pretrained
from innerworld.perception.vjepa import VJEPA
from innerworld.perception.vjepa2 import VJEPA2

__all__ = ["ENCODERS", "IJEPA", "VJEPA", "VJEPA2", "Encoder", "Eyes", "LeJEPA", "pretrained"]

ENCODERS: dict[str, type[Encoder]] = {"ijepa": IJEPA, "lejepa": LeJEPA, "vjepa": VJEPA, "vjepa2": VJEPA2}
"""The encoders there are. To add one: write its file, add its line."""
