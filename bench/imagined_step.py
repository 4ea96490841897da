"""What does an imagined step cost, by substrate, after how many steps, and from how many starts?

Every substrate is a stack of two layers of one width. A memory of a clip as long as the horizon is given to each start,
and the last steps of that imagination are timed: in a state of fixed size they cost what the first did; attention has
by then cached the whole horizon and looks at all of it. Beside the time, what is held while imagining so far: what
each layer says of itself (`Layer.held`), in float32.

    python bench/imagined_step.py
    python bench/imagined_step.py --width 512 --horizons 16 256 --starts 1024 --gigabytes 8 --plot step.svg

Cells that would hold more than `--gigabytes` are left out. CPU milliseconds of one thread; tokens are given, in a world
model heads and policy come on top.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from innerworld.nn.backbone.attention import AttentionLayer
from innerworld.nn.backbone.layer import Layer, Memory, Stack
from innerworld.nn.backbone.mamba2 import Mamba2
from innerworld.nn.backbone.recurrent import GRULayer
from innerworld.nn.backbone.s4 import S4Layer
from innerworld.nn.backbone.s5 import S5Layer
from innerworld.types import each

Substrate = Callable[[int, int], Layer]
SUBSTRATES: dict[str, Substrate] = {  # width and horizon → one layer
    "gru": lambda width, horizon: GRULayer(width),
    "s4": lambda width, horizon: S4Layer(width, 64, "s4"),
    "s4d": lambda width, horizon: S4Layer(width, 64, "s4d"),
    "s5": lambda width, horizon: S5Layer(width, 256),
    "mamba2": lambda width, horizon: Mamba2(width, Mamba2.Config(), layers=2),
    "attention": lambda width, horizon: AttentionLayer(width, 4, 2 * width, window=horizon),
}
COLOURS = ("#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#000000", "#56b4e9")
Costs = dict[tuple[str, int, int], float]  # substrate, starts, horizon → CPU ms a step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--substrates", nargs="+", choices=SUBSTRATES, default=list(SUBSTRATES))
    parser.add_argument("--width", type=int, default=128, help="numbers of a token")
    parser.add_argument("--horizons", type=int, nargs="+", default=[16, 64, 256, 1024, 4096], help="steps")
    parser.add_argument("--starts", type=int, nargs="+", default=[16, 256, 1024])
    parser.add_argument(
        "--steps", type=int, default=4, help="timed, of which the fastest counts, after one that is not"
    )
    parser.add_argument("--gigabytes", type=float, default=1.2, help="that memories may take")
    parser.add_argument("--plot", type=Path, help="a picture of it, cost by horizon (needs matplotlib)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("CPU ms a step, and MB held\n")
    print("| substrate | parameters | starts |", " | ".join(f"step {horizon}" for horizon in args.horizons), "|")
    print("|---|--:|--:|" + "--:|" * len(args.horizons))
    costs: Costs = {}
    for name in args.substrates:
        cells: dict[tuple[int, int], str] = {}
        parameters = 0
        for horizon in args.horizons:
            stack = Stack([SUBSTRATES[name](args.width, horizon) for _ in range(2)]).eval()
            parameters = sum(p.numel() for p in stack.parameters())
            past = _past(stack, horizon, args.width)
            for starts in args.starts:
                megabytes = 4e-6 * stack.held(starts, 1, horizon, False)
                cells[starts, horizon] = f"– ({megabytes:,.0f} MB)"
                if megabytes < 1e3 * args.gigabytes:
                    cost = 1e3 * _seconds(stack, past, starts, args.width, args.steps)
                    costs[name, starts, horizon] = cost
                    cells[starts, horizon] = f"{cost:.2f} ({megabytes:,.1f} MB)"
        for starts in args.starts:
            row = " | ".join(cells[starts, horizon] for horizon in args.horizons)
            print(f"| {name} | {parameters:,} | {starts} | {row} |", flush=True)
    if args.plot:
        plot(costs, args.plot)


def plot(costs: Costs, file: Path) -> None:
    """Cost by horizon, a panel for each number of starts."""
    from matplotlib import pyplot

    panels = sorted({starts for _, starts, _ in costs})
    names = list(dict.fromkeys(name for name, _, _ in costs))
    size = (3.4 * len(panels) + 1, 3.4)
    figure, axes = pyplot.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False, sharey=True)
    for axis, starts in zip(axes[0], panels, strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            line = sorted((horizon, cost) for (who, n, horizon), cost in costs.items() if (who, n) == (name, starts))
            axis.plot(*zip(*line, strict=True), marker="o", color=colour, label=name)
        axis.set_xscale("log", base=2)
        axis.set(yscale="log", xlabel="steps imagined", title=f"{starts} starts")
    axes[0, 0].set(ylabel="CPU ms a step")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(file)


@torch.no_grad()
def _past(stack: Stack, horizon: int, width: int) -> Memory:
    """The memory after one clip as long as the horizon."""
    return each(lambda value: value[:, -1].clone(), stack.trace(torch.randn(1, horizon, width))[1])


@torch.no_grad()
def _seconds(stack: Stack, past: Memory, starts: int, width: int, steps: int) -> float:
    """CPU seconds of the fastest of some steps, every start with a memory of its own."""
    memory = each(lambda value: value[:, None].repeat(starts, *[1] * value.ndim), past)  # b k ..., k = 1
    roll = stack.roll(memory, steps + 1)
    x = torch.randn(starts, 1, width)
    roll(x)
    spent = []
    for _ in range(steps):
        begin = time.process_time()
        roll(x)
        spent.append(time.process_time() - begin)
    return min(spent)


if __name__ == "__main__":
    main()
