"""What a model believes now of what was seen earlier: features of old sights, with the weights of today."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from innerworld.agent.actor.react import looking
from innerworld.agent.experience import Experience
from innerworld.types import State, each
from innerworld.world import WorldModel

AT_ONCE = 256  # stretches that are believed side by side


@torch.no_grad()
def believed(model: WorldModel, experience: Experience, sights: Tensor) -> Tensor:
    """Features `n d` of what the model believes on seeing these sights, by their numbers `n`, each after those before
    it in its stretch; NaN where a sight is no longer there."""
    found: dict[int, Tensor] = {}
    wanted = set(sights.tolist())
    stretches = [_until(stretch, wanted) for stretch in experience.stretches()]
    stretches = sorted(filter(None, stretches), key=len, reverse=True)
    with looking(model):
        for first in range(0, len(stretches), AT_ONCE):
            found |= _along(model, experience, stretches[first : first + AT_ONCE])
        nothing = model.features(model.encode(_to(model.spec.blank(), model)))[0].float().cpu() * torch.nan
    return torch.stack([found.get(number, nothing) for number in sights.tolist()]) if len(sights) else nothing[None][:0]


def _until(stretch: list[int], wanted: set[int]) -> list[int]:
    """As far as its last sight that is wanted."""
    last = max((i for i, number in enumerate(stretch) if number in wanted), default=-1)
    return stretch[: last + 1]


def _along(model: WorldModel, experience: Experience, stretches: list[list[int]]) -> dict[int, Tensor]:
    """Features along stretches, the longest first, by the numbers of the sights."""
    found: dict[int, Tensor] = {}
    state: State | None = None
    for t in range(len(stretches[0])):
        numbers = [stretch[t] for stretch in stretches if len(stretch) > t]
        obs, action = experience.sights(torch.tensor(numbers))
        if state is None:
            state = model.encode(_to(obs, model))
        else:
            state = each(lambda value: value[: len(numbers)], state)  # noqa: B023  used at once
            state = model.encode(_to(obs, model), state, action.to(_device(model)))
        features = model.features(model.bare(state)).float().cpu()
        found |= dict(zip(numbers, features, strict=True))
    return found


def _to(obs: Mapping[str, Tensor], model: WorldModel) -> dict[str, Tensor]:
    return {name: value.to(_device(model)) for name, value in obs.items()}


def _device(model: WorldModel) -> torch.device:
    return next(model.parameters()).device
