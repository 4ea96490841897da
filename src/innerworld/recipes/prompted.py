"""Worlds that begin with a sentence: their first frames are drawn out of nothing, and from there they go on."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from innerworld.envs.wording import hashed
from innerworld.errors import UserError
from innerworld.types import State, each, random_actions
from innerworld.world import WorldModel, stack


@runtime_checkable
class Prompted(Protocol):
    """What a family must have beside a world model's verbs to begin with a sentence."""

    @property
    def prompt(self) -> str:
        """The vector sensor that says what a film is about; empty: this model is told none."""
        ...

    def begin(self, prompt: Tensor, rng: Generator | None = None) -> State:
        """Beliefs `b ...` of first frames that fit their prompts `b n`."""
        ...


@torch.no_grad()
def begun(model: WorldModel, sentence: str, n: int = 1, seed: int = 0) -> State:
    """Beliefs `n ...` of n worlds for one sentence, which is told as `envs.wording.hashed` tells it.

    Raises `UserError` for a model that learnt without sentences, and for one without words.
    """
    if not isinstance(model, Prompted) or not model.prompt:
        raise UserError(
            f"{model.card.name} was told no sentences: leave out --prompt, or train with model.prompt=SENSOR"
        )
    words = torch.from_numpy(hashed(sentence, model.spec.obs[model.prompt][0]))
    if not words.any():
        raise UserError(f"--prompt {sentence!r} has no words in it")
    return model.begin(words.expand(n, -1), Generator().manual_seed(seed))


@torch.no_grad()
def wandered(model: WorldModel, worlds: State, horizon: int, seed: int = 0) -> dict[str, Tensor]:
    """What is seen in worlds `n ...` while chance acts in them: each sensor `n h+1 ...`, the first frame included."""
    n, rng = len(next(iter(worlds.values()))), Generator().manual_seed(seed)
    actions = random_actions(model.spec, (n, 1, horizon), rng)
    onward = each(lambda value: value[:, 0], model.imagine(worlds, actions))
    films = [
        model.decode(model.bare(worlds)),
        *(model.decode(each(lambda v, t=t: v[:, t], onward)) for t in range(horizon)),
    ]
    return stack(films)
