"""Calibration: does the spread of sampled futures match how wrong they are? Measures of ensembles, and a model's own.

Draws of one forecast and the truth should be alike: the truth is then as far from the draws' mean as they are (spread
and skill), lies within their central intervals as often as these say (coverage), and is as likely to have any rank
among them (the rank histogram). The CRPS is in the quantity's own unit and equals the absolute error of a single draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.evaluate.bootstrap import ratio_with_interval, value_with_interval
from innerworld.evaluate.probing import Probe
from innerworld.nn.sensors import image_in
from innerworld.types import Clip, State, each
from innerworld.world import WorldModel, at

DRAWS = 32  # futures of each clip; an interval of 90 % needs at least 19
LEVELS = (0.5, 0.9)  # of central intervals
THUMB = 16  # side to which pictures are shrunk: draws of all pixels would not find room
ALIKE = 1e-6  # a spread below which all draws are the same; of deviations, those of a constant


@dataclass(frozen=True)
class Forecasts:
    """What was imagined of one quantity at one horizon, and what came of it."""

    draws: Tensor  # n b q   n futures of each clip, of q numbers
    likeliest: Tensor  # b q   without chance
    truth: Tensor  # b q


def spread_skill(draws: Tensor, truth: Tensor, name: str = "spread_skill", seed: int = 0) -> dict[str, float]:
    """√(mean variance of the draws, × (n+1)/n) over the root mean squared error of their mean: 1 for draws like the
    truth (Fortin et al. 2014, eq. 15), below it they are too sure. `n b q` and `b q`; interval over b."""
    n = len(draws)
    variance = draws.double().var(dim=0).mean(dim=1) * (n + 1) / n  # b
    error = (draws.double().mean(dim=0) - truth).square().mean(dim=1)
    return value_with_interval(name, lambda r: (variance[r].mean(1) / error[r].mean(1)).sqrt(), len(truth), seed)


def coverage(draws: Tensor, truth: Tensor, level: float, name: str = "coverage", seed: int = 0) -> dict[str, float]:
    """How often the truth lies within the draws' central interval of that `level`; it should be as often as `level`.

    Its ends are at the places p (n+1) of the sorted draws, so that for draws like the truth the number of draws does
    not matter. Raises `UserError` for too few draws.
    """
    n, outside = len(draws), (1 - level) / 2
    fewest = math.ceil(1 / outside - 1e-9) - 1
    if n < fewest:
        raise UserError(f"{n} draws are too few for an interval of {level:.0%}: draw at least {fewest}")
    places = torch.tensor([outside, 1 - outside], dtype=torch.float64) * (n + 1) - 1
    ordered = draws.double().sort(dim=0).values
    below = places.floor().long().clamp(0, n - 2)
    share = (places - below)[:, None, None]
    low, high = ordered[below] * (1 - share) + ordered[below + 1] * share  # b q
    inside = ((truth >= low) & (truth <= high)).double().mean(dim=1)
    return value_with_interval(name, lambda rows: inside[rows].mean(dim=1), len(truth), seed)


def crps(draws: Tensor, truth: Tensor) -> Tensor:
    """The continuous ranked probability score, fair to any number of draws (Ferro 2014, eq. 3): `n b q`, `b q` → `b`.

    mean |x - y| - ½ mean |x - x'|, the latter over different draws. Of one draw, or equal ones, the absolute error.
    """
    n = len(draws)
    away = (draws.double() - truth).abs().mean(dim=0)
    if n == 1:
        return away.mean(dim=1)
    ordered = draws.double().sort(dim=0).values
    weight = (2 * torch.arange(n, dtype=torch.float64) - n + 1)[:, None, None]
    apart = (weight * ordered).sum(dim=0) / (n * (n - 1))  # half of the mean distance between two draws
    return (away - apart).mean(dim=1)


def ranks(draws: Tensor, truth: Tensor, seed: int = 0) -> Tensor:
    """How many draws lie below the truth, 0 to n, ties broken by chance: `n b q`, `b q` → `b q`."""
    rng = Generator().manual_seed(seed)
    below, equal = (draws < truth).sum(dim=0), (draws == truth).sum(dim=0)
    return below + (torch.rand(truth.shape, generator=rng, dtype=torch.float64) * (equal + 1)).long()


def rank_histogram(draws: Tensor, truth: Tensor, seed: int = 0) -> tuple[dict[str, float], list[float]]:
    """How flat the ranks are, and their shares.

    `rank_flatness`: squared deviations from equal shares over what chance makes of independent ones, 1 when flat
    (Candille and Talagrand 2005, δ). `rank_outside`: the truth lies beyond all draws, over how often it should, 2 of
    n+1 ranks.
    """
    n, found = len(draws), ranks(draws, truth, seed).flatten()
    counts = torch.bincount(found, minlength=n + 1).double()
    total = counts.sum()
    expected = total / (n + 1)
    flatness = ((counts - expected).square().sum() / (total * n / (n + 1))).item()
    outside = ((counts[0] + counts[-1]) / (2 * expected)).item()
    return {"rank_flatness": flatness, "rank_outside": outside}, (counts / total).tolist()


def calibrated(forecasts: Mapping[int, Forecasts], seed: int = 0) -> dict[str, float]:
    """All of it, by horizon: `spread_h`, `spread_skill_h`, `coverage_50_h`, `coverage_90_h`, `crps_ratio_h`,
    `rank_flatness_h` and `rank_outside_h`, and the means of the first four over horizons.

    `crps_ratio`: CRPS over the mean absolute error of the likeliest future; below 1 drawing tells more. `spread`: of
    the draws, in the quantities' own unit. A model that draws the same each time has `spread` 0, `deterministic` 1, and
    all that follows from it.
    """
    found: dict[str, float] = {}
    for h, one in forecasts.items():
        found[f"spread_{h}"] = one.draws.double().var(dim=0).mean().sqrt().item()
        found |= spread_skill(one.draws, one.truth, f"spread_skill_{h}", seed)
        for level in LEVELS:
            found |= coverage(one.draws, one.truth, level, f"coverage_{level:.0%}_{h}".replace("%", ""), seed)
        single = (one.likeliest.double() - one.truth).abs().mean(dim=1)
        found |= ratio_with_interval(f"crps_ratio_{h}", crps(one.draws, one.truth), single, seed)
        flat, _ = rank_histogram(one.draws, one.truth, seed)
        found |= {f"{name}_{h}": value for name, value in flat.items()}
    for name in ("spread", "spread_skill", "coverage_50", "coverage_90", "crps_ratio"):
        found[name] = sum(found[f"{name}_{h}"] for h in forecasts) / len(forecasts)
    found["deterministic"] = float(all(found[f"spread_{h}"] < ALIKE for h in forecasts))
    return found


@torch.no_grad()
def forecasts(
    model: WorldModel,
    clip: Clip,
    horizons: Sequence[int],
    probe: Probe | None = None,
    context: int = 0,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, dict[int, Forecasts]]:
    """Imagine each clip's own actions `draws` times from its step `context` on, with chance, and once without.

    Of what can be asked, by name and horizon: with a probe, `state`: the true state and what is read off imagined
    beliefs, and `belief`: what is read off beliefs after really looking, so that the probe's own error is in neither;
    `reward`, where the model tells one and it varies; and each image that
    it decodes, shrunk, by its sensor's name. Each number is in deviations of its truth over the clips.
    """
    model.eval()
    believed = model.watch(clip)
    start = at(believed, context)
    rng = Generator(clip.action.device).manual_seed(seed)
    chance = each(lambda value: value.repeat_interleave(draws, dim=0), start)
    rolls = {
        draws: (model.roll(each(lambda value: value[:, None], model.drawn(chance, rng)), max(horizons)), rng),
        1: (model.roll(each(lambda value: value[:, None], start), max(horizons)), None),
    }
    found: dict[str, dict[int, Forecasts]] = {}
    for h in range(1, max(horizons) + 1):
        given = clip.action[:, context + h - 1]
        told = {n: roll(given.repeat_interleave(n, dim=0), luck) for n, (roll, luck) in rolls.items()}
        if h not in horizons:
            continue
        many, one = (_quantities(model, told[n], probe, n) for n in (draws, 1))
        for name, truth in _truths(model, clip, believed, probe, context + h).items():
            if name in many:
                together = name in model.spec.images()
                found.setdefault(name, {})[h] = _in_deviations(many[name], one[name][0], truth, together)
    return found


def _in_deviations(draws: Tensor, likeliest: Tensor, truth: Tensor, together: bool) -> Forecasts:
    """Each number in deviations of its truth, so that none counts more for its unit; those that do not vary are out.

    Pixels have one unit `together`: in its own, one that hardly ever changes would count more than all others.
    """
    deviation = truth.double().std(dim=0)
    varies = deviation > ALIKE * truth.double().abs().amax(dim=0).clamp_min(ALIKE)
    unit = deviation[varies].square().mean().sqrt() if together else deviation[varies]
    return Forecasts(*(value.double()[..., varies] / unit for value in (draws, likeliest, truth)))


def _quantities(model: WorldModel, states: State, probe: Probe | None, n: int) -> dict[str, Tensor]:
    """What is read off imagined states, `(b n) ...` → each `n b q`."""
    found: dict[str, Tensor] = {}
    if probe is not None:
        read = model.features(states).double().cpu() @ probe["weights"] + probe["intercept"]
        found |= {"state": read, "belief": read}
    told = model.decode(states)
    for name, value in told.items():
        if name in model.spec.images():
            found[name] = image_in(value, THUMB).flatten(1).cpu()
    if "reward" in told:
        found["reward"] = told["reward"][:, None].double().cpu()
    return each(lambda value: value.unflatten(0, (-1, n)).transpose(0, 1), found)


def _truths(model: WorldModel, clip: Clip, believed: State, probe: Probe | None, t: int) -> dict[str, Tensor]:
    """What was there at time t, or is believed to have been after looking: each `b q`; without what never varies."""
    found: dict[str, Tensor] = {}
    if probe is not None:
        found["state"] = clip.obs["state"][:, t].double().cpu()
        found["belief"] = model.features(at(believed, t)).double().cpu() @ probe["weights"] + probe["intercept"]
    for name in model.spec.images():
        found[name] = image_in(clip.obs[name][:, t], THUMB).flatten(1).cpu()
    found["reward"] = clip.reward[:, t - 1, None].double().cpu()
    return {name: value for name, value in found.items() if bool((value != value[:1]).any())}
