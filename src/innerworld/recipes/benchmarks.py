"""Published benchmarks of physics on a taught model: Physion's contacts and PhysBench's questions without words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from innerworld.data.physbench import Asked
from innerworld.data.physion import Broken, Shown, Stimuli
from innerworld.errors import UserError
from innerworld.evaluate.contact import ContactConfig, Describe, beliefs_of, judge_contact, small_pixels
from innerworld.evaluate.continuation import Question, change, doubt_of, judge_choices
from innerworld.log import progress
from innerworld.recipes.surprise import MODEL, RANDOM, side_of, untaught
from innerworld.world import WorldModel

PIXELS, STILL = "pixels", "no change"


class Judged(TypedDict):
    """What each judge was worth, and how many films or questions it could not be asked about."""

    results: dict[str, dict[str, float]]
    unreadable: int


def judge_physion(
    model: WorldModel,
    learn: Stimuli,
    test: Stimuli,
    config: ContactConfig = ContactConfig(),
    shown: Shown = Shown(),
    broken: Broken = "stop",
    seed: int = 0,
    quiet: bool = False,
) -> Judged:
    """What `judge_contact` finds of the model's beliefs, of those of random weights, and of small pictures alone.

    Raises `UserError` for a film that cannot be read; with `broken="skip"` it is counted and left out.
    """
    size = side_of(model)
    judges: dict[str, Describe] = {
        MODEL: beliefs_of(model, config),
        RANDOM: beliefs_of(untaught(model, seed), config),
        PIXELS: small_pixels,
    }
    halves, unreadable = [], 0
    with progress("watch films", len(learn) + len(test), quiet) as show:
        for stimuli, before in ((learn, 0), (test, len(learn))):
            read = _Reader(stimuli, size, shown, broken)
            halves.append(_described(judges, read, config.batch, lambda done, before=before: show(before + done)))
            unreadable += len(stimuli) - len(read.kept)
    (known, first), (unknown, second) = halves
    results = {
        name: judge_contact(
            (known[name], first.labels(), first.scenarios()),
            (unknown[name], second.labels(), second.scenarios()),
            config,
        )
        for name in judges
    }
    return Judged(results=results, unreadable=unreadable)


def judge_physbench(
    model: WorldModel,
    asked: Asked,
    frames: int = 8,
    broken: Broken = "stop",
    seed: int = 0,
    quiet: bool = False,
) -> Judged:
    """How often the least surprising choice is right, for the model, random weights and who expects no change.

    Raises `UserError` for a file that cannot be read; with `broken="skip"` its question is counted and left out.
    """
    unreadable = 0
    doubts = {MODEL: doubt_of(model), RANDOM: doubt_of(untaught(model, seed)), STILL: change}
    with progress("ask", len(asked), quiet) as show:

        def questions() -> Iterator[Question]:
            nonlocal unreadable
            for number in range(len(asked)):
                try:
                    question = asked.film(number, side_of(model), frames)
                except UserError:
                    if broken == "stop":
                        raise
                    unreadable += 1
                    continue
                yield question
                show(number + 1)

        results = judge_choices(questions(), doubts)
    return Judged(results=results, unreadable=unreadable)


class _Reader:
    """The films of a set in batches, and the numbers of those that could be read."""

    def __init__(self, stimuli: Stimuli, size: int, shown: Shown, broken: Broken) -> None:
        self.stimuli, self.size, self.shown, self.broken = stimuli, size, shown, broken
        self.kept: list[int] = []

    def batches(self, batch: int) -> Iterator[np.ndarray]:
        films: list[np.ndarray] = []
        for number in range(len(self.stimuli)):
            try:
                films.append(self.stimuli.film(number, self.size, self.shown))
            except UserError:
                if self.broken == "stop":
                    raise
                continue
            self.kept.append(number)
            if len(films) == batch:
                yield np.stack(films)
                films = []
        if films:
            yield np.stack(films)


def _described(
    judges: dict[str, Describe], read: _Reader, batch: int, show: Callable[[int], None]
) -> tuple[dict[str, Tensor], Stimuli]:
    parts: dict[str, list[Tensor]] = {name: [] for name in judges}
    for films in read.batches(batch):
        for name, describe in judges.items():
            parts[name].append(describe(films))
        show(read.kept[-1] + 1)
    if not read.kept:
        raise UserError("none of the films could be read")
    return {name: torch.cat(some) for name, some in parts.items()}, read.stimuli.only(read.kept)
