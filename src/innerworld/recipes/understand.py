"""Do these eyes understand films? Frozen, on a labelled set: what an attentive probe on their tokens can name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from innerworld.data.labelled import Films, LabelledSet, numbered_alike
from innerworld.evaluate.understanding import See, Understanding, UnderstandingConfig, one_frame, understand
from innerworld.log import progress
from innerworld.models.eyes import lender
from innerworld.nn.sincos import sincos
from innerworld.perception import Encoder


class Understood(TypedDict):
    """What was found, and on what."""

    films: Understanding
    one_frame: Understanding | None  # of the middle frame alone, standing still
    learn: int  # films
    test: int
    labels: int
    unlearnt: int  # films of the test whose label is not among those to learn from: no probe can name them
    size: int  # side at which films are seen, pixels


def understand_labelled(
    source: str,
    learn: LabelledSet,
    test: LabelledSet,
    config: UnderstandingConfig = UnderstandingConfig(),
    frames: int = 16,
    size: int | None = None,
    most: int | None = None,
    still: bool = False,
    device: torch.device | None = None,
    quiet: bool = False,
) -> Understood:
    """Train attentive probes on what the eyes of `source` see in the films of `learn`, judge the best on `test`.

    `source` is the folder of an encoder's run, or whatever `perception.pretrained` takes. Films are seen at `size`
    (none: as the eyes are used to), their middle square alone. Of lists longer than `most`, that many films are drawn,
    by `config.seed`. With `still`, the same is done with the middle frame alone. Raises `UserError`.
    """
    device = device or torch.device("cpu")
    eyes = lender(source, size=size).to(device)
    size = size or min(eyes.spec.obs[eyes.spec.images()[0]][:2])
    learn, test = numbered_alike(learn, test)
    drawn = [_draw(each, most, config.seed) for each in (learn, test)]
    made = [Films(each, numbers, frames, size) for each, numbers in zip((learn, test), drawn, strict=True)]
    labels = [each.labels(numbers) for each, numbers in zip((learn, test), drawn, strict=True)]
    total = (len(drawn[0]) + len(drawn[1])) * (1 + still)
    with progress("look at films", total, quiet) as show:
        see = _counted(seeing(eyes, device), show)
        tasks = (made[0], labels[0]), (made[1], labels[1])
        found = understand(see, *tasks, config, device)
        frame = understand(one_frame(see), *tasks, config, device) if still else None
    return Understood(
        films=found,
        one_frame=frame,
        learn=len(drawn[0]),
        test=len(drawn[1]),
        labels=len(set(labels[0].tolist())),
        unlearnt=int(np.isin(labels[1], labels[0], invert=True).sum()),
        size=size,
    )


def seeing(eyes: Encoder, device: torch.device) -> See:
    """How these eyes see a film: as one where their tokens know their time; else frame by frame, with a mark for each.

    The marks are sines and cosines of the frame's number, without which a probe could not tell their order.
    """
    vit, sight = eyes.vision()
    sensor = sight.sensor or eyes.spec.images()[0]
    if vit.config.positions in ("rope", "sincos_3d"):
        return lambda films: eyes.encode({sensor: films.to(device)})

    def see(films: Tensor) -> Tensor:
        tokens = eyes.encode({sensor: films.to(device).flatten(0, 1)}).unflatten(0, films.shape[:2])  # b t s d
        mark = sincos(torch.arange(tokens.shape[1], device=device), tokens.shape[-1])  # t d
        return (tokens + mark.to(tokens.dtype)[:, None]).flatten(1, 2)

    return see


def _draw(films: LabelledSet, most: int | None, seed: int) -> tuple[int, ...]:
    if most is None or len(films) <= most:
        return tuple(range(len(films)))
    return tuple(sorted(np.random.default_rng(seed).permutation(len(films))[:most].tolist()))


def _counted(see: See, show: Callable[[int], None]) -> See:
    """Tells how many films were seen."""
    seen = 0

    def counted(films: Tensor) -> Tensor:
        nonlocal seen
        tokens = see(films)
        seen += len(films)
        show(seen)
        return tokens

    return counted
