"""What is each module of the mind worth? From trained runs: goals, returns, each module against a trivial one.

    python bench/mind.py --folder runs/mind --goals runs/demo0/jepa runs/demo1/jepa runs/demo2/jepa --habit runs/habits
    python bench/mind.py --folder runs/mind --goals runs/pusht0/jepa --control goals=one_episode goal_offset=25
    python bench/mind.py --folder runs/mind --returns runs/cartpole --episodes 3
    python bench/mind.py --folder runs/mind --ablate runs/demo0/jepa --others runs/demo1/jepa runs/demo2/jepa

Runs with goals are those of `innerworld demo`, one folder a seed, with its search; with `--control` any others, and
the keys are those of `innerworld evaluate`. A habit of `runs/demo0/jepa` is in `HABITS/demo0/habit`, as
`bench/habit.py` makes it. Runs with returns learnt in their world. The search of the table of modules is an eighth of
the demo's, so that there is something to gain. CPU time is that of one thread; intervals are 95 % (Wilson's for
shares). Every row is a JSON file in the folder, written every ten goals or every episode: what is done is not done
again, and `--show` prints what there is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mind_cells import Cells
from mind_goals import goals
from mind_modules import CASES, modules
from mind_returns import returns

from innerworld.config import override
from innerworld.recipes.two_rooms import two_rooms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for what is measured")
    parser.add_argument("--goals", type=Path, nargs="+", default=[], metavar="RUN", help="runs in a world with goals")
    parser.add_argument("--control", nargs="+", metavar="KEY=VALUE", help="how goals are drawn and searched")
    parser.add_argument("--returns", type=Path, nargs="+", default=[], metavar="RUN", help="runs with a policy")
    parser.add_argument("--ablate", type=Path, metavar="RUN", help="a jepa of two_rooms")
    parser.add_argument("--others", type=Path, nargs="*", default=[], metavar="RUN", help="more of it, for an ensemble")
    parser.add_argument("--habit", type=Path, metavar="HABITS", help="folder of the habits that bench/habit.py made")
    parser.add_argument("--modules", nargs="+", default=list(CASES), choices=CASES, help="to be ablated")
    parser.add_argument("--tries", type=int, default=30, help="goals of each run and row")
    parser.add_argument("--alone", type=int, default=3, help="goals by which the time of an action is measured")
    parser.add_argument("--deadline-ms", type=float, default=5.0, help="deadline of an action, wall milliseconds")
    parser.add_argument("--rows", type=int, default=150, help="stretches that a readout of the place is fitted to")
    parser.add_argument("--episodes", type=int, default=3, help="episodes of each run and row with returns")
    parser.add_argument("--horizon", type=int, default=15, help="steps of a plan that maximises returns")
    parser.add_argument("--samples", type=int, default=32, help="of its search, in a round")
    parser.add_argument("--show", action="store_true", help="print what there is, measure nothing")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    cells = Cells(flags.folder, flags.show)
    if flags.goals:
        control = None if flags.control is None else override(two_rooms().control, flags.control)
        goals(cells, flags.goals, flags.habit, flags.tries, flags.alone, control)
    if flags.returns:
        returns(cells, flags.returns, flags)
    if flags.ablate is not None:
        modules(cells, flags.ablate, flags)


if __name__ == "__main__":
    main()
