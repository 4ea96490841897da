"""Is everything still there when it turns around and comes back? Of those that draw."""

from __future__ import annotations

from innerworld.errors import UserError
from innerworld.evaluate.exam import Answer, Exam, Question, skip
from innerworld.evaluate.generation import TURNS, scene_of, turned
from innerworld.evaluate.questions.controllability import span
from innerworld.evaluate.untouched import untouched


def ask(exam: Exam) -> Answer:
    """`turn_error` and `return_error` of `evaluate/turning.py`, and `leave_and_return`, the larger of the two.

    One who never leaves returns without merit, so only both together tell.
    """
    sensor = next(iter(exam.model.spec.images()), None)
    if sensor is None or not exam.model.card.decodes:
        return skip("it draws no pictures")
    context, _ = span(exam)
    with untouched(exam.model):
        scene = scene_of(exam.model, exam.clip(context + 1, TURNS), sensor, context, exam.seed)
        try:
            metrics = turned(exam.model, exam.store, scene, exam.frame_skip, exam.seed)
        except UserError as error:
            return skip(str(error))
    return Answer(metrics | {"leave_and_return": max(metrics["turn_error"], metrics["return_error"])})


CONSISTENCY = Question(
    name="consistency",
    asks="Is everything still there when it comes back?",
    headline="leave_and_return",
    higher=False,
    unit="squared error at the turn or after the return, the larger, over how far the world went",
    ask=ask,
    floor=1.0,
    beside={"turn_error": "at the turn", "return_error": "after the return", "return_error_codec": "the codec's floor"},
)
