"""What models foresee, drawn: errors by horizon, and films of what they imagine with eyes shut."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from innerworld.data import Clips, Store
from innerworld.evaluate.imagery import album, draw, sketch
from innerworld.evaluate.latents import Latents, picture_sensor
from innerworld.evaluate.prediction import HORIZONS
from innerworld.recipes.lesson import Lesson, episodes
from innerworld.recipes.stages import Outcome
from innerworld.report import Chart, Curve, Movie, Section
from innerworld.types import each
from innerworld.world import WorldModel

MOVIES = 3
REMEMBERED = 200  # episodes from which families without a decoder pick the picture that they have in mind
IMAGINED = (
    "Held-out episodes. The model looks once, closes its eyes and imagines what its actions will bring. "
    "A family without a decoder cannot draw: for it the movie shows the picture from its training data that its "
    "imagined belief resembles most, and what a small decoder makes of the belief, which was trained afterwards and "
    "teaches the model nothing."
)


def foresight(outcome: Outcome, lessons: Mapping[str, Lesson], store: Store, seed: int) -> Section:
    """Charts by horizon, and films."""
    ratio, pixels = (_by_horizon(outcome, key) for key in ("energy_ratio", "pixel_ratio"))
    charts = [
        Chart(
            "Imagined against observed",
            "steps ahead",
            "error relative to standing still",
            ratio,
            line=1.0,
            log_y=True,
            line_name="standing still",
            note="In each family's own energy. Bands: 95 % bootstrap interval over held-out clips.",
        )
    ]
    if pixels:
        charts.append(
            Chart(
                "The same in decoded pixels",
                "steps ahead",
                "error relative to standing still",
                pixels,
                line=1.0,
                line_name="standing still",
                log_y=True,
                note="Only families that decode.",
            )
        )
    if any("position_error_1" in known.metrics for known in outcome.knowledge.values()):
        charts.append(_position_chart(outcome))
    films = movies(outcome.models, outcome.latents, lessons, store, seed)
    return Section("What it foresees", IMAGINED, [*charts, *films])


@torch.no_grad()
def movies(
    models: Mapping[str, WorldModel],
    latents: Mapping[str, Latents],
    lessons: Mapping[str, Lesson],
    store: Store,
    seed: int,
    remembered: int = REMEMBERED,
) -> list[Movie]:
    """What each model imagines beside what came; none where there are no pictures, or frames skip differently."""
    first = next(iter(lessons.values()))
    skip = first.frame_skip
    sensor = picture_sensor(next(iter(models.values())).spec, store.spec)
    if sensor is None or any(taught.frame_skip != skip for taught in lessons.values()):
        return []
    learn, held_out = episodes(first, store)
    length = min(max(HORIZONS), int(store.lengths[held_out].max()) // skip)
    if length < 1:
        return []
    clip = Clips(store, held_out, length, MOVIES, seed + 1, skip).batch(0)
    real = clip.obs[sensor][..., :3].numpy()
    panels = [[("real", real[k])] for k in range(MOVIES)]
    for name, model in models.items():
        memory = album(model, store, learn[:remembered], sensor, skip)
        start = model.encode(clip.at(0))
        imagined = model.imagine(start, clip.action[:, None])
        decoder = latents[name].decoder if name in latents else None
        for k in range(MOVIES):
            began, then = each(lambda v, k=k: v[k : k + 1], start), each(lambda v, k=k: v[k, 0], imagined)
            frames = np.concatenate([draw(model, states, memory, sensor) for states in (began, then)])
            label = f"{name}, imagined" if model.card.decodes else f"{name}, imagined (nearest seen)"
            panels[k].append((label, frames[..., :3]))
            if decoder is not None:
                size = real.shape[2:4]
                drawn = [sketch(model, states, decoder, (size[0], size[1])) for states in (began, then)]
                panels[k].append((f"{name}, imagined (small decoder)", np.concatenate(drawn)))
    steps = "steps" if skip == 1 else f"times {skip} steps"
    return [Movie(f"Held-out clip {k + 1}: {length} {steps} with eyes shut", panels[k]) for k in range(MOVIES)]


def _by_horizon(outcome: Outcome, key: str) -> list[Curve]:
    curves = []
    for name, known in outcome.knowledge.items():
        found = known.metrics
        steps = [h for h in HORIZONS if f"{key}_{h}" in found]
        if steps:
            y, low, high = ([found[f"{key}_{h}{end}"] for h in steps] for end in ("", "_low", "_high"))
            curves.append(Curve(name, steps, y, low, high))
    return curves


def _position_chart(outcome: Outcome) -> Chart:
    curves = []
    for name, known in outcome.knowledge.items():
        steps = [h for h in HORIZONS if f"position_error_{h}" in known.metrics]
        curves.append(Curve(name, steps, [known.metrics[f"position_error_{h}"] for h in steps]))
        still = Curve("standing still", steps, [known.metrics[f"position_standing_still_{h}"] for h in steps])
    note = "A linear probe reads the position off the imagined belief: the same question to every family."
    return Chart(
        "Where it believes to be", "steps ahead", "mean distance to the truth, pixels", [*curves, still], note=note
    )
