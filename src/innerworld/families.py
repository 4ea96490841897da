"""Everything that can be taught, by name: the world models of `MODELS` and the eyes of `ENCODERS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from innerworld.config import Config
from innerworld.learns import Learns, configure, construct
from innerworld.models import MODELS
from innerworld.perception import ENCODERS
from innerworld.types import Spec

FAMILIES: dict[str, type[Learns]] = {**MODELS, **ENCODERS}
"""One namespace, for a run and a checkpoint name their family by one word."""


def config(family: str, preset: str | None = None, words: Sequence[str] = ()) -> Config:
    """The configuration of a family's preset (none: its defaults), with `key=value` overrides. Raises `UserError`."""
    return configure(FAMILIES, family, preset, words)


def build(family: str, values: Mapping[str, Any] | Config, spec: Spec) -> Learns:
    """Make a learner from its registry name, its configuration (or plain values) and a spec. Raises `UserError`."""
    return construct(FAMILIES, family, values, spec)


def first_preset(family: str) -> str | None:
    """The preset to begin with where none is named: the small one, of eyes the tiny one, of Dreamer v3's smallest."""
    known = FAMILIES[family].presets if family in FAMILIES else {}
    return next((name for name in ("small", "tiny", "v3") if name in known), None)
