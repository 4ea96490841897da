"""Cause and effect: change one thing, and ask whether what is imagined changes as the world does, and nothing else.

Two films begin alike in the true world and differ in one number of one action (or in one parameter of the world). A
model looks at their first frames, imagines the rest of both, and a linear probe reads the true state off what it
imagined. Of the difference between both futures the sign, the size, and the quantities that must stay are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from gymnasium.vector import VectorEnv
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.evaluate.bootstrap import value_with_interval
from innerworld.evaluate.controllability import others
from innerworld.evaluate.enacted import enact
from innerworld.evaluate.probing import Probe
from innerworld.types import Clip, Spec, State, random_actions
from innerworld.world import WorldModel, at, flatten

CONTEXT = 3  # steps that are looked at before the eyes are shut
LEAD = 2  # of the steps imagined: as many as come before the one that is changed
HORIZONS = (1, 2, 4, 8)  # steps after the change
CHANGED, SAME = 0.05, 1e-3  # of a quantity's deviation: by more it has changed, by less it has not


@dataclass(frozen=True)
class Twins:
    """Two films of the true world for each row, alike but for one cause; `state` is among their sensors."""

    one: Clip  # b t
    other: Clip  # b t
    context: int  # frames 0 to `context` are looked at
    apart: int  # up to this frame both are the same

    def horizons(self, wanted: Sequence[int] = HORIZONS) -> list[int]:
        """The numbers of steps after the change of which there are frames."""
        return [h for h in wanted if self.apart + h <= self.one.length]


def twins_by_action(
    worlds: VectorEnv,
    clip: Clip,
    spec: Spec,
    frame_skip: int = 1,
    context: int = CONTEXT,
    lead: int = LEAD,
    seed: int = 0,
) -> Twins:
    """Begin at the clips' first states and do their actions, and once more with one number of one action changed.

    It is that of the step `context + lead`; of a block of joined actions the same number in each, of choices another
    choice. `spec` is that of the store, `clip` `b t` has its sensors. Raises `UserError` for a world without actions,
    one that cannot begin at a state or is laid out otherwise than the stored one, and rows that all end too early.
    """
    if not spec.action:
        raise UserError("nobody acts in this world, so that no action can be changed")
    changed = clip.action.clone()
    changed[:, context + lead] = _other(clip.action[:, context + lead], spec, frame_skip, seed)
    state = clip.at(0)["state"]
    films = [enact(worlds, actions, spec, frame_skip, state, seed) for actions in (clip.action, changed)]
    _check_alike(films[0][0], clip)
    return _lasting(films, context, context + lead)


def twins_by_world(
    worlds: VectorEnv,
    varied: VectorEnv,
    clip: Clip,
    spec: Spec,
    frame_skip: int = 1,
    context: int = CONTEXT,
    seed: int = 0,
) -> Twins:
    """Do the clips' actions from their first states in the plain world and in one with another parameter.

    Raises `UserError` where either world cannot begin at these states.
    """
    state = clip.at(0)["state"]
    films = [enact(some, clip.action, spec, frame_skip, state, seed) for some in (worlds, varied)]
    return _lasting(films, context, context)


def beginnings(world: VectorEnv, state: Tensor) -> Tensor:
    """Which of the states `b s` this one world can begin at, `b` bool: a wall may stand where another has none."""
    possible = torch.zeros(len(state), dtype=torch.bool)
    for row in range(len(state)):
        with suppress(UserError):
            world.reset(seed=0, options={"state": state[row : row + 1].cpu().numpy()})
            possible[row] = True
    return possible


@torch.no_grad()
def cause(
    model: WorldModel, twins: Twins, probe: Probe, horizons: Sequence[int] = HORIZONS, seed: int = 0
) -> dict[str, float]:
    """Imagined against true differences of the `state`, each number in units of its deviation.

    For each horizon, as `NAME_h`, and over all of them: `sign_accuracy` (of what changed in truth; chance is a half),
    `slope` (through zero; 1 is right, 0 nothing imagined changed), `r2` (1: all explained, 0: no better than no
    change), `leak` (mean imagined change of what did not change in truth, over the mean true change of what did).
    Beside them the same read off what is believed after really looking, `NAME_seen`, which is what the probe allows,
    the same with the differences of other rows, `NAME_shuffled`, and for each number of the state `NAME_state_i`.
    `before` is the largest imagined change ahead of the cause and must be 0. Intervals are over pairs.

    Raises `UserError` where the changed cause changed nothing.
    """
    model.eval()
    steps = twins.horizons(horizons)
    if not steps:
        raise UserError(f"films of {twins.one.length} steps end before the change can show: give longer episodes")
    scale = _deviation(twins)
    varied = torch.nonzero(torch.isfinite(scale))[:, 0]  # constants tell nothing
    true, seen, told = (
        (difference / scale)[..., varied]
        for difference in (
            _difference(twins),
            _read(model, twins, probe, imagined=False),
            _read(model, twins, probe, imagined=True),
        )
    )  # b h k
    lead = twins.apart - twins.context
    after = torch.tensor([lead + h - 1 for h in steps])
    if not bool((true[:, after].abs() > CHANGED).any()):
        raise UserError("in the true world the changed cause changes nothing within these steps")
    found = {"pairs": float(len(true)), "before": told[:, :lead].abs().max().item() if lead else 0.0}
    for name, some in (("", told), ("_seen", seen), ("_shuffled", told[others(len(told), seed)])):
        found |= _judge(name, some[:, after], true[:, after], seed, interval=not name)
    for h, i in zip(steps, after.tolist(), strict=True):
        found |= _judge(f"_{h}", told[:, i : i + 1], true[:, i : i + 1], seed)
    for k, name in enumerate(varied.tolist()):
        one, own = told[:, after][..., k : k + 1], true[:, after][..., k : k + 1]
        found |= _judge(f"_state_{name}", one, own, seed, interval=False)
    return found


def _other(action: Tensor, spec: Spec, frame_skip: int, seed: int) -> Tensor:
    """Actions `b (k a)` that differ from these in one of their a numbers, or are another choice."""
    rng = Generator().manual_seed(seed)
    b = len(action)
    if spec.discrete:
        step = torch.randint(1, max(2, spec.action), (b,), generator=rng)
        return torch.nn.functional.one_hot((action.argmax(-1) + step) % spec.action, spec.action).to(action)
    drawn = random_actions(spec, (b,), rng).to(action)
    which = torch.randint(spec.action, (b,), generator=rng)
    one = torch.nn.functional.one_hot(which, spec.action).bool()
    parts = action.unflatten(-1, (frame_skip, spec.action))
    return torch.where(one[:, None], drawn[:, None], parts).flatten(1)


def _check_alike(film: Clip, clip: Clip) -> None:
    """Does the world, begun at the stored states, show what was stored, apart from pictures?"""
    for name, value in clip.at(0).items():
        if value.ndim == 2 and name in film.obs and not torch.allclose(film.at(0)[name], value, rtol=1e-3, atol=1e-3):
            raise UserError(f"the store's worlds are laid out differently ({name!r}): a state does not bring one back")


def _lasting(films: Sequence[tuple[Clip, Tensor]], context: int, apart: int) -> Twins:
    (one, lasted), (other, lasted_too) = films
    rows = torch.nonzero(lasted & lasted_too)[:, 0]
    if len(rows) < 2:
        raise UserError("nearly all worlds end before the changed cause can show: give longer episodes")
    return Twins(one.rows(rows), other.rows(rows), context, apart)


def _deviation(twins: Twins) -> Tensor:
    """Of each number of the state, over both films: `k`; infinite where it is a constant, so that it tells nothing."""
    state = torch.cat([twins.one.obs["state"], twins.other.obs["state"]]).double().flatten(0, 1)
    deviation = state.std(dim=0)
    return torch.where(deviation > 1e-6 * state.abs().amax(dim=0), deviation, torch.inf)


def _difference(twins: Twins) -> Tensor:
    """Of the true states, in how far they came apart since the last frame looked at: `b h k`."""
    one, other = (film.obs["state"][:, twins.context :].double() for film in (twins.one, twins.other))
    return _since_first(other - one)


def _read(model: WorldModel, twins: Twins, probe: Probe, imagined: bool) -> Tensor:
    """The same as the probe reads it off beliefs, imagined from the context on or after looking all the way."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    features = []
    for film in (twins.one.to(device), twins.other.to(device)):
        if imagined:
            start = at(model.watch(film.cut(0, twins.context)), twins.context)
            futures = model.imagine(start, film.action[:, None, twins.context :])
            found = torch.cat([model.features(start)[:, None], _features(model, futures, 3)], dim=1)
        else:
            found = _features(model, model.bare(model.watch(film)), 2)[:, twins.context :]
        features.append(found.double().cpu())
    return _since_first((features[1] - features[0]) @ probe["weights"])


def _features(model: WorldModel, states: State, axes: int) -> Tensor:
    """Of beliefs `b t ...`, or `b 1 t ...` with three axes: `b t d`."""
    b, t = next(iter(states.values())).shape[: axes : axes - 1]
    return model.features(flatten(states, axes)).unflatten(0, (b, t))


def _since_first(difference: Tensor) -> Tensor:
    """`b h+1 k` → `b h k`: a part of the world that looks otherwise, but does nothing, is no effect."""
    return difference[:, 1:] - difference[:, :1]


def _judge(name: str, told: Tensor, true: Tensor, seed: int, interval: bool = True) -> dict[str, float]:
    """What is told of differences `b h k`; nothing where none of them changed."""
    sums = _sums(told, true)
    if not sums["changed"].any():
        return {}
    found: dict[str, float] = {}
    for measure, of in MEASURES.items():
        if measure == "leak" and not sums["same"].any():
            continue
        value = lambda rows, of=of: of({part: one[rows].sum(dim=1) for part, one in sums.items()})
        told_all = value_with_interval(f"{measure}{name}", value, len(true), seed)
        found |= told_all if interval else {f"{measure}{name}": told_all[f"{measure}{name}"]}
    return found


def _sums(told: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Over the steps and numbers of each pair, `b h k` → `b`."""
    changed, same = true.abs() > CHANGED, true.abs() <= SAME
    parts = {
        "changed": changed,
        "right": ((told * true > 0).double() + 0.5 * (told == 0)) * changed,
        "moved": true.abs() * changed,
        "same": same,
        "stirred": told.abs() * same,
        "product": told * true,
        "square": true.square(),
        "missed": (told - true).square(),
    }
    return {name: part.double().flatten(1).sum(dim=1) for name, part in parts.items()}


MEASURES: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
    "sign_accuracy": lambda total: total["right"] / total["changed"],
    "slope": lambda total: total["product"] / total["square"],
    "r2": lambda total: 1 - total["missed"] / total["square"],
    "leak": lambda total: (total["stirred"] / total["same"]) / (total["moved"] / total["changed"]),
}
