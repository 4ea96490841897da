"""The settings that a family begins with: those of a preset, by default of the one for a laptop."""

from __future__ import annotations

from collections.abc import Sequence

from innerworld import families
from innerworld.config import Config
from innerworld.families import FAMILIES, first_preset

NO_PRESET = "none"


def begin(family: str, preset: str | None, words: Sequence[str] = ()) -> Config:
    """The configuration of `--preset` (None: small, of eyes tiny; "none": the defaults), with `key=value` words.

    Raises `UserError` for an unknown family, preset or key.
    """
    if preset is None or family not in FAMILIES or not FAMILIES[family].presets:
        return families.config(family, first_preset(family), words)
    return families.config(family, None if preset == NO_PRESET else preset, words)
