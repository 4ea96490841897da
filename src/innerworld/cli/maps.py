"""`innerworld models`, `envs` and `planners`: the map of the field, and each of its places."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from inspect import getdoc, getmodule

import tyro
from rich.console import Console

from innerworld import envs, families
from innerworld.cli.table import FIELD, field_rows, field_values, say, show_table, typed
from innerworld.cli.verb import Answer, Call, Verb
from innerworld.config import Config
from innerworld.errors import choose
from innerworld.models import MODELS
from innerworld.perception import ENCODERS, Encoder
from innerworld.plan import PLANNERS
from innerworld.world import WorldModel

ANY_WORLD = (
    "Any other Gymnasium id works, too: innerworld collect Pendulum-v1 --out data. Write module:id where a package "
    "must be imported first, as in minigrid:MiniGrid-Empty-5x5-v0."
)


@dataclass(frozen=True)
class FamilyFlags:
    """The families of world models there are, and the eyes; with a name, one of them in full."""

    name: tyro.conf.Positional[str | None] = None
    """one family"""


@dataclass(frozen=True)
class WorldFlags:
    """The worlds there are; with a name or a Gymnasium id, what one of them shows and takes."""

    name: tyro.conf.Positional[str | None] = None
    """one world"""


@dataclass(frozen=True)
class SearchFlags:
    """The planners there are; with a name, one of them in full."""

    name: tyro.conf.Positional[str | None] = None
    """one planner"""


def _families(flags: FamilyFlags, call: Call) -> Answer:
    if flags.name is not None:
        kind = choose("family", flags.name, families.FAMILIES)
        return _in_full(flags.name, kind, kind.Config(), dict(kind.presets), "model.")
    rows = [_family(name, kind) for name, kind in MODELS.items()]
    headings = ("name", "known as", "actions", "predicts", "decodes", "backbone", "paper", "presets", "file")

    eyes = [_eyes(name, kind) for name, kind in ENCODERS.items()]

    def show(console: Console) -> None:
        show_table(console, headings, [[_said(value) for value in row.values()] for row in rows])
        say(console, "\neyes, which learn without actions, alone or as those of a world model (model.eyes.family), and")
        say(console, "tokenizers, which also draw (model.codec.kind):\n")
        show_table(console, ("name", "about", "presets", "file"), [[_said(v) for v in row.values()] for row in eyes])

    return Answer({"models": rows, "eyes": eyes}, show)


def _family(name: str, kind: type[WorldModel]) -> dict[str, object]:
    card = kind.card
    return {
        "name": name,
        "literature": card.name,
        "actions": card.actions,
        "predicts": card.predicts,
        "decodes": card.decodes,
        "backbone": card.backbone,
        "paper": card.paper,
        "presets": list(kind.presets),
        "file": kind.__module__.replace(".", "/") + ".py",
    }


def _eyes(name: str, kind: type[Encoder]) -> dict[str, object]:
    return {
        "name": name,
        "about": (getdoc(getmodule(kind)) or "").partition("\n")[0],
        "presets": list(kind.presets),
        "file": kind.__module__.replace(".", "/") + ".py",
    }


def _worlds(flags: WorldFlags, call: Call) -> Answer:
    if flags.name is not None:
        return _world(flags.name)
    rows = {name: world.about for name, world in envs.ENVS.items()}

    def show(console: Console) -> None:
        show_table(console, ("name", "about"), list(rows.items()))
        say(console, f"\n{ANY_WORLD}")

    return Answer({"envs": [{"name": name, "about": about} for name, about in rows.items()], "others": ANY_WORLD}, show)


def _world(name: str) -> Answer:
    with closing(envs.make_one(name)) as world:
        spec = envs.spec_of(world.observation_space, world.action_space)
    action = f"one of {spec.action} choices" if spec.discrete else f"a vector of {spec.action} in [-1, 1]"
    sensors = {sensor: list(shape) for sensor, shape in spec.obs.items()}

    def show(console: Console) -> None:
        show_table(console, ("sensor", "shape"), [(sensor, str(shape)) for sensor, shape in sensors.items()])
        say(console, f"\nan action is {action}")

    return Answer({"name": name, "sensors": sensors, "action": spec.action, "discrete": spec.discrete}, show)


def _searches(flags: SearchFlags, call: Call) -> Answer:
    if flags.name is not None:
        kind = choose("planner", flags.name, PLANNERS)
        return _in_full(flags.name, kind, kind(), dict(kind.presets), "")
    rows = [
        {"name": name, "about": (getdoc(kind) or "").partition("\n")[0], "presets": list(kind.presets)}
        for name, kind in PLANNERS.items()
    ]

    def show(console: Console) -> None:
        show_table(console, ("name", "about", "presets"), [[_said(value) for value in row.values()] for row in rows])

    return Answer({"planners": rows}, show)


def _in_full(name: str, kind: type, default: Config, presets: dict[str, Config], prefix: str) -> Answer:
    """The docstring, what each preset changes, and every field."""
    about = getdoc(kind) or ""
    changes = {preset: _changes(config, default) for preset, config in presets.items()}
    values = {"name": name, "about": about, "presets": changes, "fields": field_values(default, prefix)}

    def show(console: Console) -> None:
        say(console, f"{about}\n")
        for preset, changed in changes.items():
            words = " ".join(f"{prefix}{key}={typed(value)}" for key, value in changed.items())
            say(console, f"preset {preset}: {words or 'the defaults'}")
        if changes:
            say(console)
        show_table(console, FIELD, field_rows(default, prefix))

    return Answer(values, show)


def _changes(config: Config, default: Config, prefix: str = "") -> dict[str, object]:
    """The dotted keys whose values differ; of settings that are another family's, from that family's defaults."""
    values, found = config.model_dump(mode="json"), {}
    for name in type(config).model_fields:
        now, before = getattr(config, name), getattr(default, name)
        if isinstance(now, Config) and isinstance(before, Config):
            found |= _changes(now, before if type(now) is type(before) else type(now)(), f"{prefix}{name}.")
        elif now != before:
            found[prefix + name] = values[name]
    return found


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


FAMILIES = Verb(FamilyFlags, _families)
WORLDS = Verb(WorldFlags, _worlds)
SEARCHES = Verb(SearchFlags, _searches)
