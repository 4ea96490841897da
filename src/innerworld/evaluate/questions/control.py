"""Does it get there? Goals reached by searching in the model, beside the true dynamics and random actions."""

from __future__ import annotations

from innerworld.data import POLICIES
from innerworld.errors import UserError
from innerworld.evaluate.control import play, play_policy, summary
from innerworld.evaluate.exam import Answer, Exam, Question, skip


def ask(exam: Exam) -> Answer:
    """What `summary` tells of the model's own search; and `success_rate_oracle`, `success_rate_random` of the others.

    All play the same goals. The oracle searches as the model does, in the true dynamics: with its own distance, which
    may be as shortsighted as its horizon, so that it is a comparison and no ceiling.
    """
    try:
        worlds = exam.lab.goal_worlds(exam.config.goals)
        tasks = exam.lab.tasks(worlds)
    except UserError as error:  # of the data, whoever is asked
        return skip(str(error))

    def beside() -> dict[str, float]:
        """Those whose success does not depend on the model."""
        found = {}
        random = play_policy(worlds, tasks, POLICIES["uniform"](exam.store.spec), exam.config.budget, exam.seed)
        found["success_rate_random"] = float(random.success.mean())
        oracle = exam.lab.oracle(worlds)
        if oracle is not None:
            seen = play(worlds, tasks, exam.lab.agent(oracle), exam.config.budget, exam.seed)
            found["success_rate_oracle"] = float(seen.success.mean())
        return found

    played = play(worlds, tasks, exam.lab.agent(exam.model), exam.config.budget, exam.seed)
    return Answer(summary(played, tasks.far) | exam.lab.once("control", beside))


CONTROL = Question(
    name="control",
    asks="Does it get there?",
    headline="success_rate",
    higher=True,
    unit="share of the goals that were reached",
    ask=ask,
    bounds={"success_rate_random": "random actions", "success_rate_oracle": "true dynamics, same search (no ceiling)"},
    beside={"steps_mean": "steps until there, or the budget", "plan_ms": "ms for a plan, wall"},
)
