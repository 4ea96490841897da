"""The page of `innerworld play`: the episode, what was imagined of it, and dreams that were steered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from innerworld.nn.sensors import to_uint8
from innerworld.recipes.steering import Held
from innerworld.recipes.watched import Dream, Episode
from innerworld.report import Chart, Curve, Facts, Movie, Section
from innerworld.report.content import Image
from innerworld.types import Spec
from innerworld.world import WorldModel

SHOWN = 6  # numbers of a vector that get a chart
FRAMES = 150  # of the film of a whole episode, at most
WHO = {"policy": "The policy acts", "recorded": "Nobody acts now"}


def sections(
    model: WorldModel, episode: Episode, dreams: Sequence[Dream], steered: Mapping[str, Sequence[Held]]
) -> list[Section]:
    """What there is to see, for a page; `steered`: by the titles of their sections."""
    blind = [_eyes_shut(model.spec, episode, dream) for dream in dreams]
    more = [_steered(model.spec, dreams[0].start, title, held) for title, held in steered.items() if held]
    return [_in_the_world(model, episode), *blind, *more]


def begun_sections(
    spec: Spec, sentence: str, told: dict[str, Tensor], steered: Mapping[str, Sequence[Held]]
) -> list[Section]:
    """Worlds drawn for a sentence, `told` `n h+1 ...`, for a page; `steered`: as in `sections`, of the first."""
    text = (
        f"Worlds for \u201c{sentence}\u201d, drawn out of nothing. Each film begins with the frame that was drawn; "
        "then chance acts."
    )
    movies = []
    for name in spec.images():
        films = _pictures(told, name)
        if films is not None:
            panels = [(f"world {i + 1}", film) for i, film in enumerate(films)]
            movies.append(Movie(f"{name}, {films.shape[1] - 1} steps", panels))
    more = [_steered(spec, 0, title, held) for title, held in steered.items() if held]
    return [Section("Begun with a sentence", text, movies), *more]


def _in_the_world(model: WorldModel, episode: Episode) -> Section:
    clip = episode.clip
    ended = "the world ended" if bool(clip.terminated.any()) else "time ran out" if episode.truncated else "cut here"
    told = "recorded" if episode.by == "recorded" else ended
    facts = Facts([("return", f"{episode.score:.4g}"), ("steps", str(clip.length)), ("how it ended", told)])
    panels = [] if episode.pictures is None else [("the world", episode.pictures[..., :3])]
    for name in model.spec.images():
        believed = _pictures(model.decode(episode.beliefs), name)
        if believed is not None:
            panels.append((f"what it believes to see ({name})", believed))
    shown = [panel for panel in panels if panel[1].shape[:3] == panels[0][1].shape[:3]]
    every = -(-(clip.length + 1) // FRAMES)
    each_step = "each of them shown" if every == 1 else f"one in {every} shown"
    thin = [(title, frames[::every]) for title, frames in shown]
    movie = [Movie(f"One episode of {clip.length} steps, {each_step}", thin)] if thin else []
    who = WHO.get(episode.by, "Chance acts")
    title = "As it was recorded" if episode.by == "recorded" else "In the world"
    return Section(title, f"{who}, the model looks at every step.", [facts, *movie])


def _eyes_shut(spec: Spec, episode: Episode, found: Dream) -> Section:
    horizon = len(next(iter(found.told.values())))
    blocks: list[Movie | Chart] = []
    for name in spec.images():
        blocks += _film(episode, found, name, horizon)
    if not blocks and episode.pictures is not None:
        real = episode.pictures[found.start : found.start + horizon + 1, ..., :3]
        blocks.append(Movie(f"The world from step {found.start} on", [("the world", real)]))
    for name in spec.vectors():
        blocks += _lines(episode, found, name)
    blocks += _outlook(episode, found)
    text = (
        f"At step {found.start} the model closes its eyes for {horizon} steps. Imagined is what it expects of the same "
        "actions that were done."
    )
    if found.dreamt is not None:
        text += " The dream is its own: there the policy acts on what it dreams, so the two part ways."
    return Section(f"With eyes shut from step {found.start}", text, blocks)


def _steered(spec: Spec, start: int, title: str, held: Sequence[Held]) -> Section:
    text = (
        f"From step {start} on, each action is done again and again, in imagination alone. Where these films look "
        "alike, the model has not learnt what the action does."
    )
    movies = []
    for name in spec.images():
        panels = [(one.name, _pictures(one.told, name)) for one in held]
        steps = len(next(iter(held[0].told.values())))
        shown = [(title, pictures) for title, pictures in panels if pictures is not None]
        movies += [Movie(f"{name}, {steps} steps of each action", shown)] if shown else []
    return Section(title, text, movies)


def _film(episode: Episode, found: Dream, name: str, horizon: int) -> list[Movie]:
    told = _pictures(found.told, name)
    if told is None:
        return []
    real = episode.clip.obs[name][0, found.start + 1 : found.start + 1 + horizon, ..., :3].numpy()
    apart = 128 + (told[: len(real)].astype(np.int16) - real) // 2
    panels = [
        ("real", real),
        ("imagined", told[: len(real)]),
        ("difference", apart.clip(0, 255).astype(np.uint8)),
    ]
    dreamt = None if found.dreamt is None else _pictures(found.dreamt, name)
    if dreamt is not None:
        panels.append(("dream", dreamt[: len(real)]))
    return [Movie(f"{name}, {len(real)} steps with eyes shut; grey is no difference", panels)]


def _pictures(told: dict[str, Tensor], name: str) -> Image | None:
    return to_uint8(told[name]).numpy()[..., :3] if name in told else None


def _lines(episode: Episode, found: Dream, name: str) -> list[Chart]:
    """A chart for each of the first numbers of a vector: what came, what was imagined, what was dreamt."""
    if name not in found.told:
        return []
    real = episode.clip.obs[name][0]  # t+1 n
    charts = []
    for i in range(min(SHOWN, real.shape[1])):
        curves = [
            _curve("real", real[found.start + 1 : found.start + 1 + len(found.told[name]), i], found.start + 1),
            *(_curve(who, told[name][:, i], found.start + 1) for who, told in _both(found)),
        ]
        charts.append(Chart(f"{name} {i}", "step", "value", curves))
    return charts


def _outlook(episode: Episode, found: Dream) -> list[Chart]:
    """What reward was expected, and how sure it was to go on."""
    charts = []
    if "reward" in found.told:
        real = episode.clip.reward[0, found.start : found.start + len(found.told["reward"])]
        curves = [_curve("real", real, found.start + 1)]
        curves += [_curve(who, told["reward"], found.start + 1) for who, told in _both(found)]
        charts.append(Chart("Reward", "step", "reward of the step", curves))
    if "continue" in found.told:
        curves = [_curve(who, told["continue"], found.start + 1) for who, told in _both(found)]
        charts.append(Chart("Going on", "step", "told chance, with its discount", curves))
    return charts


def _both(found: Dream) -> list[tuple[str, dict[str, Tensor]]]:
    return [("imagined", found.told), *([] if found.dreamt is None else [("dream", found.dreamt)])]


def _curve(name: str, values: Tensor, first: int) -> Curve:
    return Curve(name, list(range(first, first + len(values))), values.float().tolist())
