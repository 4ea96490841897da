"""The settings that a family begins with: those of a preset, by default of the one for a laptop."""

from __future__ import annotations

from collections.abc import Sequence

from innerworld import checkpoint, families
from innerworld.config import Config, build
from innerworld.errors import UserError, choose
from innerworld.families import FAMILIES, first_preset

NO_PRESET = "none"


def begin(family: str, preset: str | None, words: Sequence[str] = ()) -> Config:
    """The configuration of `--preset` (None: small, of eyes tiny; "none": the defaults), with `key=value` words.

    Raises `UserError` for an unknown family, preset or key.
    """
    if preset is None or family not in FAMILIES or not FAMILIES[family].presets:
        return families.config(family, first_preset(family), words)
    return families.config(family, None if preset == NO_PRESET else preset, words)


def begin_as(
    family: str, preset: str | None, init_from: str, sensors: tuple[str, ...]
) -> tuple[Config, tuple[str, ...]]:
    """The configuration and the sensors to begin with: those of the run `init_from`, where one is named and they are
    not. Raises `UserError` as `begin` does, and for what is no run, or one of another family."""
    if not init_from:
        return begin(family, preset), sensors
    header = checkpoint.read_header(init_from)
    if header.family != family:
        raise UserError(f"--init-from {init_from}: that is a run of {header.family}, not of {family}")
    own = build(FAMILIES[family].Config, header.model, f"{init_from}: model")
    return begin(family, preset) if preset is not None else own, sensors or tuple(header.spec.obs)


def named(family: str | None, preset: str | None, model: str | None) -> tuple[str, str | None]:
    """The family and the preset, which `model` says in one word ("dreamer-v3"). Raises `UserError`."""
    if family is not None and model is not None:
        raise UserError(f"give the family {family} or --model {model}, not both")
    if model is None:
        if family is None:
            raise UserError(f"which family? There are: {', '.join(sorted(FAMILIES))}")
        choose("family", family, FAMILIES)
        return family, preset
    for known in sorted(FAMILIES, key=len, reverse=True):
        rest = model.removeprefix(known)
        if rest == "" or (rest != model and rest.startswith("-")):
            if rest and preset is not None and preset != rest[1:]:
                raise UserError(f"--model {model} names the preset {rest[1:]}, --preset {preset}: leave out one")
            return known, rest[1:] or preset
    choose("family", model.partition("-")[0], FAMILIES)
    raise AssertionError
