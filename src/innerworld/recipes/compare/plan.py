"""The plan of a comparison: all that was decided before the first run, kept in `plan.json`, so that it can go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pydantic import Field

from innerworld import envs
from innerworld.config import Config, build, differences
from innerworld.data import Store
from innerworld.disk import write_atomic
from innerworld.errors import UserError, choose
from innerworld.evaluate.questions import QUESTIONS
from innerworld.recipes.compare.budget import price, read_budget, updates
from innerworld.recipes.compare.entry import Entry, as_folder
from innerworld.recipes.compare.terms import Experience, Terms
from innerworld.types import Spec

FILE = "plan.json"


class World(Config):
    """Where experience comes from: a world that is collected once for each seed, or the folder of a store."""

    name: str = Field(default="two_rooms", description="what it is called in tables: the world, or the folder's name")
    store: str = Field(default="", description="folder of the store; empty: the world is collected")

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return as_folder(self.name)


class Plan(Config):
    """A comparison. `updates` and `price` are found for each entry (outer) on each world (inner)."""

    entries: tuple[Entry, ...] = Field(default=(), description="who is compared")
    worlds: tuple[World, ...] = Field(default=(), description="on what")
    questions: tuple[str, ...] = Field(default=(), description="what is asked")
    seed: int = Field(default=0, description="the first seed", ge=0)
    seeds: int = Field(default=3, description="runs of each entry on each world, seeds counted up", ge=1)
    budget: str = Field(default="300updates", description="of each run: updates, CPU seconds (s) or FLOPs (flops)")
    terms: Terms = Field(default=Terms(), description="what all have in common")
    price: dict[str, dict[str, float]] = Field(default={}, description="what one update costs, in the budget's unit")
    updates: dict[str, dict[str, int]] = Field(default={}, description="updates of each run")
    command: str = Field(default="", description="the words that it was described with")

    def numbers(self) -> range:
        """The seeds."""
        return range(self.seed, self.seed + self.seeds)

    def cells(self) -> list[Cell]:
        """Every run, those of one world and seed together."""
        return [
            Cell(entry, world, seed, self.updates[entry.name][world.name])
            for world, seed, entry in product(self.worlds, self.numbers(), self.entries)
        ]


@dataclass(frozen=True)
class Cell:
    """One run: who, on what, which seed, and how many updates."""

    entry: Entry
    world: World
    seed: int
    updates: int

    @property
    def folder(self) -> Path:
        return Path(self.entry.folder) / f"{self.world.folder}-{self.seed}"

    def __str__(self) -> str:
        return f"{self.entry.name} on {self.world.name}, seed {self.seed}"


def read_worlds(words: Sequence[str]) -> tuple[World, ...]:
    """Names of worlds, or folders of stores. Raises `UserError`."""
    found = []
    for word in words:
        path = Path(word)
        kept = (path / "meta.json").exists()
        if not kept and path.is_dir():
            raise UserError(f"{word} is a folder without a store: give one made by innerworld collect or import")
        found.append(World(name=path.resolve().name, store=str(path.resolve())) if kept else World(name=word))
    if not found:
        raise UserError("on which worlds? Give --worlds, as two_rooms paddle, or folders of stores")
    folders = [world.folder for world in found]
    for world in found:
        if folders.count(world.folder) > 1:
            raise UserError(f"two of the worlds are called {world.name!r}: rename a folder, or leave one out")
    return tuple(found)


def begun(folder: Path) -> Plan | None:
    """The plan that a folder holds, if it holds one. Raises `UserError`."""
    path = folder / FILE
    try:
        return build(Plan, json.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def settle(wanted: Plan, folder: Path) -> Plan:
    """Decide what is still open, keep what the folder's plan has decided, and write it there: the whole plan.

    A plan may grow: by entries, worlds, questions and seeds. Raises `UserError` for one that differs otherwise, and for
    what cannot be compared at all: unknown questions, sensors that a world lacks, a budget that cannot be read.
    """
    for question in wanted.questions:
        choose("question", question, QUESTIONS)
    budget = read_budget(wanted.budget)
    before = begun(folder)
    if before is not None:
        _refuse_difference(before, wanted, folder)
    specs = {world.name: seen(wanted.terms, world) for world in wanted.worlds}
    prices = {} if before is None else before.price
    found = {
        entry.name: {
            world.name: _known(prices, entry, world) or price(budget, entry, specs[world.name])
            for world in wanted.worlds
        }
        for entry in wanted.entries
    }
    counts = {
        entry.name: {
            world: updates(budget, each, f"{entry.name} on {world}") for world, each in found[entry.name].items()
        }
        for entry in wanted.entries
    }
    plan = wanted.model_copy(update={"price": found, "updates": counts})
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / FILE, [plan.model_dump_json(indent=2).encode()])
    return plan


def seen(terms: Terms, world: World) -> Spec:
    """What models see of a world. Raises `UserError` for an unknown world, and for sensors that it lacks."""
    spec = Store.open(world.store).spec if world.store else look(world.name, terms.experience)
    try:
        return spec.only(*(terms.sensors or spec.images() or spec.vectors()))
    except UserError as error:
        raise UserError(f"{world.name}: {error}") from None


def gathered(terms: Terms, world: World) -> list[str] | None:
    """The sensors that are collected of a world; None: all that it has.

    Where models see vectors alone these are all vectors (one of them may be the true state): to draw pictures that
    nobody looks at takes longer than most worlds. Our own worlds draw fast, and always give all.
    """
    if world.name in envs.ENVS or not terms.sensors:
        return None
    spec = look(world.name, terms.experience)
    return None if set(terms.sensors) & set(spec.images()) else spec.vectors()


def look(env: str, experience: Experience) -> Spec:
    """What a world shows. Raises `UserError`."""
    with closing(envs.make(env, 1, experience.size, max_steps=experience.max_steps)) as worlds:
        return envs.spec_of(worlds.single_observation_space, worlds.single_action_space)


def _known(prices: Mapping[str, Mapping[str, float]], entry: Entry, world: World) -> float | None:
    return prices.get(entry.name, {}).get(world.name)


def _refuse_difference(before: Plan, now: Plan, folder: Path) -> None:
    free = ("entries", "worlds", "questions", "seeds", "price", "updates", "command")
    old, new = (plan.model_dump(mode="json", exclude=set(free)) for plan in (before, now))
    for key, was, wanted in differences(old, new):
        raise UserError(f"{folder} holds a plan with {key}={was}, not {wanted}: give that, or another folder")
    if now.seeds < before.seeds:
        raise UserError(f"{folder} holds a plan with {before.seeds} seeds, not {now.seeds}: it may only grow")
    for kind in ("entries", "worlds"):
        named = {each.name: each for each in vars(now)[kind]}
        for each in vars(before)[kind]:
            if each.name not in named:
                raise UserError(f"{folder} holds a plan with {each.name!r} among its {kind}: give that, too")
            for key, was, wanted in differences(each.model_dump(mode="json"), named[each.name].model_dump(mode="json")):
                raise UserError(f"{folder} holds a plan in which {each.name} has {key}={was}, not {wanted}")
    for question in before.questions:
        if question not in now.questions:
            raise UserError(f"{folder} holds a plan that asks {question!r}: give that, too")
