"""Does a taught model expect what happens? Its surprise at impossible films, beside controls and an oracle."""

from __future__ import annotations

from pathlib import Path

import torch

from innerworld import checkpoint
from innerworld.data.matched import Matched
from innerworld.envs.physics.engine import Law
from innerworld.envs.physics.scene import STATE
from innerworld.errors import UserError
from innerworld.evaluate.surprise import Score, SurpriseConfig, last_frame_score, pairwise, score_of
from innerworld.log import progress
from innerworld.models.oracle import Oracle, OracleConfig
from innerworld.recipes.lesson import read
from innerworld.recipes.practice import is_practice
from innerworld.types import Spec
from innerworld.world import WorldModel

MODEL, RANDOM, LAST, ORACLE = "model", "random weights", "last frame", "oracle"


def load_judged(folder: Path, device: torch.device | None = None) -> tuple[WorldModel, int]:
    """The model of a run, and how many frames it takes in a step. Raises `UserError`."""
    model = checkpoint.load(folder, device=device or "cpu", kind=WorldModel)
    return model, 1 if is_practice(folder) else read(folder).frame_skip


def judge_surprise(
    model: WorldModel,
    matched: Matched,
    config: SurpriseConfig = SurpriseConfig(),
    frame_skip: int = 1,
    seed: int = 0,
    oracle: bool = False,
    quiet: bool = False,
) -> dict[str, dict[str, float]]:
    """What `pairwise` finds of the model, the same family with random weights, and who expects the last frame again.

    With `oracle`, also of one that knows the state of the physics films and their law. Raises `UserError`.
    """
    scores = {MODEL: score_of(model, config, frame_skip), RANDOM: score_of(untaught(model, seed), config, frame_skip)}
    if model.spec.images():
        scores[LAST] = last_frame_score(model.spec.images()[0], config)
    if oracle:
        scores[ORACLE] = oracle_score(config)
    with progress("watch quadruplets", sum(matched.counts().values()), quiet) as show:
        return pairwise(matched, scores, config, show)


def untaught(model: WorldModel, seed: int = 0) -> WorldModel:
    """The same family and settings with weights as they are drawn; eyes that it has borrowed are drawn, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(model.config, model.spec)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return fresh.to(device).eval()


def oracle_score(config: SurpriseConfig = SurpriseConfig()) -> Score:
    """Surprise of one who knows the whole state of the physics films, hidden or not, and the engine's law."""
    oracle = Oracle(OracleConfig(), Spec({"state": (len(STATE),)}, 0), Law())
    return score_of(oracle, config.model_copy(update={"by": "energy"}))


def side_of(model: WorldModel) -> int:
    """The side of the pictures that a model sees, pixels. Raises `UserError` where it sees none, or no squares."""
    for name in model.spec.images():
        y, x, _ = model.spec.obs[name]
        if y == x:
            return y
        raise UserError(f"the model sees {name!r} of {y} x {x} pixels: these films are squares")
    raise UserError("the model sees no pictures: there is nothing to be surprised at in films")
