"""Ask questions of one run that learnt from a store: those of `innerworld compare`, without teaching anybody anew.

    python bench/ask.py runs/demo/jepa cause robustness
    python bench/ask.py runs/demo/rssm calibration cost --threads 1

Prints each number with its interval, or why a question does not apply, and how long it took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from innerworld import checkpoint
from innerworld.data import Store, spec_of_skip
from innerworld.envs import make
from innerworld.envs.unseen import unseen
from innerworld.evaluate.exam import Answer, Exam, Lab
from innerworld.evaluate.questions import QUESTIONS
from innerworld.recipes.goals import agent, draw_goals, goal_worlds, oracle, picture_size
from innerworld.recipes.lesson import episodes, read
from innerworld.recipes.surprise import untaught
from innerworld.recipes.two_rooms import Control
from innerworld.world import WorldModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("questions", nargs="+", choices=list(QUESTIONS))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    exam = sit(given.run)
    for name in given.questions:
        begun = time.process_time()
        answer = QUESTIONS[name].ask(exam)
        print(f"{name}: {answer.skipped or 'asked'} in {time.process_time() - begun:.1f} CPU s")
        for line in lines(answer):
            print(f"  {line}")


def sit(run: Path, control: Control = Control()) -> Exam:
    """The exam of the run's last checkpoint, on the episodes that it never learnt from."""
    lesson = read(run)
    store, model = Store.open(lesson.data), checkpoint.load(run, kind=WorldModel)
    learn, held_out = episodes(lesson, store)
    env, size, skip = store.meta.about.env or "", picture_size(store.spec), lesson.frame_skip
    lab = Lab(
        untaught=lambda: untaught(model),
        agent=lambda its: agent(its, control, skip),
        goal_worlds=lambda n: goal_worlds(store, n),
        tasks=lambda worlds: draw_goals(store, held_out, worlds, 0, control),
        oracle=lambda worlds: oracle(worlds, spec_of_skip(store.spec, skip), skip),
        worlds=lambda n: make(env, n, size),
        once=lambda name, find: find(),
        varied=unseen(env, size),
    )
    return Exam(model, store, learn, held_out, lesson.length, lab, skip)


def lines(answer: Answer) -> list[str]:
    found = answer.metrics
    return [
        f"{name:34} {value:12.4f}"
        + (f"  ({found[f'{name}_low']:.3f} to {found[f'{name}_high']:.3f})" if f"{name}_low" in found else "")
        for name, value in found.items()
        if not name.endswith(("_low", "_high"))
    ]


if __name__ == "__main__":
    main()
