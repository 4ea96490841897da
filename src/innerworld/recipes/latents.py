"""What latents keep, as sections of a report: their nearest neighbours, and what a small decoder draws of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from innerworld.data import Store
from innerworld.evaluate.detached_decoder import DecoderConfig
from innerworld.evaluate.latents import Latents, latents, picture_sensor
from innerworld.learns import Learns
from innerworld.perception import Encoder
from innerworld.recipes.lesson import Lesson, actions, episodes
from innerworld.recipes.stages import Outcome, asked_of_all
from innerworld.report import Section, Sheet

NEIGHBOURS = (
    "Held-out moments that nobody chose, and beside each the moments of the episodes learnt from whose features point "
    "most nearly the same way, no two of one episode. Below a picture stands the cosine, taken after the mean of all. "
    "It does not mind how small the differences are: rank and alarm say whether the features have collapsed."
)
DECODER = (
    "A small decoder was trained afterwards to draw pictures from finished latents; the model was not changed and "
    "never felt it. What is missing in a drawing was forgotten, or is hard to read off. That something can be drawn "
    "does not say that anything was learnt: random weights keep much of a picture, too, and a decoder enlarges the "
    "small differences that a collapse leaves."
)
PLACES = ("nearest", "2nd", "3rd", "4th", "5th")


def look(model: Learns, taught: Lesson, store: Store, seed: int = 0) -> Latents | None:
    """Look at what a taught model's latents keep of held-out moments; None where there are no pictures to show.

    The decoder is not trained for more steps than the model was. Raises `UserError` for latents that are not finite.
    """
    if picture_sensor(model.spec, store.spec) is None:
        return None
    learn, held_out = episodes(taught, store)
    alone = isinstance(model, Encoder)  # its impressions are of single frames
    length, skip = (1, 1) if alone else (actions(taught), taught.frame_skip)
    steps = min(DecoderConfig().steps, max(1, taught.train.steps))
    return latents(model, store, learn, held_out, length, skip, seed, DecoderConfig(steps=steps))


def look_at(outcome: Outcome, lessons: Mapping[str, Lesson], store: Store, seed: int, quiet: bool) -> None:
    """Do so for all models of a run, whose `latents` the outcome then holds."""
    ask = lambda model, taught: look(model, taught, store, seed)
    outcome.latents |= asked_of_all(outcome.models, lessons, ask, "look at latents", quiet)


def latent_sections(found: Mapping[str, Latents]) -> list[Section]:
    """Of one model or several, by name; the second section only where somebody's latents were drawn."""
    alike = [_neighbours(name, seen) for name, seen in found.items()]
    drawn = [
        _drawings(name, seen.real, seen.drawn, seen.metrics) for name, seen in found.items() if seen.drawn is not None
    ]
    sections = [("What it takes for alike", NEIGHBOURS, alike), ("What its latents keep", DECODER, drawn)]
    return [Section(*section) for section in sections if section[2]]


def _neighbours(name: str, seen: Latents) -> Sheet:
    rows = np.concatenate([seen.queries[:, None].numpy(), seen.found.numpy()], axis=1)
    return Sheet(
        f"{name}: nearest neighbours",
        ["held out", *PLACES[: seen.found.shape[1]]],
        [("", pictures) for pictures in rows],
        [["", *(f"{value:.2f}" for value in row)] for row in seen.cosine.tolist()],
        _distances(seen.metrics),
    )


def _distances(metrics: Mapping[str, float]) -> str:
    if "neighbour_distance" not in metrics:
        return ""
    return (
        "How far the true state is from that of the nearest neighbour, over all held-out moments, where 1 is as far as "
        f"from any moment: {metrics['neighbour_distance']:.2f}. Where pixels are compared instead of features: "
        f"{metrics['neighbour_distance_pixels']:.2f}."
    )


def _drawings(name: str, real: Tensor, drawn: Tensor, metrics: Mapping[str, float]) -> Sheet:
    return Sheet(
        f"{name}: held-out pictures, drawn from latents",
        [""] * len(real),
        [("real", real.numpy()), ("drawn", drawn.numpy())],
        note=f"R² over all held-out moments: {metrics['decoded_r2']:.2f}; 1 is exact, 0 is the mean picture.",
    )
