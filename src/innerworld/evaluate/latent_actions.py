"""Are latent actions the real ones? Codes in use, and real actions told from codes by a few labelled transitions."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from innerworld.errors import UserError
from innerworld.evaluate.bootstrap import ratio_with_interval, with_interval
from innerworld.evaluate.untouched import untouched
from innerworld.nn.vocabulary import usage
from innerworld.types import Clip
from innerworld.world import WorldModel


@runtime_checkable
class InfersActions(Protocol):
    """A family that finds actions of its own in what is seen, as Genie does."""

    def infer_actions(self, clip: Clip) -> tuple[Tensor, Tensor, int]:
        """The codes of a clip's steps `b t`, which of them count `b t`, and how many codes there are."""
        ...

    def real_actions(self, codes: Tensor) -> tuple[Tensor, int]:
        """The real actions `b t a` that codes stand for, and how many labelled transitions say so.

        Raises `UserError` where nothing real is known.
        """
        ...


@torch.no_grad()
def latent_actions(model: WorldModel, clip: Clip, seed: int = 0) -> dict[str, float]:
    """How a family's own actions and the real ones go together on held-out clips.

    `code_usage`: share of the codes that occur; `code_perplexity`: how many evenly used ones have as much variety;
    `labels`: transitions whose real action the model was told. Where there are real actions: of choices
    `latent_real_accuracy`, how often the choice that a code stands for is the one that was made, beside
    `latent_real_chance`, that of always naming the most frequent one; of continuous actions `latent_real_r2`; with 95 %
    intervals over clips, of the steps that count (`actions.skip`). An action that changes nothing, as a step against a
    wall, cannot be told by any model. Raises `UserError` for clips of another action size, a family without actions of
    its own, and a model that is played by codes: it has no real actions.
    """
    if not isinstance(model, InfersActions):
        raise UserError(f"{type(model).__name__} has no actions of its own: judge a genie")
    with untouched(model) as device:
        clip = clip.to(device)
        codes, counts, n = model.infer_actions(clip)  # b t
        told, labels = model.real_actions(codes)
        found = {f"code_{name}": float(value) for name, value in usage(codes[counts], n).items()}
        found["labels"] = float(labels)
        if not model.spec.action:
            return found
        if clip.action.shape[-1] != model.spec.action:
            raise UserError(f"clips have actions of {clip.action.shape[-1]} numbers, the model of {model.spec.action}")
        if model.spec.discrete:
            right = told.argmax(dim=-1) == clip.action.argmax(dim=-1)
            found["latent_real_chance"] = float(clip.action[counts].mean(dim=0).max())
            return found | with_interval("latent_real_accuracy", _of_each(right, counts), seed)
        wrong = _of_each((told - clip.action).square().sum(dim=-1), counts)
        blind = _of_each((clip.action - clip.action[counts].mean(dim=0)).square().sum(dim=-1), counts)
        rest = ratio_with_interval("rest", wrong, blind, seed)
        return found | {
            "latent_real_r2": 1 - rest["rest"],
            "latent_real_r2_low": 1 - rest["rest_high"],
            "latent_real_r2_high": 1 - rest["rest_low"],
        }


def _of_each(values: Tensor, counts: Tensor) -> Tensor:
    """The mean of each clip's steps `b t` that count, `b`."""
    return ((values * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)).cpu()
