"""A comparison that takes seconds: two small models on a small world, and a place that is this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from innerworld.cluster import Done, Place
from innerworld.cluster.place import attempt
from innerworld.recipes.compare.entry import read_entries
from innerworld.recipes.compare.plan import Plan, read_worlds
from innerworld.recipes.compare.terms import read_terms

JEPA = "jepa:none channels=2 latent=4 hidden=8 slices=8"
RSSM = "small-rssm=rssm:none deter=16 hidden=8 stoch=2 classes=4 blocks=2 depth=2 units=8 layers=1"
TERMS = (
    "experience.episodes=8",
    "experience.size=32",
    "experience.max_steps=10",
    "teaching.batch=4",
    "teaching.length=3",
    "teaching.train.save_every=2",
    "exam.clips=8",
    "exam.horizons=[1,2]",
    "exam.goals=2",
    "exam.budget=3",
    "control.planner.samples=8",
    "control.planner.horizon=2",
    "control.planner.elites=2",
)


class Here(Place):
    """This process, until Ctrl-C after `few` jobs."""

    workers = 1

    def __init__(self, few: int | None = None) -> None:
        self.few, self.did = few, 0

    def each(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> Generator[Done[Any], None, None]:
        for index, job in enumerate(jobs):
            if self.did == self.few:
                raise KeyboardInterrupt
            self.did += 1
            yield attempt(function, index, job)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def here() -> type[Here]:
    return Here


@pytest.fixture
def small() -> Callable[..., Plan]:
    """A plan that is not settled yet; every argument as one would write it."""

    def make(
        entries: Sequence[str] = (JEPA, RSSM),
        worlds: Sequence[str | Path] = ("two_rooms",),
        questions: Sequence[str] = ("prediction", "probing"),
        seeds: int = 2,
        budget: str = "3updates",
        terms: Sequence[str] = (),
    ) -> Plan:
        chosen = read_terms([*TERMS, *terms])
        return Plan(
            entries=read_entries(list(entries), chosen.teaching),
            worlds=read_worlds([str(world) for world in worlds]),
            questions=tuple(questions),
            seeds=seeds,
            budget=budget,
            terms=chosen,
        )

    return make
