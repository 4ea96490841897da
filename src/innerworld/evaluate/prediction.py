"""Does it see what will come? Imagined against observed, by horizon, relative to standing still.

Standing still is the prediction that nothing changes: a model whose ratio is above 1 is worse than having none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from innerworld.evaluate.bootstrap import ratio_with_interval
from innerworld.nn.sensors import image_in
from innerworld.types import Clip, each
from innerworld.world import WorldModel, at, flatten

HORIZONS = (1, 2, 4, 8, 16)


@torch.no_grad()
def prediction(
    model: WorldModel, clip: Clip, horizons: Sequence[int] = HORIZONS, context: int = 0, seed: int = 0
) -> dict[str, float]:
    """Error of imagining the clip's own actions from its step `context` on, divided by that of standing still.

    `energy_ratio_h`: mean energy between the imagined belief and the belief after really looking, h steps ahead, over
    the same for the belief at the start; with a 95 % bootstrap interval over clips (`_low`, `_high`). For a family that
    decodes, `pixel_ratio_h`: the same with the mean squared error of each decoded image against the true picture,
    where standing still shows the picture of the start; and `vector_ratio_h` of the vector sensors that it decodes, of
    all their numbers that vary, each by its deviation in what is to be foretold.
    """
    model.eval()
    believed = model.watch(clip)
    start = at(believed, context)
    longest = max(horizons)
    imagined = model.imagine(start, clip.action[:, None, context : context + longest])
    found: dict[str, float] = {}
    for h in horizons:
        goal = at(believed, context + h)
        ahead = model.energy(each(lambda value, h=h: value[:, 0, h - 1], imagined), goal)  # b
        still = model.energy(start, goal)
        found |= ratio_with_interval(f"energy_ratio_{h}", ahead, still, seed)
    if model.card.decodes:
        shown = {h: model.decode(each(lambda value, h=h: value[:, 0, h - 1], imagined)) for h in horizons}
        for name in model.spec.images():
            found |= _pixels(clip, shown, name, context, seed)
        found |= _vectors(clip, shown, model.spec.vectors(), context, seed)
    return found


@torch.no_grad()
def position_error(
    model: WorldModel, clip: Clip, weights: Tensor, intercept: Tensor, horizons: Sequence[int] = HORIZONS
) -> dict[str, float]:
    """Read a probe (`d k` and `k`) off imagined beliefs: mean distance to the true state, in the state's units.

    The measure that does not depend on the family: all are asked the same question. `standing_still_h` is the distance
    that the world really moved.
    """
    model.eval()
    longest = max(horizons)
    imagined = flatten(model.imagine(model.encode(clip.at(0)), clip.action[:, None, :longest]), 3)
    guess = (model.features(imagined).double() @ weights + intercept).reshape(-1, longest, weights.shape[1])
    state = clip.obs["state"].double()
    found = {}
    for h in horizons:
        found[f"position_error_{h}"] = (guess[:, h - 1] - state[:, h]).norm(dim=-1).mean().item()
        found[f"position_standing_still_{h}"] = (state[:, 0] - state[:, h]).norm(dim=-1).mean().item()
    return found


Shown = dict[int, dict[str, Tensor]]
"""What is decoded of what was imagined, by steps ahead: sensors, each `b ...`."""


def _pixels(clip: Clip, shown: Shown, name: str, context: int, seed: int) -> dict[str, float]:
    first = image_in(clip.obs[name][:, context])
    found: dict[str, float] = {}
    for h, drawn in shown.items():
        true = image_in(clip.obs[name][:, context + h])
        ahead, still = ((picture - true).square().flatten(1).mean(dim=1) for picture in (image_in(drawn[name]), first))
        found |= ratio_with_interval(f"pixel_ratio_{h}", ahead, still, seed)
    return found


def _vectors(clip: Clip, shown: Shown, sensors: Sequence[str], context: int, seed: int) -> dict[str, float]:
    names = [name for name in sensors if all(name in drawn for drawn in shown.values())]
    if not names:
        return {}
    true = torch.cat([clip.obs[name][:, context:] for name in names], dim=-1)  # b t n
    spread = true.flatten(0, 1).std(dim=0)
    varies = spread > 0
    found: dict[str, float] = {}
    for h, drawn in shown.items():
        guesses = torch.cat([drawn[name] for name in names], dim=-1), true[:, 0]
        off = [((guess - true[:, h])[:, varies] / spread[varies]).square().mean(dim=1) for guess in guesses]
        found |= ratio_with_interval(f"vector_ratio_{h}", *off, seed=seed)
    return found
