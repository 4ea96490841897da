"""`Ensemble`: several models of one world as one, whose members' futures tell how sure they are (cf. 1805.12114)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from innerworld.config import Config
from innerworld.errors import UserError
from innerworld.types import Clip, Obs, State
from innerworld.world import Card, Roll, WorldModel


class EnsembleConfig(Config):
    """The members have theirs."""


class Ensemble(WorldModel):
    """Members that each believe, imagine and judge for themselves; energy, loss and what is seen are their mean.

    Its belief holds those of all members, their names with the member's number before them. It is made of trained
    models and is not saved itself: save those.
    """

    Config = EnsembleConfig

    def __init__(self, members: Sequence[WorldModel]) -> None:
        if not members:
            raise UserError("an ensemble needs at least one model")
        spec = members[0].spec
        if any(model.spec != spec for model in members):
            raise UserError("the models of an ensemble must see and do the same: their specs differ")
        super().__init__(EnsembleConfig(), spec)
        self._members = nn.ModuleList(members)
        self.members: tuple[WorldModel, ...] = tuple(members)

    @property
    def card(self) -> Card:  # of its members, so that it is no constant of the class
        first = self.members[0].card
        name = f"{len(self.members)} × {first.name}"
        return Card(name, first.predicts, bool(self._drawn_by_all()), first.backbone, first.paper, first.actions)

    @property
    def restarts(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(model.restarts for model in self.members)

    def parts(self, state: State) -> list[State]:
        """What each member believes."""
        marks = [f"{i}." for i in range(len(self.members))]
        return [{name[len(m) :]: value for name, value in state.items() if name.startswith(m)} for m in marks]

    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        past = [None] * len(self.members) if state is None else self.parts(state)
        return _joined([model.encode(obs, own, action) for model, own in zip(self.members, past, strict=True)])

    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        return self._all(lambda model, own: model.predict(own, action, rng), state)

    def imagine(self, state: State, actions: Tensor) -> State:
        return self._all(lambda model, own: model.imagine(own, actions), state)

    def roll(self, starts: State, horizon: int) -> Roll:
        rolls = [model.roll(own, horizon) for model, own in zip(self.members, self.parts(starts), strict=True)]
        return lambda action, rng: _joined([roll(action, rng) for roll in rolls])

    def roll_bytes(self, b: int, k: int, horizon: int, shared: bool = False) -> int:
        return sum(model.roll_bytes(b, k, horizon, shared) for model in self.members)

    def watch(self, clip: Clip) -> State:
        if clip.past is None:
            return _joined([model.watch(clip) for model in self.members])
        return super().watch(clip)

    def decode(self, state: State) -> dict[str, Tensor]:
        """The mean of what the members draw; of what one of them does not tell, nothing."""
        told = [model.decode(own) for model, own in zip(self.members, self.parts(state), strict=True)]
        return {
            name: torch.stack([each[name] for each in told]).mean(dim=0)
            for name in told[0]
            if all(name in each for each in told)
        }

    def energy(self, state: State, goal: State) -> Tensor:
        pairs = zip(self.members, self.parts(state), self.parts(goal), strict=True)
        return torch.stack([model.energy(own, wanted) for model, own, wanted in pairs]).mean(dim=0)

    def features(self, state: State) -> Tensor:
        """Those of all members, side by side."""
        pairs = zip(self.members, self.parts(state), strict=True)
        return torch.cat([model.features(own) for model, own in pairs], dim=-1)

    def bare(self, state: State) -> State:
        return self._all(lambda model, own: model.bare(own), state)

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        told = [model.prospects(own) for model, own in zip(self.members, self.parts(state), strict=True)]
        reward, goes_on = (torch.stack(values).mean(dim=0) for values in zip(*told, strict=True))
        return reward, goes_on

    def discount(self) -> float:
        found = {model.discount() for model in self.members}
        if len(found) > 1:
            raise UserError(f"the models of an ensemble discount differently ({found}): teach them alike")
        return found.pop()

    def drawn(self, state: State, rng: Generator) -> State:
        return self._all(lambda model, own: model.drawn(own, rng), state)

    def packed(self, state: State) -> State:
        kept = [model.packed(own) for model, own in zip(self.members, self.parts(state), strict=True)]
        return _joined(kept) if all(kept) else {}

    def unpacked(self, state: State) -> State:
        return self._all(lambda model, own: model.unpacked(own), state)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean of the members' losses; its parts by member. A past is for each its own."""
        pasts = [None] * len(self.members) if clip.past is None else self.parts(clip.past)
        found = [model.loss(_with_past(clip, past)) for model, past in zip(self.members, pasts, strict=True)]
        parts = {f"{i}.{name}": value for i, (_, own) in enumerate(found) for name, value in own.items()}
        return torch.stack([loss for loss, _ in found]).mean(), parts

    def prepare(self, clip: Clip) -> None:
        for model in self.members:
            model.prepare(clip)

    def after_step(self) -> None:
        for model in self.members:
            model.after_step()

    def _all(self, ask: Callable[[WorldModel, State], State], state: State) -> State:
        return _joined([ask(model, own) for model, own in zip(self.members, self.parts(state), strict=True)])

    def _drawn_by_all(self) -> bool:
        return all(model.card.decodes for model in self.members)


def _joined(states: Sequence[State]) -> State:
    return {f"{i}.{name}": value for i, state in enumerate(states) for name, value in state.items()}


def _with_past(clip: Clip, past: State | None) -> Clip:
    return Clip(clip.obs, clip.action, clip.reward, clip.terminated, clip.first, past)
