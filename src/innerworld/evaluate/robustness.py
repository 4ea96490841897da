"""Robustness: what is left of a model where something looks or is laid out as it never was in training?

Films vary in one factor: their pictures are changed (any store will do), or the world itself is another one in that
factor. What changes with it is told relative to the plain films: the error of prediction over that of standing still,
and what a linear probe, fitted on plain training episodes, still reads off beliefs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Generator, Tensor

from innerworld.evaluate.bootstrap import value_with_interval
from innerworld.evaluate.probing import Probe
from innerworld.types import Clip, each
from innerworld.world import WorldModel, at, flatten

CONTEXT = 3  # steps that are looked at before the eyes are shut
BRIGHT, DARK = 1.4, 0.6  # factors of brightness
GRAIN = 0.05  # deviation of the sensor's noise, of the range from black to white
COVER = 4  # the patch's side is that of the picture divided by this
HUE = 120.0  # degrees

Change = Callable[[Tensor, Generator], Tensor]
"""Films `b t y x c` uint8 → the same, changed alike in all their frames where the sensor is what changed."""


def hue(films: Tensor, rng: Generator) -> Tensor:
    """Turn all colours by 120 degrees about the grey axis, at the same lightness (YIQ). Grey films stay as they are."""
    if films.shape[-1] < 3:
        return films
    turn = torch.deg2rad(torch.tensor(HUE))
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    rotate = torch.eye(3)
    rotate[1:, 1:] = torch.tensor([[turn.cos(), -turn.sin()], [turn.sin(), turn.cos()]])
    matrix = torch.linalg.inv(to_yiq) @ rotate @ to_yiq
    turned = films.float().clone()
    turned[..., :3] = films[..., :3].float() @ matrix.T
    return _whole(turned)


def brighter(films: Tensor, rng: Generator) -> Tensor:
    return _whole(films.float() * BRIGHT)


def darker(films: Tensor, rng: Generator) -> Tensor:
    return _whole(films.float() * DARK)


def noise(films: Tensor, rng: Generator) -> Tensor:
    """Grain on the sensor, new in each frame."""
    return _whole(films.float() + 255 * GRAIN * torch.randn(films.shape, generator=rng))


def patch(films: Tensor, rng: Generator) -> Tensor:
    """A grey square before each film, at one place of its own."""
    b, _, y, x, _ = films.shape
    side = max(1, min(y, x) // COVER)
    covered = films.clone()
    for row in range(b):
        top, left = (int(torch.randint(size - side + 1, (), generator=rng)) for size in (y, x))
        covered[row, :, top : top + side, left : left + side] = 128
    return covered


PICTURES: dict[str, Change] = {"hue": hue, "brighter": brighter, "darker": darker, "noise": noise, "patch": patch}
"""Changes of pictures, which need no world."""


def changed(clip: Clip, sensors: Sequence[str], change: Change, seed: int = 0) -> Clip:
    """The same clips with the pictures of these sensors changed."""
    rng = Generator().manual_seed(seed)
    films = {name: change(clip.obs[name].cpu(), rng).to(clip.obs[name].device) for name in sensors}
    return replace(clip, obs={**clip.obs, **films})


def robustness(
    model: WorldModel,
    pairs: Mapping[str, tuple[Clip, Clip]],
    probe: Probe | None,
    horizons: Sequence[int],
    context: int = CONTEXT,
    seed: int = 0,
) -> dict[str, float]:
    """Of each factor, by its name, plain and varied clips, row by row to be compared → what the factor does.

    `energy_ratio_NAME`: error of imagining over that of standing still, energies, mean over horizons; with a probe of
    the `state`, `state_ratio_NAME` is the same of distances to the true state
    (in deviations), and `probe_r2_NAME` what the probe reads
    while looking. `…_worse_NAME` is each error varied over plain, 1: it does not matter; `probe_worse` is of the
    probe's error. All with intervals over clips; those without a NAME are means over the factors.
    """
    model.eval()
    found: dict[str, float] = {}
    kept: dict[int, _Errors] = {}  # plain clips are often the same
    for name, (plain, varied) in pairs.items():
        judge = partial(_errors, model, probe, _deviation(plain) if probe else None, horizons, context)
        if id(plain) not in kept:
            kept[id(plain)] = judge(plain)
        found |= _compare(name, kept[id(plain)], judge(varied), seed)
    told = (
        "energy_worse",
        "energy_ratio",
        *(("state_worse", "state_ratio", "probe_worse", "probe_r2") if probe else ()),
    )
    means = {name: sum(found[f"{name}_{factor}"] for factor in pairs) / len(pairs) for name in told}
    return means | found


@dataclass(frozen=True)
class _Errors:
    """Sums over time of each clip, `b`, or `b k` for each number of the state."""

    ahead: Tensor  # energy to what came, of what was imagined
    still: Tensor  # and of what was believed at the start
    read: Tensor | None = None  # distance of the state that is read off what was imagined to the true one
    stood: Tensor | None = None  # and of the true one at the start
    missed: Tensor | None = None  # b k   squared error of the probe while looking
    varied: Tensor | None = None  # b k   squared distance of the true state from its mean


@torch.no_grad()
def _errors(
    model: WorldModel,
    probe: Probe | None,
    scale: Tensor | None,
    horizons: Sequence[int],
    context: int,
    clip: Clip,
) -> _Errors:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    clip = clip.to(device)
    believed = model.watch(clip)
    start, longest = at(believed, context), max(horizons)
    imagined = model.imagine(start, clip.action[:, None, context : context + longest])
    steps = [
        (each(lambda value, h=h: value[:, 0, h - 1], imagined), model.bare(at(believed, context + h))) for h in horizons
    ]
    ahead = torch.stack([model.energy(future, goal) for future, goal in steps]).mean(dim=0).double().cpu()
    still = torch.stack([model.energy(model.bare(start), goal) for _, goal in steps]).mean(dim=0).double().cpu()
    if probe is None or scale is None:
        return _Errors(ahead, still)
    state = clip.obs["state"].double().cpu() / scale
    read = lambda beliefs: (model.features(beliefs).double().cpu() @ probe["weights"] + probe["intercept"]) / scale
    pairs = [(read(future), state[:, context + h]) for (future, _), h in zip(steps, horizons, strict=True)]
    looked = read(flatten(model.bare(believed), 2)).unflatten(0, (-1, clip.length + 1))
    return _Errors(
        ahead,
        still,
        torch.stack([(guess - truth).norm(dim=-1) for guess, truth in pairs]).mean(dim=0),
        torch.stack([(state[:, context] - truth).norm(dim=-1) for _, truth in pairs]).mean(dim=0),
        (looked - state).square().sum(dim=1),
        (state - state.mean((0, 1))).square().sum(dim=1),
    )


def _deviation(clip: Clip) -> Tensor:
    """Of each number of the state, `k`, so that none counts more for its unit; infinite where it is a constant."""
    state = clip.obs["state"].double().cpu().flatten(0, 1)
    deviation = state.std(dim=0)
    return torch.where(deviation > 1e-6 * state.abs().amax(dim=0), deviation, torch.inf)


def _compare(name: str, plain: _Errors, varied: _Errors, seed: int) -> dict[str, float]:
    n = len(plain.ahead)
    told = lambda what, value: value_with_interval(f"{what}_{name}", value, n, seed)
    ratio = lambda over, under: lambda rows: over[rows].mean(1) / under[rows].mean(1)
    worse = lambda a, b: lambda rows: a(rows) / b(rows)
    energy, energy_plain = ratio(varied.ahead, varied.still), ratio(plain.ahead, plain.still)
    found = told("energy_ratio", energy) | told("energy_worse", worse(energy, energy_plain))
    if varied.read is None or plain.read is None:
        return found
    state, state_plain = ratio(varied.read, varied.stood), ratio(plain.read, plain.stood)
    missed = lambda errors: lambda rows: errors.missed[rows].sum((1, 2)).sqrt()
    return (
        found
        | told("state_ratio", state)
        | told("state_worse", worse(state, state_plain))
        | told("probe_r2", lambda rows: _r2(varied, rows))
        | told("probe_worse", worse(missed(varied), missed(plain)))
    )


def _r2(errors: _Errors, rows: Tensor) -> Tensor:
    """Mean over the numbers of the state that vary: `r`."""
    assert errors.missed is not None and errors.varied is not None
    varies = errors.varied.sum(dim=0) > 0
    return (1 - errors.missed[rows].sum(1)[:, varies] / errors.varied[rows].sum(1)[:, varies]).mean(dim=1)


def _whole(films: Tensor) -> Tensor:
    return films.round().clamp(0, 255).to(torch.uint8)
