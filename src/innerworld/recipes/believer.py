"""`Believer`: a policy that holds its actions, in several worlds at once; what is seen there goes through its model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from innerworld.data.stepping import Sensors
from innerworld.errors import UserError
from innerworld.types import Obs, Spec, State, each
from innerworld.world import WorldModel


class Believer:
    """Chooses by `choose` (belief `b ...` → action `b a`, as the environment takes it), for `evaluate.returns.earn`.

    A model that was taught with frames skipped takes a block of `hold` actions as one: then each action is held for
    that many steps, and nothing is looked at in between. Every row has a belief and a clock of its own.
    """

    def __init__(self, world: WorldModel, choose: Callable[[State], Tensor], hold: int = 1) -> None:
        self.world, self.choose, self.hold = world, choose, hold
        self.device = next((p.device for p in world.parameters()), torch.device("cpu"))
        self._held = np.zeros(0, np.int64)  # n   steps for which the action was held
        self._belief: State = {}  # n ...
        self._action = torch.zeros(0)  # n a

    @torch.no_grad()
    def act(self, obs: Sensors, first: np.ndarray) -> np.ndarray:
        """Look where an action has been held long enough or an episode begins, and choose the next one there: `n a`."""
        if len(self._held) != len(first):
            self._held = np.zeros(len(first), np.int64)
        fresh, onward = np.flatnonzero(first), np.flatnonzero(~first & (self._held == self.hold))
        if len(fresh):
            self._believe(fresh, self.world.encode(self._seen(obs, fresh)))
        if len(onward):
            past, block = each(lambda value: value[onward], self._belief), self._action[onward].repeat(1, self.hold)
            self._believe(onward, self.world.encode(self._seen(obs, onward), past, block))
        self._held += 1
        return self._action.cpu().numpy()

    def _seen(self, obs: Sensors, rows: np.ndarray) -> Obs:
        return {name: torch.from_numpy(obs[name][rows]).to(self.device) for name in self.world.spec.obs}

    def _believe(self, rows: np.ndarray, belief: State) -> None:
        """Keep the beliefs of some rows, and what is done on them."""
        action = self.choose(belief)
        if len(rows) == len(self._held):
            self._belief, self._action = belief, action
        else:
            at = torch.from_numpy(rows).to(self.device)
            self._belief = {name: self._belief[name].index_copy(0, at, value) for name, value in belief.items()}
            self._action = self._action.index_copy(0, at, action)
        self._held[rows] = 0


def check_world(seen: Spec, world: WorldModel, hold: int, name: str) -> None:
    """Raise `UserError` unless a world that looks like `seen` is one that the model can live in."""
    for sensor, shape in world.spec.obs.items():
        if seen.obs.get(sensor) != shape:
            found = f"{seen.obs[sensor]}" if sensor in seen.obs else f"only {', '.join(seen.obs)}"
            raise UserError(f"{name} shows {found}, the model was taught with sensor {sensor!r} of {shape}")
    if (seen.action * hold, seen.discrete) != (world.spec.action, world.spec.discrete):
        kind = "choices" if seen.discrete else "numbers"
        raise UserError(
            f"{name} takes actions of {seen.action} {kind}, the model's are {world.spec.action}, blocks of {hold}"
        )
