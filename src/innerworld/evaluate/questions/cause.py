"""Does it know what an act does? One number of one action is changed, and so may be a parameter of the world."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from innerworld.errors import UserError
from innerworld.evaluate.cause import (
    CONTEXT,
    HORIZONS,
    LEAD,
    Twins,
    beginnings,
    cause,
    twins_by_action,
    twins_by_world,
)
from innerworld.evaluate.exam import Along, Answer, Exam, Question, skip
from innerworld.evaluate.frames import imagined
from innerworld.evaluate.judge import fit_probe
from innerworld.types import Clip
from innerworld.world import WorldModel, at

FEWEST = 8  # pairs, or nothing is told


def ask(exam: Exam) -> Answer:
    """What `cause` tells of a changed action; `NAME_sign_accuracy`, `NAME_slope`, `NAME_r2` and `NAME_leak` of worlds
    with another parameter, where there are such and what it changes can be seen."""
    if not exam.model.spec.action:
        return skip("nobody acts in this data, so that no action can be changed")
    if not exam.model.card.actions:
        return skip("this family takes no actions")
    if not exam.knows_state():
        return skip("the data holds no `state` to begin two worlds at")
    if exam.longest < CONTEXT + LEAD + 1:
        return skip(f"no held-out episode has the {CONTEXT + LEAD + 1} steps that it takes to change one and to look")
    clip = exam.clip(min(exam.longest, CONTEXT + LEAD + max(HORIZONS)))
    try:
        twins = twins_by_action(
            exam.lab.worlds(len(clip.action)), clip, exam.store.spec, exam.frame_skip, seed=exam.seed
        )
    except UserError as error:
        return skip(str(error))
    probe = fit_probe(exam.model, exam.store, exam.learn, exam.held_out, exam.frame_skip, exam.config.episodes)
    metrics = cause(exam.model, twins, probe, seed=exam.seed)
    for name in exam.lab.varied:
        found = _varied(exam, name, clip)
        if found is not None:
            told = cause(exam.model, found, probe, seed=exam.seed)
            metrics |= {
                f"{name}_{key}": told[key] for key in told if key.removesuffix("_low").removesuffix("_high") in SHORT
            }
    steps = [h for h in twins.horizons() if f"slope_{h}" in metrics]
    curves = {
        title: Along("steps after the change", unit, tuple((float(h), metrics[f"{name}_{h}"]) for h in steps))
        for title, name, unit in CURVES
    }
    return Answer(metrics, curves=curves, films=_films(exam.model, twins))


SHORT = ("pairs", "sign_accuracy", "slope", "r2", "leak")
CURVES = (
    ("Sign of the imagined change", "sign_accuracy", "share that is right, chance = 0.5"),
    ("Size of the imagined change", "slope", "imagined over true"),
)


def _varied(exam: Exam, name: str, clip: Clip) -> Twins | None:
    """Twins of the plain world and one with that parameter; none where it changes nothing that happens."""
    state, varied = clip.at(0)["state"], exam.lab.varied[name]
    try:
        rows = torch.nonzero(beginnings(varied(1), state))[:, 0]
        if len(rows) < FEWEST:
            return None
        worlds = exam.lab.worlds(len(rows)), varied(len(rows))
        twins = twins_by_world(*worlds, clip.rows(rows), exam.store.spec, exam.frame_skip, seed=exam.seed)
    except UserError:  # a world of another kind: its parameter has no twin
        return None
    return twins if _differ(twins) else None


def _differ(twins: Twins) -> bool:
    """Do at least some pairs come apart?"""
    one, other = (film.obs["state"] for film in (twins.one, twins.other))
    return int(((one - other).abs() > 1e-3 * one.abs().amax()).flatten(1).any(dim=1).sum()) >= FEWEST


def _films(model: WorldModel, twins: Twins) -> dict[str, list[tuple[str, NDArray[np.uint8]]]]:
    """The first pair in which something changes, true and imagined, of who draws."""
    sensor = next(iter(model.spec.images()), None)
    if sensor is None or not model.card.decodes:
        return {}
    away = (twins.one.obs["state"] - twins.other.obs["state"]).abs().flatten(1).amax(dim=1)
    row = slice(int(away.argmax()), int(away.argmax()) + 1)
    panels = []
    for name, film in (("own action", twins.one.rows(row)), ("another", twins.other.rows(row))):
        panels.append((f"true, {name}", _shown(film.obs[sensor][0, twins.context + 1 :])))
        device = next(model.parameters()).device
        film = film.to(device)
        with torch.no_grad():
            belief = at(model.watch(film.cut(0, twins.context)), twins.context)
        frames = imagined(model, belief, film.action[:, twins.context :], sensor)
        panels.append((f"imagined, {name}", _shown(frames[0])))
    return {f"One action changed at step {twins.apart - twins.context + 1}": panels}


def _shown(frames: Tensor) -> NDArray[np.uint8]:
    return frames[..., :3].cpu().numpy()


CAUSE = Question(
    name="cause",
    asks="Does it know what an act does?",
    headline="sign_accuracy",
    higher=True,
    unit="share of the numbers of the state that one changed action moves, whose imagined change has the right sign",
    ask=ask,
    floor=0.5,
    beside={
        "slope": "imagined over true change; 1 is right",
        "leak": "imagined change of what did not change, over the true change of what did; 0 is right",
    },
)
