"""`Phrases`: known goals that have names, and an embedding of sentences that finds which one is meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from innerworld.errors import UserError
from innerworld.types import Obs

Embed = Callable[[Sequence[str]], Tensor]
"""Sentences → `n d`, near each other where they mean the same; a sentence encoder, or a count of words."""

NAMED = 3  # known goals that are named where none is near


class Phrases:
    """Goals by what one calls them, each sensor without a batch axis.

    A sentence means the goal whose name lies nearest by cosine, if that is at least `least`.
    """

    def __init__(self, embed: Embed, goals: Mapping[str, Obs], least: float = 0.5) -> None:
        if not goals:
            raise UserError("phrases need at least one goal with a name")
        self._embed, self._least = embed, least
        self.names, self._goals = list(goals), list(goals.values())
        self._keys = self._directions(self.names)  # n d

    def meant(self, sentences: Sequence[str]) -> Obs:
        """The goals that the sentences mean, each `b ...`. Raises `UserError`, naming the nearest, if none is near."""
        alike = self._directions(sentences) @ self._keys.T  # b n
        best, index = alike.max(dim=1)
        for sentence, like, row in zip(sentences, best.tolist(), alike, strict=True):
            if not like >= self._least:
                known = ", ".join(repr(self.names[i]) for i in row.argsort(descending=True)[:NAMED].tolist())
                raise UserError(f"no goal is known that {sentence!r} could mean; the nearest are: {known}")
        goals = [self._goals[i] for i in index.tolist()]
        return {name: torch.stack([goal[name] for goal in goals]) for name in goals[0]}

    def _directions(self, sentences: Sequence[str]) -> Tensor:
        found = self._embed(list(sentences))
        if found.ndim != 2 or len(found) != len(sentences):
            raise UserError(f"the embedding of {len(sentences)} sentences has shape {tuple(found.shape)}, not (n, d)")
        return F.normalize(found.float(), dim=1)
