"""Are its features alive? How many directions of its belief are used, and how far successive moments lie apart."""

from __future__ import annotations

from innerworld.evaluate.collapse import CollapseWatch
from innerworld.evaluate.exam import Answer, Exam, Question


def ask(exam: Exam) -> Answer:
    """What the collapse watch measures on held-out clips; `rank_share` is the effective rank over the dimensions."""
    clip = exam.clip(min(exam.length, exam.longest))
    metrics = CollapseWatch(exam.model, clip)()
    dimensions = exam.model.impressions(clip.rows(slice(0, 1))).shape[-1]
    return Answer(metrics | {"dimensions": float(dimensions), "rank_share": metrics["effective_rank"] / dimensions})


COLLAPSE = Question(
    name="collapse",
    asks="Are its features alive?",
    headline="effective_rank",
    higher=True,
    unit="effective rank of its features: how many directions are used; 1 is collapsed",
    ask=ask,
    floor=1.0,
    beside={"rank_share": "rank over dimensions", "dead_dimensions": "dimensions that do not move"},
)
