"""Perception: sensors → a belief, also where some are missing, broken or late, and how surprising what was seen is."""

from __future__ import annotations

import logging

import torch
from pydantic import Field
from torch import Tensor

from innerworld.agent.actor.react import looking
from innerworld.agent.configurator.tasks import check_sight
from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.nn.sensors import to_uint8
from innerworld.types import Clip, Obs, State, each
from innerworld.world import WorldModel, choose_rows

logger = logging.getLogger(__name__)


class SensesConfig(Config):
    surprise: bool = Field(default=True, description="tell how surprising a look is: one prediction and one energy")
    settle: int = Field(default=5, description="surprises of a world before `unusual` is told, looks", ge=2)
    window: int = Field(default=200, description="looks over which the usual surprise is averaged", ge=2)
    patience: int | None = Field(
        default=None, description="looks in a row without sight after which a belief is given up; null: never", ge=0
    )


class Senses:
    """What the model believes, look after look; row i stands for world i.

    A sensor that is missing, of a wrong shape or kind, or not finite in some rows is no reason to stop. Those rows keep
    their eyes shut for it: what the model expected to see there stands in for it, where the model can tell (`decode`);
    else, and where nothing at all was seen, the row's belief is only predicted. A row whose belief is NaN, or which was
    given up, begins anew with the first whole sight. Nothing here tracks gradients or changes the model's mode.
    """

    state: State  # b ...
    surprise: Tensor  # b        energy between what was expected and what is believed after looking; NaN: saw nothing
    unusual: Tensor  # b        by how many deviations that lies above the world's mean; NaN until that has settled
    blind: Tensor  # b bool   a sensor was not there: what is believed is, at least in part, predicted
    unseen: Tensor  # b        looks in a row of which the belief was only predicted

    def __init__(self, model: WorldModel, config: SensesConfig = SensesConfig()) -> None:
        self.model, self.config = model, config
        self._warned: set[str] = set()

    @property
    def lost(self) -> Tensor:
        """`b` bool: rows unseen for longer than `SensesConfig.patience`, whose belief is not to be trusted."""
        patience = self.config.patience
        return torch.zeros_like(self.blind) if patience is None else self.unseen > patience

    @torch.no_grad()
    def begin(self, obs: Obs) -> None:
        """What is seen first in every world, each `b ...`. Raises `UserError` for what the model's eyes do not fit."""
        first = next(iter(obs.values()), None)
        if first is None:
            raise UserError("an episode begins with nothing seen: give what is seen first, one entry for each sensor")
        check_sight(self.model.spec, obs, len(first), "what is seen")
        self._kinds = {name: obs[name].dtype for name in self.model.spec.obs}
        self.blind = torch.zeros(len(first), dtype=torch.bool, device=first.device)
        for rows in self._faults(obs).values():
            self.blind = self.blind | rows
        with looking(self.model):
            self.state = self.model.encode(obs)
        self.unseen = self.blind.long()
        self.surprise = torch.full((len(first),), torch.nan, device=first.device)
        self.unusual = self.surprise
        self._usual = Usual(self.surprise, self.config)

    @torch.no_grad()
    def look(self, obs: Obs, action: Tensor) -> None:
        """What is seen after `action`, `b a`; {}: it came too late. Never raises for what is seen."""
        obs = self._alike(obs)
        with looking(self.model):
            faults = self._faults(obs)
            expected = self.model.predict(self.state, action) if faults or self.config.surprise else {}
            if faults:
                self.state, shut = self._peer(obs, faults, expected, action)
                self.blind = torch.stack(list(faults.values())).any(dim=0)
            else:
                self.state, shut = self._believe(obs, action), torch.zeros_like(self.blind)
                self.blind = shut
            if self.config.surprise:
                self.surprise = self.model.energy(expected, self.state).float().masked_fill(shut, torch.nan)
                # A surprise that is in part about what stood in for a sensor is told, but teaches nothing.
                self.unusual = self._usual(self.surprise, ~self.blind)
        self.unseen = torch.where(shut, self.unseen + 1, 0)

    @torch.no_grad()
    def refresh(self, clip: Clip, rows: Tensor) -> None:
        """The model's weights have changed: believe anew what these worlds (indices) saw up to now, along `clip`.

        The others keep their belief. What is a usual surprise has to settle again.
        """
        if not len(rows):
            return
        with looking(self.model):
            state = self.model.encode(clip.at(0))
            for t in range(clip.length):
                state = self.model.encode(clip.at(t + 1), state, clip.action[:, t])
        self.state = {name: value.index_copy(0, rows, state[name]) for name, value in self.state.items()}
        self._usual = Usual(self.surprise, self.config)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the worlds only (indices)."""
        self.state = each(lambda value: value[rows], self.state)
        self.surprise, self.unusual = self.surprise[rows], self.unusual[rows]
        self.blind, self.unseen = self.blind[rows], self.unseen[rows]
        self._usual.keep(rows)

    def _believe(self, obs: Obs, action: Tensor) -> State:
        """What is believed now. A row whose belief is NaN begins anew with what it sees, or it stayed lost."""
        state = self.model.encode(obs, self.state, action)
        anew = torch.stack([value.isnan().reshape(len(value), -1).any(dim=1) for value in state.values()]).any(dim=0)
        if self.config.patience is not None:
            anew = anew | self.lost
        return choose_rows(anew, self.model.encode(obs), state) if bool(anew.any()) else state

    def _peer(self, obs: Obs, faults: dict[str, Tensor], expected: State, action: Tensor) -> tuple[State, Tensor]:
        """The belief when sensors are at fault (rows `b` of each), and the rows `b` that could only predict it."""
        hidden = torch.stack(list(faults.values()))  # m b
        shut = hidden.any(dim=0)
        if len(faults) < len(self.model.spec.obs):
            hidden = torch.cat([hidden, torch.zeros_like(hidden[:1])])
        partly = shut & ~hidden.all(dim=0) & ~self.lost
        told = self.model.decode(expected) if bool(partly.any()) else {}
        seen, known = {name: obs[name] for name in obs if name not in faults}, partly
        for name, rows in faults.items():
            stand_in, good = self._stand_in(name, told.get(name))
            known = known & (good | ~rows)
            whole = bool(rows.all())  # then what came may have any shape
            seen[name] = stand_in if whole else torch.where(_spread(rows, stand_in), stand_in, obs[name])
        shut = shut & ~known
        if bool(shut.all()):
            return expected, shut
        return choose_rows(shut, expected, self._believe(seen, action)), shut

    def _stand_in(self, name: str, told: Tensor | None) -> tuple[Tensor, Tensor]:
        """What stands in for a sensor, `b ...`, and the rows `b` in which it is more than a blank."""
        shape = (len(self.blind), *self.model.spec.obs[name])
        kind = self._kinds[name]
        if told is None or told.shape != shape:
            return torch.zeros(shape, dtype=kind, device=self.blind.device), torch.zeros_like(self.blind)
        good = told.isfinite().flatten(1).all(dim=1)
        told = told.nan_to_num()  # of the rows that are not good, for these are not used
        return to_uint8(told) if kind == torch.uint8 else told.to(kind), good

    def _alike(self, obs: Obs) -> Obs:
        """Floats of another precision than at the beginning are no fault."""
        return {
            name: value.to(kind)
            if isinstance(value, Tensor)
            and (kind := self._kinds.get(name))
            and kind.is_floating_point
            and value.is_floating_point()
            and value.dtype != kind
            else value
            for name, value in (obs or {}).items()
        }

    def _faults(self, obs: Obs) -> dict[str, Tensor]:
        """Of each sensor that cannot be used as it is, the rows `b` where it cannot."""
        faults = {}
        for name, shape in self.model.spec.obs.items():
            value = obs.get(name)
            wrong = self._wrong(value, (len(self.blind), *shape), self._kinds[name])
            if wrong or value is None:
                faults[name] = torch.ones_like(self.blind)
                self._warn(f"sensor {name!r}" if obs else "every sensor", wrong)
            elif value.is_floating_point():
                rows = ~value.isfinite().flatten(1).all(dim=1)
                if bool(rows.any()):
                    faults[name] = rows
                    self._warn(f"sensor {name!r}", f"is not finite in {int(rows.sum())} of {len(rows)} worlds")
        return faults

    def _wrong(self, value: Tensor | None, shape: tuple[int, ...], kind: torch.dtype) -> str:
        """What is wrong with what came from a sensor in all rows; empty: nothing."""
        if not isinstance(value, Tensor):
            return "is missing"
        if tuple(value.shape) != shape:
            return f"has shape {tuple(value.shape)} instead of {shape}"
        if value.dtype != kind:
            return f"is {value.dtype} instead of {kind}"
        return ""

    def _warn(self, what: str, wrong: str) -> None:
        """Once for each sensor."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning("%s %s: what the model expects stands in for it (told once)", what, wrong)


class Usual:
    """The mean and the deviation of a number of each row, over its last `window` values or so."""

    def __init__(self, like: Tensor, config: SensesConfig) -> None:
        self.settle, self.window = config.settle, config.window
        self.count, self.mean, self.variance = (torch.zeros_like(like) for _ in range(3))  # b

    def __call__(self, value: Tensor, counts: Tensor) -> Tensor:
        """How many deviations `value` `b` lies above the mean so far; then learn it in the rows that count."""
        apart = value - self.mean
        floor = 1e-6 * self.mean.abs() + 1e-12  # of a world that was always equally surprising, up to rounding
        unusual = torch.where(self.count >= self.settle, apart / (self.variance.sqrt() + floor), torch.nan)
        counts = counts & value.isfinite()
        self.count = self.count + counts
        rate = 1 / self.count.clamp(1, self.window)
        self.mean = torch.where(counts, self.mean + rate * apart, self.mean)
        self.variance = torch.where(counts, (1 - rate) * (self.variance + rate * apart.square()), self.variance)
        return unusual

    def keep(self, rows: Tensor) -> None:
        self.count, self.mean, self.variance = self.count[rows], self.mean[rows], self.variance[rows]


def _spread(rows: Tensor, like: Tensor) -> Tensor:
    """Rows `b` as a mask that fits `b ...`."""
    return rows.view(-1, *[1] * (like.ndim - 1))
