"""The questions there are, in the order in which they are asked. To add one: write its file, add its line."""

from __future__ import annotations

from innerworld.evaluate.exam import Question
from innerworld.evaluate.questions.calibration import CALIBRATION
from innerworld.evaluate.questions.cause import CAUSE
from innerworld.evaluate.questions.collapse import COLLAPSE
from innerworld.evaluate.questions.consistency import CONSISTENCY
from innerworld.evaluate.questions.control import CONTROL
from innerworld.evaluate.questions.controllability import CONTROLLABILITY
from innerworld.evaluate.questions.cost import COST
from innerworld.evaluate.questions.prediction import PREDICTION
from innerworld.evaluate.questions.probing import PROBING
from innerworld.evaluate.questions.robustness import ROBUSTNESS
from innerworld.evaluate.questions.surprise import SURPRISE

ORDER = (
    PREDICTION,
    PROBING,
    COLLAPSE,
    CONTROLLABILITY,
    CAUSE,
    CONSISTENCY,
    CALIBRATION,
    ROBUSTNESS,
    SURPRISE,
    CONTROL,
    COST,
)
QUESTIONS: dict[str, Question] = {question.name: question for question in ORDER}
