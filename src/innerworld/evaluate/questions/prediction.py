"""Does it see what will come, by horizon, against standing still: in the true state, in its latents, in pixels?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from innerworld.data import Clips
from innerworld.evaluate.exam import Along, Answer, Exam, Question
from innerworld.evaluate.judge import fit_probe
from innerworld.evaluate.prediction import prediction
from innerworld.evaluate.probing import linear_probe
from innerworld.types import Clip
from innerworld.world import WorldModel, at, flatten

RATIOS = {"Latents": "energy_ratio", "Pixels": "pixel_ratio", "Vectors": "vector_ratio"}
OTHERS = {"state_r2_still": "standing still", "state_r2_linear": "linear model"}
FITTED = 4096  # clips that the linear model is fitted on


def ask(exam: Exam) -> Answer:
    """`energy_ratio_h`, with a decoder `pixel_ratio_h` or `vector_ratio_h`; where the data tells the true state,
    `state_r2_h` and its mean.

    All begin where `context` steps have been watched: with 0 at the first frame, which shows no velocity.
    `state_r2_h` is read off the beliefs imagined h steps ahead by a linear probe, and compared with the true state
    then: what is not explained is measured by how much the state varies, which is the same for all models.
    `state_r2_still_h` is that of the true state at the start, as one who stands still would say it, and
    `state_r2_linear_h` that of a linear model, which is told the true states that were watched and all actions.
    """
    context = exam.config.context
    horizons = [h for h in exam.config.horizons if context + h <= exam.longest] or [1]
    clip = exam.clip(context + max(horizons))
    metrics = prediction(exam.model, clip, horizons, context, exam.seed)
    curves = {}
    if exam.knows_state():
        probe = fit_probe(exam.model, exam.store, exam.learn, exam.held_out, exam.frame_skip, exam.config.episodes)
        metrics |= foreseen(exam.model, clip, probe["weights"], probe["intercept"], horizons, context)
        metrics |= exam.lab.once("linear", lambda: linear(exam, clip, horizons))
        others = {name: _points(metrics, metric) for metric, name in OTHERS.items()}
        points = _points(metrics, "state_r2")
        curves["True state"] = Along("steps ahead", "R², read off what is imagined", points, others=others)
    for title, name in RATIOS.items():
        if points := _points(metrics, name):
            curves[title] = Along("steps ahead", "error over standing still's", points, 1.0, "standing still")
    return Answer(metrics, curves=curves)


@torch.no_grad()
def foreseen(
    model: WorldModel, clip: Clip, weights: Tensor, intercept: Tensor, horizons: Sequence[int], context: int = 0
) -> dict[str, float]:
    """`state_r2_h` and `state_r2_still_h` of imagining the clip's own actions from step `context` on, and their means.

    R² of each number of the state that varies, at least 0, averaged. Probe: `d k` and `k`.
    """
    model.eval()
    longest = max(horizons)
    state = at(model.watch(clip.cut(0, context)), context)
    imagined = flatten(model.imagine(state, clip.action[:, None, context : context + longest]), 3)
    guess = (model.features(imagined).double() @ weights + intercept).unflatten(0, (-1, longest))  # b h k
    true = clip.obs["state"][:, context:].double()  # b h+1 k
    found: dict[str, float] = {}
    for h in horizons:
        found[f"state_r2_{h}"] = _explained(guess[:, h - 1], true[:, h])
    for h in horizons:
        found[f"state_r2_still_{h}"] = _explained(true[:, 0], true[:, h])
    for name in ("state_r2", "state_r2_still"):
        found[name] = sum(found[f"{name}_{h}"] for h in horizons) / len(horizons)
    return found


def linear(exam: Exam, clip: Clip, horizons: Sequence[int]) -> dict[str, float]:
    """`state_r2_linear_h` on these clips of ridge regression from the states that were watched and the actions until
    then, fitted on clips of the episodes that were learnt from; and their mean."""
    taught = Clips(exam.store, exam.learn, clip.length, FITTED, exam.seed, exam.frame_skip, ["state"]).batch(0)
    seen = exam.config.context + 1
    found: dict[str, float] = {}
    for h in horizons:
        given = [
            torch.cat([one.obs["state"][:, :seen].flatten(1), one.action[:, : seen - 1 + h].flatten(1)], dim=1)
            for one in (taught, clip)
        ]
        true = [one.obs["state"][:, seen - 1 + h] for one in (taught, clip)]
        fit = linear_probe(given[0], true[0], given[1], true[1])
        guess = given[1].double() @ fit["weights"] + fit["intercept"]
        found[f"state_r2_linear_{h}"] = _explained(guess, true[1].double())
    return found | {"state_r2_linear": sum(found.values()) / len(horizons)}


def _explained(guess: Tensor, true: Tensor) -> float:
    """R² of `b k`, averaged over the numbers that vary; NaN where none does."""
    variance = true.var(0, correction=0)
    varies = variance > (1e-6 * true.abs().amax(0)) ** 2
    return (1 - (guess - true).square().mean(0) / variance)[varies].clamp_min(0).mean().item()


def _points(metrics: dict[str, float], name: str) -> tuple[tuple[float, float], ...]:
    """What is told of each horizon, as `name_h`."""
    found = [key for key in metrics if key.removeprefix(f"{name}_").isdecimal()]
    return tuple((float(key.rpartition("_")[2]), metrics[key]) for key in found)


PREDICTION = Question(
    name="prediction",
    asks="Does it see what will come?",
    headline="state_r2",
    higher=True,
    unit="R² of the true state, read off what is imagined, mean over steps ahead",
    ask=ask,
    floor=0.0,
    bounds=OTHERS,
)
