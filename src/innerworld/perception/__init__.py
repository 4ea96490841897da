"""Sensors that learn alone: encoders trained by predicting representations, without actions."""

from __future__ import annotations

from innerworld.perception.encoder import Encoder
from innerworld.perception.ijepa import IJEPA
from innerworld.perception.lejepa import LeJEPA
from innerworld.perception.mae import MAE
from innerworld.perception.pca import PCA
from innerworld.perception.pretrained import Eyes, pretrained
from innerworld.perception.tokenizer import Tokenizer
from innerworld.perception.vjepa import VJEPA
from innerworld.perception.vjepa2 import VJEPA2
from innerworld.perception.vq import FSQ, VQ

__all__ = [
    "ENCODERS",
    "FSQ",
    "IJEPA",
    "MAE",
    "PCA",
    "VJEPA",
    "VJEPA2",
    "VQ",
    "Encoder",
    "Eyes",
    "LeJEPA",
    "Tokenizer",
    "pretrained",
]

ENCODERS: dict[str, type[Encoder]] = {
    "ijepa": IJEPA,
    "lejepa": LeJEPA,
    "vjepa": VJEPA,
    "vjepa2": VJEPA2,
    "pca": PCA,
    "vq": VQ,
    "fsq": FSQ,
    "mae": MAE,
}
"""The encoders there are. To add one: write its file, add its line."""
