"""What is left of it where something is as it never was in training? Pictures changed, and worlds of another kind."""

from __future__ import annotations

from functools import partial

from innerworld.evaluate.enacted import enact
from innerworld.evaluate.exam import Answer, Exam, Question, skip
from innerworld.evaluate.judge import fit_probe
from innerworld.evaluate.robustness import CONTEXT, PICTURES, changed, hue, robustness
from innerworld.types import Clip

HORIZONS = (1, 2, 4, 8)
CLIPS = 64


def ask(exam: Exam) -> Answer:
    """What `robustness` tells of changed pictures and of worlds with one factor changed, and the means over both."""
    images = exam.model.spec.images()
    if not images:
        return skip("it sees no pictures, and these factors are seen")
    context = min(CONTEXT, exam.longest - 1)
    horizons = [h for h in HORIZONS if context + h <= exam.longest]
    if not horizons:
        return skip("the held-out episodes are too short to imagine anything of them")
    probe = None
    if exam.knows_state():
        probe = fit_probe(exam.model, exam.store, exam.learn, exam.held_out, exam.frame_skip, exam.config.episodes)
    clip = exam.clip(context + max(horizons), min(CLIPS, exam.config.clips))
    colours = any(exam.model.spec.obs[name][2] >= 3 for name in images)
    pairs = {
        name: (clip, changed(clip, images, change, exam.seed))
        for name, change in PICTURES.items()
        if colours or change is not hue
    }
    pairs |= _worlds(exam, clip)
    metrics = robustness(exam.model, pairs, probe, horizons, context, exam.seed)
    kind = "state" if probe else "energy"
    metrics |= {name: metrics[f"{kind}_{short}"] for name, short in (("varied_ratio", "ratio"), ("worse", "worse"))}
    metrics["factors"] = float(len(pairs))
    shown = {name: varied.obs[images[0]][0, ..., :3].numpy() for name, (_, varied) in pairs.items()}
    return Answer(metrics, films={"Factors that training never showed": list(shown.items())})


def _worlds(exam: Exam, clip: Clip) -> dict[str, tuple[Clip, Clip]]:
    """The clips' actions in the plain world and in each varied one, both begun by one seed."""
    if not exam.lab.varied:
        return {}
    found: dict[str, tuple[Clip, Clip]] = {}
    act = partial(enact, actions=clip.action, spec=exam.store.spec, frame_skip=exam.frame_skip, seed=exam.seed)
    n = len(clip.action)
    plain, lasted = act(exam.lab.worlds(n))
    for name, make in exam.lab.varied.items():
        varied, too = act(make(n))
        both = lasted & too
        if bool(both.all()):
            found[name] = (plain, varied)
        elif int(both.sum()) >= 2:
            found[name] = (plain.rows(both), varied.rows(both))
    return found


ROBUSTNESS = Question(
    name="robustness",
    asks="What is left where something is as it never was in training?",
    headline="varied_ratio",
    higher=False,
    unit="error of what is imagined over that of standing still, under an unseen factor; mean over factors",
    ask=ask,
    floor=1.0,
    beside={"worse": "that error under the factor, over the same without it; 1: it does not matter"},
)
