"""Does it follow its actions? What is imagined with wrong actions, against what is imagined with the right ones."""

from __future__ import annotations

import torch
from torch import Tensor

from innerworld.evaluate.bootstrap import ratio_with_interval
from innerworld.evaluate.controllability import others, shuffled_loss
from innerworld.evaluate.exam import Along, Answer, Exam, Question, skip
from innerworld.evaluate.generation import ACTED, followed, read_actions, scene_of
from innerworld.evaluate.inverse import InverseConfig, fit_inverse
from innerworld.evaluate.untouched import untouched
from innerworld.types import Clip, State, each
from innerworld.world import WorldModel, at

CONTEXT, HORIZON = 4, 8  # steps seen and imagined, fewer where episodes are short
DRAWN = 16  # clips whose pictures are judged
READER = InverseConfig(transitions=2048, steps=150)


def ask(exam: Exam) -> Answer:
    """`shuffled_energy_ratio_h`, of all families, `shuffled_loss_ratio`, and of those that draw ΔPSNR and read-back."""
    if not exam.model.spec.action:
        return skip("the data holds no actions")
    context, horizon = span(exam)
    clip = exam.clip(context + horizon)
    length = min(exam.length, clip.length)
    with untouched(exam.model):
        ratios = shuffled_energy(exam.model, clip, context, exam.seed)
        metrics = ratios | shuffled_loss(exam.model, clip.cut(0, length), exam.seed)
    metrics["shuffled_energy_ratio"] = ratios[f"shuffled_energy_ratio_{min(ACTED, horizon)}"]
    sensor = next(iter(exam.model.spec.images()), None)
    if sensor is not None and exam.model.card.decodes:
        metrics |= _drawn(exam, clip.rows(slice(0, DRAWN)), sensor, context, length)
    points = tuple((float(h), ratios[f"shuffled_energy_ratio_{h}"]) for h in range(1, horizon + 1))
    along = Along("steps ahead", "error over that with its own", points, 1.0, "no difference")
    return Answer(metrics, curves={"Another clip's actions": along})


def _drawn(exam: Exam, clip: Clip, sensor: str, context: int, length: int) -> dict[str, float]:
    """ΔPSNR and its kin, and actions read back off what is drawn."""
    with untouched(exam.model):
        scene = scene_of(exam.model, clip, sensor, context, exam.seed)
        found = followed(exam.model, scene, length, exam.seed)
    net = fit_inverse(exam.store, exam.learn, sensor, exam.model.spec.discrete, exam.frame_skip, READER)
    with torch.no_grad():
        return found | read_actions(net, scene, exam.seed)[0]


def span(exam: Exam) -> tuple[int, int]:
    """How many steps are seen, and then imagined: fewer where episodes are short."""
    context = min(CONTEXT, exam.longest // 2)
    return context, min(HORIZON, exam.longest - context)


@torch.no_grad()
def shuffled_energy(model: WorldModel, clip: Clip, context: int, seed: int = 0) -> dict[str, float]:
    """`shuffled_energy_ratio_h`: the energy between what is imagined with another clip's actions and what is believed
    after really looking, over that with its own actions, after `context` steps seen; 1: actions do not matter."""
    believed = model.watch(clip)
    start = at(believed, context)
    own = clip.action[:, context:]
    futures = model.imagine(start, torch.stack([own, own[others(len(own), seed)]], dim=1))  # b 2 h ...
    found: dict[str, float] = {}
    for h in range(own.shape[1]):
        goal = at(believed, context + h + 1)
        right, wrong = (model.energy(_one(futures, n, h), goal) for n in (0, 1))
        found |= ratio_with_interval(f"shuffled_energy_ratio_{h + 1}", wrong, right, seed)
    return found


def _one(futures: State, n: int, h: int) -> dict[str, Tensor]:
    return each(lambda value: value[:, n, h], futures)


CONTROLLABILITY = Question(
    name="controllability",
    asks="Does it follow its actions?",
    headline="shuffled_energy_ratio",
    higher=True,
    unit="energy to the truth with another clip's actions, over that with the own, four steps ahead",
    ask=ask,
    floor=1.0,
    beside={
        "shuffled_loss_ratio": "loss with another clip's actions, over that with the own",
        "delta_psnr_4": "ΔPSNR at step 4, dB",
        "readback": "share of the actions that can be read back",
        "readback_r2": "R² of the actions read back",
    },
)
