"""What does it know? How much of the true state can be read off what it believes, by one matrix."""

from __future__ import annotations

from innerworld.evaluate.exam import Along, Answer, Exam, Question, skip
from innerworld.evaluate.judge import beliefs, fit_probe
from innerworld.evaluate.probing import LABELS, label_curve


def ask(exam: Exam) -> Answer:
    """`probe_r2` on held-out episodes, that of each number of the state, and what random weights reach;
    `labels_r2_N` of probes with N labels."""
    if not exam.knows_state():
        return skip("the data holds no `state` to read off")
    metrics: dict[str, float] = {}
    for ending, model in (("", exam.model), ("_untaught", exam.lab.untaught())):
        probe = fit_probe(model, exam.store, exam.learn, exam.held_out, exam.frame_skip, exam.config.episodes)
        metrics[f"probe_r2{ending}"] = probe["r2"]
        metrics |= {f"probe_r2{ending}_state_{k}": r2 for k, r2 in enumerate(probe["r2_each"].tolist())}
    learn, test = (
        beliefs(exam.model, exam.store, some[: exam.config.episodes], exam.frame_skip)
        for some in (exam.learn, exam.held_out)
    )
    few = label_curve(*learn, *test, seed=exam.seed)
    points = tuple((float(n), few[f"r2_{n}"]) for n in LABELS if f"r2_{n}" in few)
    metrics |= {f"labels_{name}": value for name, value in few.items()}
    return Answer(metrics, curves={"What a probe of few labels reads": Along("labels", "R²", points)})


PROBING = Question(
    name="probing",
    asks="What does it know?",
    headline="probe_r2",
    higher=True,
    unit="R² of a linear probe of the true state, held-out episodes",
    ask=ask,
    floor=0.0,
    beside={"probe_r2_untaught": "random weights"},
)
