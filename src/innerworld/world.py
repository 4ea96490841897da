"""`WorldModel`: what every family answers. Imagining, dreaming and watching are written here once, on top of that."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange, repeat
from torch import Generator, Tensor

from innerworld.errors import UserError
from innerworld.learns import Learns
from innerworld.types import Clip, Obs, State, each

Roll = Callable[[Tensor, Generator | None], State]
"""The next actions of all futures, and a generator → their states then (`WorldModel.roll`)."""


@dataclass(frozen=True)
class Card:
    """What a family is, for the map of the field (`innerworld models`)."""

    name: str  # its name in the literature
    predicts: str  # pixels, tokens, latents or actions
    decodes: bool
    backbone: str  # what carries it through time
    paper: str
    actions: bool = True  # does it consume actions


class WorldModel(Learns):
    """Five verbs over one opaque state (`loss` is from `Learns`). Subclass once: a family is one leaf in one file.

    A leaf has a nested frozen `Config`, a `card`, and `presets` (the papers' settings by name); its constructor is
    `Leaf(config, spec)`. Sensors of a clip that `spec` does not name are ignored.
    """

    card: ClassVar[Card]

    # ------------------------------------------------------------------ what a family must answer

    @abstractmethod
    def encode(self, obs: Obs, state: State | None = None, action: Tensor | None = None) -> State:
        """What do I believe, after looking? `obs` each `b ...`; `action` `b a` led from `state` to `obs`."""

    @abstractmethod
    def predict(self, state: State, action: Tensor, rng: Generator | None = None) -> State:
        """What then, after acting (`b a`) with eyes shut? Without `rng`: the most likely. Must not mutate `state`."""

    def decode(self, state: State) -> dict[str, Tensor]:
        """What would I see? Sensors in the layout of `obs` (images float in [0, 1]), "reward" `b`, "continue" `b`."""
        return {}

    @abstractmethod
    def energy(self, state: State, goal: State) -> Tensor:
        """How far from that? `b`, never negative; zero is a match."""

    def features(self, state: State) -> Tensor:
        """What probes and the collapse watch read: `b d`. By default all floats of the state, flattened."""
        floats = [value.flatten(1) for value in state.values() if value.is_floating_point()]
        return torch.cat(floats, dim=-1)

    def bare(self, state: State) -> State:
        """The part that `features`, `decode`, `prospects` and `energy` read; what only going on needs may be large."""
        return state

    # ------------------------------------------------------------------ what follows from it; override only for speed

    def imagine(self, state: State, actions: Tensor) -> State:
        """n candidate futures that share one past: `state` each `b ...`, `actions` `b n h a` → each `b n h ...`.

        What comes back is there to be judged and drawn: a family may leave out what `energy`, `decode` and `features`
        do not read. To go on from an imagined state, `predict` to it.
        """
        b, n, h, _ = actions.shape
        roll = self.roll(each(lambda value: value[:, None].expand(-1, n, *value.shape[1:]), state), h)
        flat = rearrange(actions, "b n h a -> (b n) h a")
        states = stack([roll(flat[:, t], None) for t in range(h)])
        return each(lambda value: value.unflatten(0, (b, n)), states)

    def roll(self, starts: State, horizon: int) -> Roll:
        """Imagine step by step, at most `horizon` steps, from k starts of each row, `b k ...`: a function of the next
        actions `(b k) a` and of a generator, or none, that gives the states then, each `(b k) ...`.

        Its states are there to be judged and drawn, as those of `imagine`, which is made of it as `dream` is. Where the
        k starts share storage (one belief expanded, or the beliefs along a clip) a family may compute once what they
        have in common. Raises `UserError` for a horizon that it cannot imagine.
        """
        state = flatten(starts, 2)

        def step(action: Tensor, rng: Generator | None) -> State:
            nonlocal state
            state = self.predict(state, action, rng)
            return state

        return step

    def roll_bytes(self, b: int, k: int, horizon: int, shared: bool = False) -> int:
        """How much `roll` holds at most, in bytes, beside the states that it gives: from k starts of each of b rows, in
        single precision and without gradients. `shared`: the starts of a row are one belief. None by default."""
        return 0

    def dream(
        self, state: State, policy: Callable[[State], Tensor], horizon: int, rng: Generator | None = None
    ) -> tuple[State, Tensor]:
        """Let `policy` (state → `b a`) choose: states each `b h ...` after each of the actions `b h a`.

        After the first it is shown states of `roll`.
        """
        states, actions = [], []
        roll = self.roll(each(lambda value: value[:, None], state), horizon)
        for _ in range(horizon):
            action = policy(state)
            state = roll(action, rng)
            states.append(state)
            actions.append(action)
        return stack(states), torch.stack(actions, dim=1)

    def watch(self, clip: Clip) -> State:
        """Believe along a clip: states each `b t+1 ...`, as `encode` gives them one look after another.

        Where an episode begins within the clip, belief begins anew. With a past that is the first state, and of all
        there is what it was packed with.
        """
        state = self.encode(clip.at(0)) if clip.past is None else self.unpacked(clip.past)
        states = [state]
        for t in range(clip.length):
            state = self.encode(clip.at(t + 1), state, clip.action[:, t])
            if clip.first is not None and bool(clip.first[:, t + 1].any()):
                state = choose_rows(clip.first[:, t + 1], self.encode(clip.at(t + 1)), state)
            states.append(state)
        return stack([{name: state[name] for name in states[0]} for state in states])

    def study(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor], State]:
        """`loss`, and the beliefs `b t+1 ...` that it was measured on, with their gradients; for who learns to act.

        Where the clip has a past, the first belief is that past.
        """
        return *self.loss(clip), self.watch(clip)

    def prospects(self, state: State) -> tuple[Tensor, Tensor]:
        """Reward and chance to go on, each `b`, as `decode` tells them; override where that would paint in vain.

        Where no end is told, going on is certain. Raises `UserError` for a model that tells no reward.
        """
        told = self.decode(state)
        if "reward" not in told:
            raise UserError(f"{self.card.name} tells no reward: what to act for is unknown to it")
        reward = told["reward"]
        return reward, told.get("continue", torch.ones_like(reward))

    def discount(self) -> float:
        """The discount of a step that the chance to go on in `prospects` contains already; 1: it is a mere chance."""
        return 1.0

    def drawn(self, state: State, rng: Generator) -> State:
        """A belief in which what `encode` took as most likely is drawn: as those are that a policy learns on."""
        return state

    def packed(self, state: State) -> State:
        """The small form in which a replay keeps a belief, to go on from it one day. Empty: it keeps none, and gives
        clips without a past."""
        return state

    def unpacked(self, state: State) -> State:
        """What `packed` has packed; what `encode` and `predict` do not need to go on may be missing."""
        return state

    def impressions(self, clip: Clip) -> Tensor:
        """The features of the beliefs along a clip: `b t+1 d`."""
        return self.features(flatten(self.bare(self.watch(clip)), 2)).unflatten(0, (-1, clip.length + 1))


def stack(states: list[State]) -> State:
    """States of successive times → one, each `b t ...`."""
    return {name: torch.stack([state[name] for state in states], dim=1) for name in states[0]}


def choose_rows(rows: Tensor, a: State, b: State) -> State:
    """Of each row (`b` bool) the state from `a` where it is true, else from `b`."""
    return {name: torch.where(rows.view(-1, *[1] * (value.ndim - 1)), a[name], value) for name, value in b.items()}


def at(states: State, t: int) -> State:
    """The state at time t out of states each `b t ...`."""
    return each(lambda value: value[:, t], states)


def candidates(state: State, n: int) -> State:
    """Each row n times: `b ...` → `(b n) ...`."""
    return each(lambda value: repeat(value, "b ... -> (b n) ...", n=n), state)


def flatten(states: State, axes: int) -> State:
    """Merge the leading axes into one batch: `b t ...` with axes = 2 → `(b t) ...`."""
    return each(lambda value: value.flatten(0, axes - 1), states)
