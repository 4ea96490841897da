"""What does it cost? Seconds, operations, and memory of a training step, of an imagined step, and of a plan.

Operations are counted while one runs, so they are the same on every machine; seconds are this machine's, and depend on
what else it does. Before anything is built or learnt, `innerworld cost` tells a training step's cost by formula.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.optim import AdamW

from innerworld.agent import Agent
from innerworld.evaluate.counting import Alive, flop_counter
from innerworld.evaluate.untouched import same_random
from innerworld.learns import Learns
from innerworld.types import Clip, Obs, State, each, random_actions
from innerworld.world import WorldModel

LEAST_S, MOST = 0.3, 20  # a clock runs so long at least, or so many times
RATE = 1e-5  # of the copy that is taught a few steps: its numbers must stay finite


@dataclass(frozen=True)
class Expense:
    """Of one time that something is done."""

    flops: float  # of matrix products, convolutions and attention; a multiplication and an addition are two
    bytes: float  # alive at once, at most, of what was made meanwhile
    wall_s: float
    cpu_s: float  # of all threads

    def share(self, n: int) -> Expense:
        """Of each of n that were done together; what was alive is not divided."""
        return Expense(self.flops / n, self.bytes, self.wall_s / n, self.cpu_s / n)

    def metrics(self, name: str) -> dict[str, float]:
        """`NAME_mflops`, `NAME_mb`, `NAME_wall_ms` and `NAME_cpu_ms`."""
        return {
            f"{name}_mflops": self.flops / 1e6,
            f"{name}_mb": self.bytes / 1e6,
            f"{name}_wall_ms": self.wall_s * 1e3,
            f"{name}_cpu_ms": self.cpu_s * 1e3,
        }


def measure(do: Callable[[], object], device: torch.device) -> Expense:
    """Do it once to count, which also warms up, then again and again by the clock."""
    with Alive() as alive, flop_counter() as counter:
        do()
    _wait(device)
    wall, cpu, times = time.perf_counter(), time.process_time(), 0
    while times == 0 or (times < MOST and time.perf_counter() - wall < LEAST_S):
        do()
        times += 1
    _wait(device)
    wall_s, cpu_s = (now - then for now, then in ((time.perf_counter(), wall), (time.process_time(), cpu)))
    return Expense(counter.get_total_flops(), alive.peak, wall_s / times, cpu_s / times)


def parameters(model: nn.Module) -> dict[str, float]:
    """`parameters` that are taught, `parameters_still` that are not, and the `model_mb` of both and of buffers."""
    sizes = [(one.numel(), one.requires_grad) for one in model.parameters()]
    held = sum(one.nbytes for one in (*model.parameters(), *model.buffers()))
    return {
        "parameters": float(sum(n for n, taught in sizes if taught)),
        "parameters_still": float(sum(n for n, taught in sizes if not taught)),
        "model_mb": held / 1e6,
    }


def process_mb() -> dict[str, float]:
    """`process_mb_peak`: memory of this process at its largest so far, whatever it was used for; not on Windows."""
    if sys.platform == "win32":
        return {}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"process_mb_peak": peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)}


def training_step(model: Learns, clip: Clip) -> Expense:
    """Loss, gradients and a step of AdamW on this batch, with a copy: the model stays as it is.

    Memory is that of all: parameters, their gradients and AdamW's averages, and what is alive meanwhile.
    """
    device = next(model.parameters()).device
    clip = clip.to(device)
    with same_random(device):
        taught = deepcopy(model).train()
        optimiser = AdamW([one for one in taught.parameters() if one.requires_grad], lr=RATE)

        def step() -> None:
            optimiser.zero_grad()
            taught.loss(clip)[0].backward()
            optimiser.step()
            taught.after_step()

        step()  # AdamW makes its averages at the first
        found = measure(step, device)
    averages = sum(
        value.nbytes for state in optimiser.state.values() for value in state.values() if isinstance(value, Tensor)
    )
    kept = sum(one.nbytes for one in (*taught.parameters(), *taught.buffers())) + averages
    return Expense(found.flops, found.bytes + kept, found.wall_s, found.cpu_s)


@torch.no_grad()
def imagined_step(model: WorldModel, state: State, n: int = 64, horizon: int = 8, seed: int = 0) -> Expense:
    """Of one step of one of n futures that a belief, each `1 ...`, is followed into, as planners ask for them."""
    model.eval()
    state = each(Tensor.detach, state)  # torch's counter follows gradients where there are none to follow
    device = next(iter(state.values())).device
    actions = random_actions(model.spec, (1, n, horizon), Generator().manual_seed(seed)).to(device)
    return measure(lambda: model.imagine(state, actions), device).share(n * horizon)


def decision(agent: Agent, obs: Obs, goal: Obs) -> Expense:
    """Of a plan: of seeing where one is and shall be, each `1 ...`, and searching, without a warm start."""

    def decide() -> None:
        agent.begin(obs, goal)
        agent.act(obs)

    return measure(decide, next(iter(obs.values())).device)


def _wait(device: torch.device) -> None:
    """Until an accelerator has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
