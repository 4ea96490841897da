"""What does it cost? Seconds, operations, parameters and memory of training, imagining and planning."""

from __future__ import annotations

import torch

from innerworld.errors import UserError
from innerworld.evaluate.exam import Answer, Exam, Question
from innerworld.evaluate.expense import decision, imagined_step, parameters, process_mb, training_step
from innerworld.evaluate.untouched import untouched
from innerworld.world import at

BATCH = 16  # clips of a training step, of the length that was taught with
CONTEXT = 3
FUTURES, HORIZON = 64, 8


def ask(exam: Exam) -> Answer:
    """`train_…` of a step on 16 clips, `imagine_…` of one step of one future, `imagine_one_…` of one future alone, and
    `plan_…` of what an agent does before it acts; `parameters`. Each in MFLOP, MB, and ms by the wall and of CPUs."""
    model = exam.model
    device = next(model.parameters()).device
    metrics = parameters(model)
    length = min(exam.length, exam.longest)
    metrics |= training_step(model, exam.clip(length, BATCH, model.reads(exam.store.spec))).metrics("train")
    with untouched(model):
        clip = exam.clip(min(CONTEXT, exam.longest), 1).to(device)
        belief = at(model.watch(clip), clip.length)
        for name, n in (("imagine", FUTURES), ("imagine_one", 1)):
            metrics |= imagined_step(model, belief, n, HORIZON).metrics(name)
    if model.spec.action:
        try:
            agent = exam.lab.agent(model)
        except UserError:  # no planner for such a world: then it has no plan, and nothing to pay for one
            return Answer(metrics | process_mb())
        obs, goal = ({name: clip.obs[name][:, t] for name in model.spec.obs} for t in (0, clip.length))
        with torch.no_grad():
            metrics |= decision(agent, obs, goal).metrics("plan")
    return Answer(metrics | process_mb())


COST = Question(
    name="cost",
    asks="What does it cost?",
    headline="imagine_mflops",
    higher=False,
    unit="10⁶ floating-point operations to imagine one step of one future",
    ask=ask,
)
