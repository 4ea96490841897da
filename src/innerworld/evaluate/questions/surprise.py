"""Is it surprised by what cannot be? Pairs of films, of which one is impossible, drawn by the physics world."""

from __future__ import annotations

from innerworld.data.matched import PhysicsFilms
from innerworld.evaluate.exam import Answer, Exam, Question, skip
from innerworld.evaluate.surprise import SurpriseConfig, last_frame_score, pairwise, score_of

DIMENSIONS = {"physics_2d": 2, "physics_3d": 3}


def ask(exam: Exam) -> Answer:
    """Share of pairs in which the impossible film surprises more: of each principle, and of `all`.

    With `_random` of random weights and with `_last` of one who expects the last frame again. Only of models of the
    physics worlds, whose films these are.
    """
    dimensions = DIMENSIONS.get(exam.store.meta.about.env or "")
    if dimensions is None:
        return skip(f"films of {' and '.join(DIMENSIONS)} alone; the data is of {exam.store.meta.about.env or 'a log'}")
    sensor = next(iter(exam.model.spec.images()), None)
    if sensor is None:
        return skip("it sees no pictures")
    config, films = SurpriseConfig(), exam.config
    side = exam.model.spec.obs[sensor][0]
    matched = PhysicsFilms((films.pairs + 1) // 2, films.principles, exam.seed, side, 2 if dimensions == 2 else 3)
    scores = {
        "": score_of(exam.model, config, exam.frame_skip),
        "_random": score_of(exam.lab.untaught(), config, exam.frame_skip),
        "_last": last_frame_score(sensor, config),
    }
    found = pairwise(matched, scores, config)
    return Answer({f"{name}{ending}": value for ending, told in found.items() for name, value in told.items()})


SURPRISE = Question(
    name="surprise",
    asks="Is it surprised by what cannot be?",
    headline="all",
    higher=True,
    unit="share of pairs of films in which the impossible one surprises more",
    ask=ask,
    floor=0.5,
    beside={"all_random": "random weights", "all_last": "who expects the last frame again"},
)
